"""Every command and code block of the handbook and the README is run, or checked where a mark says why not to run it.

A block is marked by a comment just before it, `<!-- test: RULE; RULE -->`, of these rules:

    NAME: with OPTIONS             run `daelab NAME` with these options in place of, or beside, its own
    NAME: only parsed, REASON      parse its words as the command line does, and run nothing
    in MODULE                      a Python block is a part of this module
    only read, REASON              a Python block's imports and the names that it uses of them are looked up
    a job                          a shell script of a cluster: what it starts of daelab is parsed
    a space                        a TOML block is a space of recipes, not a recipe
    NAME WORD: as it is            an exception to the rule before: lines with this word are run as they stand

Commands of other programs are never run. They are checked: the extras of `pip install`, the targets of `make`, the
script and options of `python tools/...`, the paths of `curl`, and the command inside `docker run`.
"""

from __future__ import annotations

import ast
import importlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer.main
import yaml
from markdown_it import MarkdownIt
from PIL import Image

import daelab
from daelab.cli import app, main
from daelab.experiments.search.search_space import load_search_space
from daelab.image_io import bundled_photos
from daelab.image_io.bundled_photos import Photo
from daelab.training.recipe import load_recipe
from daelab.web.app import create_app

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md"), *DOCS.glob("decisions/0*.md")])
NAV = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
PROGRAMS = ("cat", "curl", "daelab", "docker", "export", "make", "pip", "python", "tensorboard", "torchrun")


@dataclass(frozen=True)
class Block:
    """A fenced or indented block of a page."""

    line: int
    kind: str
    """The word after the fence; `bash` for indented commands."""
    text: str
    title: str = ""
    """The file that it is."""
    rules: dict[str, str] = field(default_factory=dict)
    """What the mark before it says: name -> rule."""


def blocks(path: Path) -> Iterator[Block]:
    """Return all blocks of a page, each with the mark directly before it."""
    mark = ""
    for token in MarkdownIt("commonmark").parse(path.read_text(encoding="utf-8")):
        if token.type == "html_block":
            found = re.fullmatch(r"<!-- test:(.*)-->", token.content.strip(), re.DOTALL)
            mark = found[1] if found else ""
        elif token.type in {"fence", "code_block"}:
            assert token.map is not None
            kind, _, rest = token.info.partition(" ")
            title = re.search(r'title="([^"]+)"', rest)
            if token.type == "code_block" and token.content.split()[0] in PROGRAMS:
                kind = "bash"
            yield Block(token.map[0] + 1, kind, token.content, title[1] if title else "", _rules(mark))
            mark = ""
        elif token.type not in {"paragraph_close", "heading_close"}:
            assert not mark, f"{path.name}: a mark before no block: {mark}"


def _rules(mark: str) -> dict[str, str]:
    found = {}
    for rule in filter(None, (part.strip() for part in mark.split(";"))):
        name, _, what = (" ".join(part.split()) for part in rule.partition(": "))
        found[name] = what
    return found


def lines(text: str) -> list[str]:
    """Return the commands of a shell block, with continued lines joined."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]


def words(line: str) -> list[str]:
    """Return the words and operators of a line, without its comment."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    return list(lexer)


def with_options(given: list[str], extra: list[str]) -> list[str]:
    """Return a command's words with other options, which replace those that may be given only once."""
    given = list(given)
    for place, word in enumerate(extra):
        if word.startswith("--") and word != "--set" and word in given:
            at = given.index(word)
            takes = place + 1 < len(extra) and not extra[place + 1].startswith("--")
            del given[at : at + (2 if takes else 1)]
    return [*given, *extra]


class Shell:
    """A shell that runs the lines of a page in the current folder, within this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, parsed: Callable[..., None]) -> None:
        self.patch = monkeypatch
        self.parsed = parsed

    def line(self, line: str, rules: dict[str, str]) -> None:
        """Run one line, which may be a pipeline with redirections."""
        parts = words(line)
        if "&&" in parts:
            at = parts.index("&&")
            self.line(shlex.join(parts[:at]), rules)
            self.line(shlex.join(parts[at + 1 :]), rules)
            return
        assert not {";", "&", "||", ">>", "2>"} & set(parts), f"{line}: one command a line"
        data, target = b"", None
        for operator in ("<", ">"):
            if operator in parts:
                at = parts.index(operator)
                place = Path(parts[at + 1])
                data, target = (place.read_bytes(), target) if operator == "<" else (data, place)
                del parts[at : at + 2]
        for command in " ".join("\0" if part == "|" else shlex.quote(part) for part in parts).split("\0"):
            data = self.command(shlex.split(command), data, rules)
        if target is not None:
            target.write_bytes(data)

    def command(self, given: list[str], data: bytes, rules: dict[str, str]) -> bytes:
        """Run or check one command."""
        program, rest = given[0], given[1:]
        assert program in PROGRAMS, f"{shlex.join(given)}: {program} is not looked at; add how"
        if program == "daelab":
            return self.daelab(rest, data, rules)
        if program == "export":
            name, _, value = rest[0].partition("=")
            self.patch.setenv(name, value)
            return b""
        if program == "cat":
            return b"".join(Path(name).read_bytes() for name in rest)
        CHECKS[program](rest, self)
        return b""

    def daelab(self, given: list[str], data: bytes, rules: dict[str, str]) -> bytes:
        """Run a command of daelab by its rule; the last rule that names the command and an option of it counts."""
        rule = ""
        for name, what in rules.items():
            first, *options = name.split()
            if given[0] == first and set(options) <= set(given):
                rule = what
        if rule.startswith("only parsed, "):
            self.parsed(*given)
            return b""
        if rule.startswith("with "):
            self.parsed(*given)
            given = with_options(given, shlex.split(rule.removeprefix("with ")))
        else:
            assert rule in {"", "as it is"}, f"no such rule: {rule}"
        return self.run(given, data)

    def run(self, given: list[str], data: bytes) -> bytes:
        """Return what `daelab` writes to standard output."""
        streams = {name: io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for name in ("stdout", "stderr")}
        with self.patch.context() as patch:
            patch.setattr(sys, "argv", ["daelab", *given])
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            with pytest.raises(SystemExit) as ended:
                main()
        out, err = (stream.buffer.getvalue() for stream in streams.values())
        assert not ended.value.code, f"daelab {shlex.join(given)}\n{err.decode()}"
        return out


def check_pip(given: list[str], _: Shell) -> None:
    """Check that `pip install` names existing extras of daelab, or a package."""
    assert given[0] == "install", given
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for name in given[1:]:
        found = re.search(r"\[([\w,]+)\]", name)
        assert not found or set(found[1].split(",")) <= set(extras), name


def check_make(given: list[str], _: Shell) -> None:
    """Check that the Makefile has the targets and the variables."""
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in given:
        name = word.partition("=")[0]
        wanted = rf"\$\({name}\)" if "=" in word else rf"^{name}:"
        assert re.search(wanted, text, re.MULTILINE), f"make {word}"


def check_python(given: list[str], shell: Shell) -> None:
    """Check that a script exists and has the options, or that a module is of the standard library or daelab's."""
    if given[0] == "-m":
        if given[1] == "daelab":
            shell.parsed(*given[2:])
        assert importlib.util.find_spec(given[1]), given
        return
    script = ROOT / given[0]
    text = script.read_text(encoding="utf-8")
    for name in re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE):
        text += "".join(path.read_text(encoding="utf-8") for path in script.parent.glob(f"{name}.py"))
    for word in given[1:]:
        assert not word.startswith("--") or f'"{word.partition("=")[0]}"' in text, f"{given[0]} has no {word}"


def check_curl(given: list[str], _: Shell) -> None:
    """Check that the API has the path with the method."""
    (address,) = [word for word in given if word.startswith("http")]
    path = re.sub(r"^http://[^/]+|\?.*", "", address)
    application: Any = create_app().app
    described = application.openapi()["paths"]
    assert ("post" if "--data-binary" in given else "get") in described[path], address


def check_docker(given: list[str], shell: Shell) -> None:
    """Check `docker build` of this folder, and that `docker run` runs an existing command."""
    if given[0] == "build":
        assert given[-1] == "."
        assert (ROOT / "Dockerfile").is_file()
        return
    assert given[0] == "run", given
    shell.parsed(*given[given.index("daelab") + 1 :])


def check_torchrun(given: list[str], shell: Shell) -> None:
    """Check that torchrun starts daelab's module, and that an existing command follows."""
    at = given.index("-m")
    assert given[at + 1] == "daelab", given
    shell.parsed(*given[at + 2 :])


def check_tensorboard(given: list[str], _: Shell) -> None:
    """Check that the extra `track` installs it."""
    assert given[0] == "--logdir", given


def jobs(value: Any) -> Iterator[list[str]]:
    """Yield every list of words in a document that names daelab."""
    if isinstance(value, list) and "daelab" in value:
        yield value
    elif isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from jobs(each)


CHECKS = {
    "torchrun": check_torchrun,
    "tensorboard": check_tensorboard,
    "pip": check_pip,
    "make": check_make,
    "python": check_python,
    "curl": check_curl,
    "docker": check_docker,
}


@pytest.fixture(scope="module")
def small_photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Photo, ...]:
    """Return parts of the bundled photographs, which the commands treat in a tenth of the time."""
    folder = tmp_path_factory.mktemp("photos")

    class SmallPhoto(Photo):
        def path(self) -> Path:
            return folder / Path(self.file).name

    small = tuple(SmallPhoto(photo.name, photo.package, photo.file) for photo in bundled_photos.PHOTOS)
    for photo, part in zip(bundled_photos.PHOTOS, small, strict=True):
        with Image.open(photo.path()) as picture:
            picture.crop((100, 80, 260, 200)).save(part.path())
    return small


@pytest.fixture
def shell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, parsed: Callable[..., None], small_photos: tuple[Photo, ...]
) -> Shell:
    """Return a shell in an empty folder."""
    monkeypatch.setattr(bundled_photos, "PHOTOS", small_photos)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DAELAB_RUNS")
    return Shell(monkeypatch, parsed)


def supposed() -> None:
    """Write the files that the README expects: a clean picture, noisy ones, and a folder of them."""
    rng = np.random.default_rng(0)
    at = np.linspace(0, 9, 48)
    clean = 120 + 60 * (np.sin(at)[:, None, None] * np.cos(at)[None, :, None]) + np.zeros(3)
    noisy = clean + rng.normal(20, 15, clean.shape)
    noisy_files = ("noisy.png", "noisy.tif", "noisy_clean.png", "holiday/a.png")
    for name, pixels in {"clean.png": clean, **dict.fromkeys(noisy_files, noisy)}.items():
        Path(name).parent.mkdir(exist_ok=True)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(name)


def shell_block(block: Block, place: str, shell: Shell, _: dict[str, Any]) -> None:
    """Run a shell block line by line; of a cluster's job, check what it starts."""
    if "a job" not in block.rules:
        for line in lines(block.text):
            shell.line(line, block.rules)
        return
    started = [line for line in lines(block.text) if "torchrun" in line and "daelab" in line]
    assert started, place
    for line in started:
        check_torchrun(words(line), shell)


def yaml_block(block: Block, place: str, shell: Shell, _: dict[str, Any]) -> None:
    """Check the command that a cluster's job starts."""
    started = list(jobs(list(yaml.safe_load_all(block.text))))
    assert started, place
    for given in started:
        check_torchrun(given, shell)


def python_block(block: Block, place: str, _: Shell, names: dict[str, Any]) -> None:
    """Run a Python block with the names of the page or of a module, or write it as the file that it shows."""
    if any(name.startswith("only read, ") for name in block.rules):
        read(block.text, place)
        return
    module = next((name.split()[1] for name in block.rules if name.startswith("in ")), None)
    within = dict(vars(importlib.import_module(module))) if module else names
    exec(compile(block.text, place, "exec"), within)
    if block.title:
        Path(block.title).write_text(block.text)


def toml_block(block: Block, _place: str, _shell: Shell, _: dict[str, Any]) -> None:
    """Read a block as a recipe or as a search space."""
    file = Path(block.title or "block.toml")
    file.write_text(block.text)
    load_search_space(file) if "a space" in block.rules else load_recipe(file)


def other_block(block: Block, place: str, _shell: Shell, _: dict[str, Any]) -> None:
    """Check that any other block is the map of packages."""
    assert block.kind == "", f"{place}: a block of no known kind: {block.kind}"
    assert block.text.strip() in re.sub(r"^ {4}", "", daelab.__doc__ or "", flags=re.MULTILINE), place


def output_block(block: Block, place: str, _shell: Shell, _: dict[str, Any]) -> None:
    """Skip a block that shows output."""
    assert not block.rules, place


KINDS = {
    "bash": shell_block,
    "python": python_block,
    "toml": toml_block,
    "yaml": yaml_block,
    "text": output_block,
    "json": output_block,
}


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_every_block_does_what_it_says(page: Path, shell: Shell) -> None:
    names: dict[str, Any] = {}
    if page.name != "index.md":  # a run's report takes as long as its training here, and is drawn there
        shell.patch.setattr("daelab.experiments.train.write_run_report", lambda run: run.path / "report.html")
    if page.name == "README.md":
        supposed()
        names["noisy"] = np.asarray(Image.open("noisy.png"))
    for block in blocks(page):
        KINDS.get(block.kind, other_block)(block, f"{page.name}, line {block.line}", shell, names)
    assert page.name != "index.md" or Path("runs/first/report.html").is_file()


def read(text: str, place: str) -> None:
    """Check Python that is not run: it compiles, and its imports and the names that it uses exist."""
    tree = compile(text, place, "exec", ast.PyCF_ONLY_AST)
    imports = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    names: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), place, "exec"), names)
    assert imports
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            assert hasattr(names[node.value.id], node.attr), f"{place}: {node.value.id} has no {node.attr}"


def spans(path: Path) -> Iterator[str]:
    """Return the code within the text of a page."""
    for token in MarkdownIt("commonmark").enable("table").parse(path.read_text(encoding="utf-8")):
        yield from (child.content for child in token.children or () if child.type == "code_inline")


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.name)
def test_commands_within_the_text_are_commands(page: Path, shell: Shell) -> None:
    for text in spans(page):
        first, *rest = text.split()
        if first == "daelab" and rest:
            known(text, words(text)[1:])
        elif first == "make":
            check_make(rest, shell)
        elif first == "python" and rest and rest[0] != "-m":
            check_python(words(text)[1:], shell)


def known(text: str, given: list[str]) -> None:
    """Check that the first words name a command that has the options; a placeholder such as NAME may be a value."""
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and given:
        if given[0] == "COMMAND":
            return
        if given[0] not in command.commands and "run" in command.commands:
            command = command.commands["run"]
        elif given[0].startswith("-"):
            break
        else:
            assert given[0] in command.commands, text
            command = command.commands[given.pop(0)]
    options = {name for one in command.params for name in one.opts} | {"--help", "-h"}
    assert {word for word in given if word.startswith("-") and word != "-"} <= options, text


def test_each_example_of_an_extension_takes_less_than_ten_lines() -> None:
    lengths = {
        block.line: sum(bool(line.strip()) for line in block.text.splitlines())
        for block in blocks(DOCS / "extend.md")
        if block.kind == "python"
    }
    assert max(lengths.values()) < 10, lengths


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/-]+\.md", str(NAV)))
    pages = [*DOCS.glob("*.md"), *DOCS.glob("decisions/*.md")]
    assert {path.relative_to(DOCS).as_posix() for path in pages} - {"commands.md"} == named - {"commands.md"}


RULES = {
    "with replaces, and adds": ("a --limit 5 --json", "--limit 2 --data b", "a --json --limit 2 --data b"),
    "--set may come often": ("a --set x=1", "--set y=2", "a --set x=1 --set y=2"),
    "flags": ("a --json b", "--json", "a b --json"),
}


@pytest.mark.parametrize("case", RULES)
def test_options_of_a_rule(case: str) -> None:
    given, extra, wanted = (text.split() for text in RULES[case])
    assert with_options(given, extra) == wanted
