"""Check the licence of every package that daelab needs, and ask pip-audit for known vulnerabilities.

    python tools/audit.py            print a table; the exit code is 1 if something is wrong
    python tools/audit.py --offline  check the licences only

Only installed packages are checked: run `pip install 'daelab[audit]'` with the extras that you use.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

ALLOWED = frozenset(
    [
        *("0BSD", "Apache-2.0", "Apache-2.0-WITH-LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0"),
        *("CC0-1.0", "CNRI-Python", "ISC", "MIT", "MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib"),
    ]
)
"""SPDX names of permissive licences, and of MPL, whose duties concern changed files of the package itself only."""
EXCEPTIONS = dict.fromkeys(("psycopg", "psycopg-binary"), "LGPL-3.0-only")
"""Packages of the extra `postgres` only, which daelab imports unchanged and does not ship."""
READ_BY_HAND = {
    "contourpy": "BSD-3-Clause",
    "cycler": "BSD-3-Clause",
    "docutils": "BSD-2-Clause",
    "gitdb": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "kiwisolver": "BSD-3-Clause",
    "matplotlib": "PSF-2.0",
    "mpmath": "BSD-3-Clause",
    "openexr": "BSD-3-Clause",
    "protobuf": "BSD-3-Clause",
    "pyasn1-modules": "BSD-2-Clause",
    "pyerfa": "BSD-3-Clause",
    "scikit-image": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "sqlparse": "BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
"""Licences of packages whose metadata holds a licence's text, or a name that is not an SPDX name."""
SPDX_NAMES = {
    "MIT License": "MIT",
    "Apache Software License": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache 2.0 License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "ISC License": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""The SPDX names of licences that classifiers and old metadata write in words."""


def main() -> None:
    """Check the licences and the vulnerabilities."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--offline", action="store_true", help="check the licences only")
    options.add_argument("--json", action="store_true", help="print one JSON document")
    args = options.parse_args()
    packages = list_needed_packages()
    licences = {name: read_licence(name) for name in packages}
    forbidden = [name for name, licence in licences.items() if not is_allowed(name, licence)]
    vulnerabilities = None if args.offline else find_vulnerabilities(set(packages))
    report = {"packages": len(packages), "forbidden_licences": forbidden, "vulnerabilities": vulnerabilities}
    if args.json:
        print(json.dumps(report))
    else:
        print("\n".join(f"{name:<36}{licence or 'unknown'}" for name, licence in licences.items()))
        print("\n".join(f"{key:<20}{value}" for key, value in report.items()))
    if vulnerabilities is None and not args.offline:
        print("pip-audit could not reach its service, so vulnerabilities were not checked", file=sys.stderr)
    raise SystemExit(bool(forbidden or vulnerabilities or (vulnerabilities is None and not args.offline)))


def list_needed_packages() -> list[str]:
    """Return the names of the installed packages that daelab and its extras need, sorted."""
    extras = frozenset(metadata.metadata("daelab").get_all("Provides-Extra") or [])
    queue, done = [("daelab", extras)], set()
    while queue:
        package = queue.pop()
        if package in done:
            continue
        try:
            requirements = [Requirement(text) for text in metadata.requires(package[0]) or []]
        except metadata.PackageNotFoundError:  # an extra that is not installed, or another platform's package
            continue
        done.add(package)
        queue += [
            (normalize_name(needed.name), frozenset(needed.extras))
            for needed in requirements
            if not needed.marker or any(needed.marker.evaluate({"extra": extra}) for extra in package[1] | {""})
        ]
    return sorted({name for name, _ in done} - {"daelab"})


def read_licence(name: str) -> str:
    """Return the SPDX expression of an installed package, or "" if its metadata does not say.

    Args:
        name: its normalized name.
    """
    fields = metadata.metadata(name)
    if fields.get("License-Expression"):
        return str(fields["License-Expression"])
    classifiers = [line.rpartition(" :: ")[2] for line in fields.get_all("Classifier") or [] if "License" in line]
    named = [SPDX_NAMES.get(words, words) for words in (fields.get("License") or "", *classifiers)]
    return READ_BY_HAND.get(name) or next((words for words in named if is_allowed(name, words)), "")


def is_allowed(name: str, expression: str) -> bool:
    """Return whether a licence is on the list.

    An expression that mixes AND and OR is allowed if every part between two ANDs has an allowed alternative. That is
    never too lenient, since it binds OR as tightly as brackets could.

    Args:
        name: the package, which may be an exception.
        expression: its SPDX expression.
    """
    if expression == EXCEPTIONS.get(name):
        return True
    parts = re.sub("[()]", "", expression.replace(" WITH ", "-WITH-")).split(" AND ")
    return all(any(word.strip() in ALLOWED for word in part.split(" OR ")) for part in parts)


def find_vulnerabilities(names: set[str]) -> list[str] | None:
    """Return what pip-audit knows against installed packages, or None if it could not reach its service.

    Args:
        names: the packages to report on.
    """
    command = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        audited: list[dict[str, Any]] = json.loads(result.stdout)["dependencies"]
    except (ValueError, KeyError):
        return None
    ours = [package for package in audited if normalize_name(package["name"]) in names]
    # without its service pip-audit skips every package and reports success
    if not any("vulns" in package for package in ours):
        return None
    return [f"{one['name']} {one['version']}: {flaw['id']}" for one in ours for flaw in one.get("vulns", [])]


def normalize_name(name: str) -> str:
    """Return a package's name as package indexes compare it.

    Args:
        name: the name in any spelling.
    """
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
