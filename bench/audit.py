"""The supply chain: every package that daelab needs, its licence, what is known against it, and a bill of materials.

    python bench/audit.py                   checks and prints; exit code 1 where something is not in order
    python bench/audit.py --sbom sbom.json  also writes the bill, as CycloneDX 1.5

Only what is installed is looked at: `pip install 'daelab[audit]'` and the extras that are used. Known flaws come from
pip-audit. Where its service cannot be reached that is said, and versions are held against the short list here.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

from common import table

ALLOWED = frozenset(
    [
        "0BSD",
        "Apache-2.0",
        "Apache-2.0-WITH-LLVM-exception",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "CNRI-Python",
        "ISC",
        "MIT",
        "MIT-0",
        "MIT-CMU",
        "MPL-2.0",
        "PSF-2.0",
        "Unlicense",
        "Zlib",
    ]
)
"""SPDX names. Permissive, or (MPL) with duties for changed files of the package itself only."""
EXCEPTIONS = dict.fromkeys(("psycopg", "psycopg-binary"), "LGPL-3.0-only")
"""Of the extra `postgres` alone: imported as it is, exchangeable, never part of what daelab ships."""
READ = {
    # packages whose metadata has a whole licence, or a name of no list, where an SPDX name belongs; read by us
    "contourpy": "BSD-3-Clause",
    "cycler": "BSD-3-Clause",
    "docutils": "BSD-2-Clause",  # and public domain; the one part under the GPL, for Emacs, is not installed
    "gitdb": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "matplotlib": "PSF-2.0",
    "mpmath": "BSD-3-Clause",
    "protobuf": "BSD-3-Clause",
    "pyasn1-modules": "BSD-2-Clause",
    "scikit-image": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sqlparse": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
_WORDS = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "ISC License": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
FLOORS = {
    "h11": ("0.16", "CVE-2025-43859"),
    "jinja2": ("3.1.6", "CVE-2025-27516"),
    "pillow": ("11.3", "CVE-2025-48379"),
    "python-multipart": ("0.0.18", "CVE-2024-53981"),
    "requests": ("2.32.4", "CVE-2024-47081"),
    "starlette": ("0.49.1", "CVE-2025-62727"),
    "torch": ("2.6", "CVE-2025-32434: weights_only=True runs code"),
    "tqdm": ("4.66.3", "CVE-2024-34062"),
    "urllib3": ("2.5", "CVE-2025-50181"),
}
"""Package -> the first version without a flaw that its files from strangers or from the network would reach."""


@dataclass(frozen=True)
class Package:
    """An installed package that daelab needs."""

    name: str
    version: str
    licence: str
    """An SPDX expression; "" where its metadata does not say."""
    wanted_by: str
    """The first extra of daelab's that needs it; "core"."""
    needs: tuple[str, ...]

    @property
    def allowed(self) -> bool:
        """Whether its licence is one that the list has, or an exception."""
        return self.licence == EXCEPTIONS.get(self.name, " ") or permitted(self.licence)


def main() -> None:
    """Look, print, write."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--sbom", type=Path, metavar="FILE.json", help="write the bill of materials here")
    options.add_argument("--offline", action="store_true", help="ask nobody about vulnerabilities")
    options.add_argument("--json", action="store_true")
    args = options.parse_args()
    packages, missing = installed()
    if args.sbom:
        args.sbom.write_text(json.dumps(bill(packages), indent=2) + "\n", encoding="utf-8")
    asked = None if args.offline else vulnerabilities({package.name for package in packages})
    known = below_floors(packages) if asked is None else asked
    forbidden = [package.name for package in packages if not package.allowed]
    found = {
        "packages": len(packages),
        "not_installed": missing,
        "forbidden_licences": forbidden,
        "vulnerabilities": known,
        "vulnerabilities_from": "its own short list; pip-audit's service was not reached"
        if asked is None
        else "pip-audit",
    }
    if args.json:
        print(json.dumps(found))
    else:
        rows = [[p.name, p.version, p.licence or "?", "yes" if p.allowed else "NO", p.wanted_by] for p in packages]
        print(table([["package", "version", "licence", "allowed", "needed by"], *rows]))
        print("\n".join(f"{key:<22}{value}" for key, value in found.items()))
    raise SystemExit(1 if forbidden or known else 0)


def installed() -> tuple[list[Package], list[str]]:
    """Every installed package that daelab and its extras need, and the names of those that are not installed."""
    extras = ["", *sorted(metadata.metadata("daelab").get_all("Provides-Extra") or [])]
    wanted_by: dict[str, str] = {}
    missing: set[str] = set()
    queue = [("daelab", frozenset([extra]), extra or "core") for extra in extras]
    seen = set(queue)
    while queue:
        name, chosen, whose = queue.pop(0)
        try:
            needed = list(_requirements(name, chosen))
        except metadata.PackageNotFoundError:
            missing.add(name)
            continue
        if name != "daelab":
            wanted_by.setdefault(name, whose)
        for one in needed:
            entry = (_plain(one.name), frozenset(one.extras), whose)
            if entry[0] != "daelab" and entry not in seen:
                seen.add(entry)
                queue.append(entry)
    return [_package(name, whose) for name, whose in sorted(wanted_by.items())], sorted(missing)


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in metadata.requires(name) or []:
        one = Requirement(text)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield one


def _package(name: str, whose: str) -> Package:
    found = metadata.distribution(name)
    needs = sorted({_plain(one.name) for one in _requirements(name, frozenset())})
    return Package(name, found.version, licence(name, found.metadata), whose, tuple(needs))


def licence(name: str, said: Any) -> str:
    """The SPDX expression of a package's metadata: its own, or what its words and classifiers mean."""
    if said.get("License-Expression"):
        return str(said["License-Expression"])
    if name in READ:
        return READ[name]
    classifiers = [
        line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or [] if line.startswith("License")
    ]
    for words in (said.get("License") or "", *classifiers):
        if words in _WORDS or permitted(words):
            return _WORDS.get(words, words)
    return ""


def permitted(expression: str) -> bool:
    """Whether every part of an SPDX expression that must be kept is allowed; of alternatives one.

    >>> permitted("MIT AND (GPL-3.0-only OR BSD-3-Clause)"), permitted("MIT AND GPL-3.0-only"), permitted("")
    (True, False, False)
    """
    text = expression.replace(" WITH ", "-WITH-")
    names = re.findall(r"[\w.+-]+|[()]", text)
    words = {"AND": "and", "OR": "or", "(": "(", ")": ")"}
    # what is left to Python are truths, brackets and two words
    logic = " ".join(words.get(name, str(name in ALLOWED)) for name in names)
    return _truth(logic.split()) if names else False


def _truth(tokens: list[str]) -> bool:
    """The value of True, False, and, or and brackets; `and` binds tighter."""

    def either() -> bool:
        value = both()
        while tokens and tokens[0] == "or":
            tokens.pop(0)
            value = both() or value
        return value

    def both() -> bool:
        value = one()
        while tokens and tokens[0] == "and":
            tokens.pop(0)
            value = one() and value
        return value

    def one() -> bool:
        token = tokens.pop(0) if tokens else "False"
        if token != "(":
            return token == "True"
        value = either()
        return value if tokens and tokens.pop(0) == ")" else False

    return either() and not tokens


def vulnerabilities(names: set[str]) -> list[str] | None:
    """What pip-audit knows against the installed packages; None where it could not ask."""
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        audited = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    ours = [one for one in audited if _plain(one["name"]) in names]
    # where its service cannot be reached it skips every package, and calls that a success
    if not any("vulns" in one for one in ours):
        return None
    return [f"{one['name']} {one['version']}: {flaw['id']}" for one in ours for flaw in one.get("vulns", [])]


def below_floors(packages: list[Package]) -> list[str]:
    """Packages older than the first version without a flaw of the short list."""
    return [
        f"{one.name} {one.version}: {FLOORS[one.name][1]}"
        for one in packages
        if one.name in FLOORS and Version(one.version) < Version(FLOORS[one.name][0])
    ]


def bill(packages: list[Package]) -> dict[str, Any]:
    """The bill of materials; the same packages give the same bill."""
    names = {package.name for package in packages}
    version = metadata.version("daelab")
    root = f"pkg:pypi/daelab@{version}"
    purls = {package.name: f"pkg:pypi/{package.name}@{package.version}" for package in packages}
    direct = sorted({_plain(Requirement(text).name) for text in metadata.requires("daelab") or []} & names)
    depends = [{"ref": root, "dependsOn": [purls[name] for name in direct]}]
    depends += [
        {"ref": purls[one.name], "dependsOn": [purls[name] for name in one.needs if name in names]} for one in packages
    ]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, ' '.join([root, *purls.values()]))}",
        "version": 1,
        "metadata": {
            "component": {
                "type": "library",
                "bom-ref": root,
                "name": "daelab",
                "version": version,
                "purl": root,
                "licenses": [{"expression": "Apache-2.0"}],
            }
        },
        "components": [
            {
                "type": "library",
                "bom-ref": purls[one.name],
                "name": one.name,
                "version": one.version,
                "purl": purls[one.name],
                **({"licenses": [{"expression": one.licence}]} if one.licence else {}),
            }
            for one in packages
        ],
        "dependencies": depends,
    }


def _plain(name: str) -> str:
    """As package indexes compare names."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
