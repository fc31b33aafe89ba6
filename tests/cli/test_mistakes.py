"""Every mistake that a user makes is answered by one short line that says what to do."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from daelab.cli import main

LONGEST = 400
"""The number of characters that an answer may have."""
HOSTILE = "\x1b[31mred\x9b\u202e\nnoise"
"""Colors, a C1 control, a turn of the writing direction, and a second line."""

# What is typed, and what the answer must contain. {folder} and the like are files of the workspace.
MISTAKES: dict[str, tuple[str, str]] = {
    # The command and its options
    "an unknown command": ("trian", "unknown command 'trian'; did you mean 'train'? Valid: adapt, compare, data, "),
    "an unknown command of a group": ("ledger lst", "did you mean 'list'? Valid: export, import, list, show"),
    "an unknown option": ("train --epoch 3", "unknown option '--epoch'; did you mean '--epochs'? Valid: "),
    "an unknown short option": (
        "inspect -q a.png",
        "unknown option '-q'; did you mean '-h'? Valid: --device, --help, --json, -h",
    ),
    "an option without its value": ("denoise a.png --tile", "option '--tile' requires an argument; `daelab "),
    "a switch with a value": ("denoise a.png --recursive=3", "option '--recursive' does not take a value"),
    "no argument": ("denoise", "missing argument 'PICTURE|FOLDER|GLOB|-...'; `daelab denoise --help`"),
    "no argument of a group's command": ("ledger show", "`daelab ledger show --help` shows what it takes"),
    "an argument too many": ("recipes quick quick", "unexpected extra argument"),
    "a text for a number": (
        "train --recipe quick --epochs many",
        "invalid value for '--epochs': must be a valid integer; `daelab train --help`",
    ),
    "a fraction for a whole number": ("train --recipe quick --epochs 1.5", "'--epochs': must be a valid integer"),
    "a number out of range": ("serve --port 99999", "'--port': must be less than or equal to 65535"),
    "a negative seed": ("data photos --seed -1", "'--seed': must be greater than or equal to 0"),
    # Empty values, as a variable of the shell leaves them when it is not set
    "an empty picture": ("denoise ''", "it is empty"),
    "an empty output": ("denoise a.png --out=", "'--out': it is empty"),
    "an empty noise": ("noise a.png --noise ''", "'--noise': it is empty"),
    "an empty name of a run": ("train --recipe quick --name ''", "'--name': it is empty"),
    "an empty folder of data": ("data cifar10 --data-root ''", "'--data-root': it is empty"),
    "an empty recipe": ("train ''", "it is empty"),
    "an empty change": ("train --recipe quick --set ''", "'--set': it is empty"),
    "only blanks as a noise": ("noise a.png --noise ' '", "the text is empty"),
    # Pictures
    "a missing picture": ("denoise nowhere.png", "no picture nowhere.png"),
    "a missing picture to inspect": ("inspect nowhere.png", "nowhere.png"),
    "a folder to inspect": ("inspect folder", "folder"),
    "a text as a picture": ("inspect text.png", "text.png: not a picture"),
    "an empty file as a picture": ("denoise empty.png", "empty.png"),
    "a folder without pictures": ("denoise folder", "no picture in folder; 2 files were skipped (notes.txt, x.heic), "),
    "a pattern without pictures": ("denoise '*.webp'", "no picture in *.webp"),
    "an unknown photograph": ("noise photo:dog --noise type-1 --out b.png", "unknown bundled photograph 'dog'"),
    "a file as a folder of results": ("denoise a.png --out text.png/b.png", "text.png is a file, not a folder"),
    "a file as a deep folder of results": ("denoise a.png --out text.png/b/c.png", "text.png is a file, not a folder"),
    "a folder that is a file": ("denoise a.png --out text.png/", "text.png is a file, not a folder"),
    "a folder like a file": ("denoise a.png --out results.2024-05-01", "to name a folder, write results.2024-05-01/"),
    "a file for several pictures": ("denoise a.png b.png --out c.png", "several pictures need a folder"),
    "a misspelt format": ("denoise a.png --format pgn", "unknown picture format 'pgn'; did you mean 'png'?"),
    "in place and elsewhere": ("denoise a.png --in-place --out b.png", "--in-place replaces each source"),
    "standard input and a picture": ("denoise - a.png", "standard input (-) takes no other pictures"),
    "standard input into a folder": ("denoise - --out folder/", "needs the name of a file"),
    "a part beyond the last": ("denoise a.png --shard 3/2", "I must be from 1 to N, not 3/2"),
    "no part": ("denoise a.png --shard half", "--shard must be I/N, such as 2/8"),
    "a chroma beyond one": ("denoise a.png --model model-c --out c.png --chroma 2", "chroma must lie in [0, 1]"),
    "a detail below zero": ("denoise a.png --model model-c --out c.png --detail -1", "detail must lie in [0, 1]"),
    "a strength above one": (
        "denoise a.png --model model-c --out c.png --strength 1.5",
        "strength must lie in [0, 1]",
    ),
    "a strength beyond one": ("denoise a.png --model model-c --out c.png --strength 3", "strength must lie in [0, 1]"),
    "a tile of no size": ("denoise a.png --tile 0", "tile must be at least 1 pixel"),
    "memory in apples": ("denoise a.png --memory apples", "memory must be an amount such as 512MB"),
    "no worker": ("denoise a.png --workers 0", "--workers must be at least 1"),
    "a result that exists": ("denoise a.png --out b.png", "b.png exists; --overwrite replaces it"),
    "a level for a model without": ("denoise a.png --model model-c --sigma 5", "takes no sigma"),
    "two kinds to compare": ("compare a.png", "give at least one picture to compare with a.png"),
    # Noises
    "a misspelt noise": ("noise a.png --noise gausian(0,1)", "unknown noise 'gausian'; did you mean 'gaussian'?"),
    "a number too few": ("noise a.png --noise gaussian(0.1)", "write gaussian(mean, std); 1 number is given"),
    "an open bracket": ("noise a.png --noise gaussian(0.1,0.2", "expected ')', found the end; at character 17"),
    "an immense noise": ("noise a.png --noise " + "a" * 20_000, "at most"),
    "a hostile noise": ("noise a.png --noise {hostile}", "unexpected character"),
    "two noises without a figure": ("noise a.png --noise type-1 --noise type-2", "name one --noise"),
    "a figure of two pictures": ("noise a.png b.png --figure f.svg", "--figure draws one picture, not 2"),
    "a figure of an unknown format": ("noise a.png --figure f.xyz", "unknown figure format '.xyz'"),
    # Models
    "a misspelt model": ("denoise a.png --model phto-m", "unknown model or run 'phto-m'; did you mean 'photo-m'?"),
    "a picture as a model": ("denoise a.png --model b.png", "b.png: not a safetensors file"),
    "a folder as a model": ("models folder", "unknown model or run 'folder'"),
    "an empty file as a model": ("evaluate empty.safetensors --data photos", "not a safetensors file"),
    "a text as an ONNX model": ("denoise a.png --model text.onnx", "text.onnx: not loaded: "),
    "an immense name of a model": ("models " + "x" * 3000, "xxx ... xxx"),
    "a hostile name of a model": ("models {hostile}", "unknown model or run "),
    "nothing to export": ("export model-c", "choose what to write: --onnx FILE.onnx, or --page DIR"),
    "a model to export without a name": ("export --onnx m.onnx", "name the model to export"),
    # Recipes and trainings
    "no recipe": ("train", "give exactly one of: a recipe file, --recipe NAME, --resume RUN"),
    "two recipes": ("train bad.toml --recipe quick", "give exactly one of"),
    "a misspelt recipe": ("train --recipe qick", "did you mean 'quick'"),
    "a missing recipe": ("recipes nowhere.toml", "no recipe file nowhere.toml"),
    "a folder as a recipe": ("train folder", "no recipe file folder"),
    "a recipe that is no TOML": ("train bad.toml", "bad.toml: not TOML: "),
    "a recipe that is no text": ("train b.png", "b.png: not a text file in UTF-8"),
    "a misspelt table": ("train --recipe quick --set trainin.lr=1", "did you mean 'training'? Valid: data, judge, "),
    "a misspelt field": ("train --recipe quick --set training.epoch=1", "did you mean 'training.epochs'? Valid: "),
    "a misspelt field of the network": ("train --recipe quick --set spec.stagse=[1]", "did you mean 'stages'?"),
    "a field without a value": ("train --recipe quick --set training.lr", "write field=value"),
    "a text as a rate": (
        "train --recipe quick --set training.lr=fast",
        "training.lr: must be a valid number (found 'fast')",
    ),
    "a text as a list": (
        "train --recipe quick --set training.renew=enc2",
        "training.renew: must be a list, such as [\"enc2\"] (found 'enc2')",
    ),
    "a number as a list": (
        "train --recipe quick --set training.betas=0.9",
        "training.betas: must be a list, such as [0.9, 0.999] (found 0.9)",
    ),
    "an empty list": ("train --recipe quick --set training.renew=[]", "training.renew: must have at least 1 item"),
    "an empty layer": (
        "train --recipe quick --set 'training.renew=[\"\"]'",
        "training.renew.0: must have at least 1 character (found '')",
    ),
    "an empty start": (
        "train --recipe quick --set training.start=",
        "training.start: must have at least 1 character (found '')",
    ),
    "images too small to reduce": (
        "train --recipe quick --set training.reduce=3",
        "photos: 32x32 images; this architecture with training.reduce=3 needs multiples of 12",
    ),
    "a change of two fields": (
        "train --recipe quick --set 'training.lr=0.1\n[data]\nname=\"photos\"'",
        "give each field a --set of its own",
    ),
    "a change with a further field": (
        "train --recipe quick --set 'seed=1, note=2'",
        "seed: must be a valid integer (found '1, note=2')",
    ),
    "a comment in a change": ("train --recipe quick --set 'seed=1 # one'", "seed: "),
    "a change that ends its table": ("train --recipe quick --set 'seed=1 }, b = { c = 1'", "seed: "),
    "a misspelt data set": ("train --recipe quick --set data.name=cifar11", "did you mean 'cifar10'?"),
    "an unknown run": ("train --resume nothing", "no run nothing in "),
    "a run that would leave its folder": ("train --recipe quick --name ../up", "run name '../up': use letters"),
    "a schedule of checkpoints": ("train --recipe quick --checkpoint-every often", "--checkpoint-every often: write "),
    "a misspelt tracker": ("train --recipe quick --track tensorbord", "did you mean 'tensorboard'?"),
    "a classifier with a wrong suffix": ("train-judge --save c.pt", "--save c.pt: "),
    "a network with a wrong suffix": ("train-inspector --save n.pt", "n.pt: "),
    # Measurements and the ledger
    "levels that are no numbers": ("evaluate model-c --levels 15,many", "--levels 15,many: write numbers"),
    "levels and a noise": ("evaluate model-c --levels 15 --noise type-1", "--levels cannot be combined"),
    "half of nothing": ("evaluate model-c --half", "--half needs --save FILE"),
    "an unknown baseline": ("evaluate baseline:medain --data photos", "did you mean 'median'?"),
    "an unknown leaderboard": ("leaderboard --data mnist", "unknown leaderboard 'mnist'"),
    "a page in a file": ("leaderboard --out text.png", "text.png"),
    "a report in a file": ("reproduce --out text.png", "text.png"),
    "nothing to compare": ("compare", "name two runs or more to compare"),
    "runs and a study": ("compare a b --study c", "give either runs or --study STUDY, not both"),
    "an unknown study": ("explore status nothing", "there is no study in "),
    "an unknown search space": ("explore explore/dept", "did you mean 'explore/depth'"),
    "a misspelt field of a search space": (
        "explore explore/depth --set spec.dpth=3",
        "unknown architecture key 'dpth'; did you mean 'depth'? Valid: channels, depth, ",
    ),
    "an unknown run of the ledger": ("ledger show nothing", "unknown run 'nothing'"),
    "a ledger to replace": ("ledger export text.png", "text.png exists; --overwrite replaces it"),
    "a missing log": ("ledger import nowhere.csv", "no file nowhere.csv"),
    "a picture as a log": ("ledger import b.png", "b.png: not a text file in UTF-8"),
    "a file as the ledger": ("ledger list --ledger sqlite:///text.png", "text.png"),
    "a ledger that does not exist": ("ledger list --ledger sqlite:///nowhere.db", "--ledger: no file nowhere.db"),
    "two folders to compare": ("compare folder folder", "folder is a folder; name runs, or pictures such as folder/"),
    "an unknown precision": ("denoise a.png --precision half", "unknown precision 'half'"),
    "int8 that a model lacks": ("evaluate model-c --precision int8", "cannot compute in int8: the model has no ranges"),
    "a precision of a method that has none": (
        "denoise a.png --model baseline:median,size=3 --precision int8",
        "baseline:median,size=3 cannot compute in int8: ",
    ),
    "a misspelt precision of such a method": (
        "denoise a.png --model baseline:median,size=3 --precision int17",
        "unknown precision 'int17'",
    ),
    "a misspelt precision of a method to tune": (
        "evaluate baseline:median --data photos --precision int17",
        "unknown precision 'int17'",
    ),
    "int8 for scores to save": (
        "evaluate photo-m --data photos --half --save h.safetensors --precision int8",
        "--save stores the scores of float32; leave out --precision",
    ),
    "an address that is none": ("ledger list --ledger nonsense", "ledger nonsense: "),
    "an open server without a token": ("serve --host 0.0.0.0", "--token"),
    "a body of apples": ("serve --max-body apples", "must be an amount such as 512MB"),
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the files that the mistakes name."""
    root = tmp_path_factory.mktemp("mistakes")
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((9, 7, 3), 100, np.uint8)).save(root / name)
    (root / "folder").mkdir()
    for name in ("empty.png", "empty.safetensors", "folder/x.heic", "folder/notes.txt"):
        (root / name).touch()
    for name in ("text.png", "text.onnx", "bad.toml"):
        (root / name).write_text("some text\n")
    return root


@pytest.fixture
def answer(workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command in the workspace and returns its only line on stderr."""
    monkeypatch.chdir(workspace)

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "argv", ["daelab", *words])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        assert ended.value.code == 2, err
        assert out == ""
        assert err.endswith("\n")
        assert len(err.splitlines()) == 1, err
        return err[:-1]

    return run


def split(text: str) -> list[str]:
    """Split a command line as a shell does, but keep the backslash."""
    import shlex

    return [word.replace("{hostile}", HOSTILE) for word in shlex.split(text.replace("(", "\\(").replace(")", "\\)"))]


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_answered_by_one_line(mistake: str, answer: Callable[..., str], workspace: Path) -> None:
    typed, expected = MISTAKES[mistake]
    before = {path: path.stat().st_size for path in workspace.rglob("*")}
    line = answer(*split(typed))
    assert line.startswith("daelab: ")
    assert expected in line
    assert len(line) < LONGEST
    assert line.isprintable()
    assert {path: path.stat().st_size for path in workspace.rglob("*")} == before, "a mistake changed a file"
