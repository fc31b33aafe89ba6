"""A search space is data, a study loses no trial, and a comparison reports differences within the seed range."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from daelab._util.text import hide_password
from daelab.experiments.comparison_page import compute_importances, write_comparison_page
from daelab.experiments.explore import compare
from daelab.experiments.reports.page import check_report_folder
from daelab.experiments.search.dimensions import ChoiceDimension, RangeDimension
from daelab.experiments.search.goals import PRUNERS, SAMPLERS, SEARCH_GOALS, make_numbered_sampler
from daelab.experiments.search.search import SearchRequest, open_study, run_search
from daelab.experiments.search.search_space import (
    SearchSpace,
    expand_architecture,
    list_search_spaces,
    load_search_space,
    parse_search_space,
)
from daelab.experiments.search.study import Study
from daelab.experiments.search.trials import SearchPoint, find_best_points
from daelab.experiments.search.worker import SearchWorker
from daelab.runs.folder import get_run_folder, get_runs_root
from daelab.runs.ledger import Ledger
from daelab.runs.process_lock import describe_process
from daelab.training.recipe import list_recipes, load_recipe, parse_recipe
from daelab.training.tasks.denoising import fit_denoiser, load_run_recipe

pytest.importorskip("optuna")


class Watcher:
    """An observer that records its calls."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.trials: list[tuple[Any, int, int | None]] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def trial(self, row: Any, ended: int, trials: int | None, left: float | None) -> None:
        assert left is None or left >= 0
        self.trials.append((row, ended, trials))

    def count(self, done: float, total: int) -> None:
        assert done <= total or not total


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Switch off the page of each run, which would take longer than the tiny runs."""
    if not request.node.name.startswith("test_a_page_"):
        monkeypatch.setattr("daelab.experiments.reports.style.find_spec", lambda name: None)


def tiny(file: Path, **fields: Any) -> dict[str, Any]:
    """Return a search space whose trials take a fraction of a second."""
    training_ = {"epochs": 2, "batch": 16, "lr": 0.01, "precision": "float32"} | fields.pop("training", {})
    found = {"data": {"name": f"npz:{file}"}, "spec": {"stages": [4]}, "training": training_, **fields}
    if not fields:
        found["spec"] = {"stages": [[2], [4]]}
    found.setdefault("explore", {"sampler": "grid"})
    return found


def searched(plain: dict[str, Any], name: str = "tiny", **how: Any) -> Study:
    """Search a space in this process."""
    return run_search(SearchRequest(parse_search_space(plain, where="tiny"), name, **how), Watcher())


# Spaces


@pytest.mark.parametrize(
    ("name", "data"),
    [
        *itertools.product(sorted({*list_search_spaces()} - {"explore/photo"}), ("photos", "cifar10")),
        ("explore/photo", "cbsd432"),
    ],
)
def test_every_shipped_space_is_whole(name: str, data: str) -> None:
    found = load_search_space(name, [f"data.name={data}"])
    assert found.note
    assert found.search.bounded
    assert found.dimensions(next(iter(found.variants), "")) or len(found.variants) > 1
    again = parse_search_space(json.loads(json.dumps(found.to_dict())), where=name)
    assert again == found
    assert {made.data.name for made in map(found.recipe, _some(found))} == {data}


def _some(found: SearchSpace) -> list[dict[str, Any]]:
    if found.search.sampler == "grid":
        return list(found.points())
    return [point for variant in found.variants or ("",) for point in found._corners(variant)]


def test_a_space_is_no_recipe() -> None:
    assert not set(list_search_spaces()) & set(list_recipes())
    with pytest.raises(FileNotFoundError, match=r"no space file explore/deph; did you mean 'explore/depth'"):
        load_search_space("explore/deph")


VARIES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "a list": ({"training": {"lr": [0.1, 0.2]}}, {"training.lr": ChoiceDimension(("0.1", "0.2"))}),
    "a list that is a value": (
        {"training": {"betas": [0.9, 0.99]}, "seed": [1, 2]},
        {"seed": ChoiceDimension(("1", "2"))},
    ),
    "a list of lists": (
        {"training": {"betas": [[0.9, 0.99], [0.5, 0.9]]}},
        {"training.betas": ChoiceDimension(("[0.9, 0.99]", "[0.5, 0.9]"))},
    ),
    "stages": ({"spec": {"stages": [[8], [8, 16]]}}, {"spec.stages": ChoiceDimension(("[8]", "[8, 16]"))}),
    "a stage's width": (
        {"spec": {"stages": [{"width": [8, 16]}, {"low": 4, "high": 6}]}},
        {"spec.stages.0.width": ChoiceDimension(("8", "16")), "spec.stages.1": RangeDimension(4, 6)},
    ),
    "whole specs": (
        {"spec": ["model-b-35", {"stages": [8]}]},
        {"spec": ChoiceDimension(('"model-b-35"', '{"stages": [8]}'))},
    ),
    "a range": (
        {"training": {"lr": {"low": 1e-4, "high": 1, "log": True}}},
        {"training.lr": RangeDimension(1e-4, 1, True)},
    ),
    "depth": (
        {"spec": {"stages": [8, 16], "depth": {"low": 1, "high": 2}, "scale": [1, 2]}},
        {"spec.depth": RangeDimension(1, 2), "spec.scale": ChoiceDimension(("1", "2"))},
    ),
}


@pytest.mark.parametrize("case", VARIES)
def test_what_varies(case: str) -> None:
    plain, wanted = VARIES[case]
    found = parse_search_space(plain)
    assert found.dimensions() == wanted
    for point in found._corners(""):
        assert set(point) == set(wanted)
        found.recipe(point)


def test_variants_change_fields_together() -> None:
    plain = {
        "training": {"epochs": [1, 2]},
        "variants": {"adam": {}, "sgd": {"training": {"optimiser": "sgd", "lr": [0.1, 0.2], "momentum": 0.5}}},
        "explore": {"sampler": "grid"},
    }
    found = parse_search_space(plain)
    assert set(found.dimensions("adam")) == {"training.epochs"}
    assert set(found.dimensions("sgd")) == {"training.epochs", "sgd: training.lr"}
    made = [found.recipe(point).training for point in found.points()]
    assert [(one.optimiser, one.lr, one.epochs) for one in made] == [
        *(("adam", 0.003, epochs) for epochs in (1, 2)),
        *(("sgd", lr, epochs) for epochs in (1, 2) for lr in (0.1, 0.2)),
    ]


def test_a_grid_goes_step_by_step() -> None:
    assert RangeDimension(0.1, 0.5, step=0.2).grid("x") == [0.1, 0.3, 0.5]
    assert RangeDimension(1, 4).grid("x") == [1, 2, 3, 4]
    assert RangeDimension(8, 30, step=8).grid("x") == [8, 16, 24]


def test_depth_and_scale_make_networks() -> None:
    net = {"kind": "unet", "widths": [8, 16, 32], "blocks": [1, 2, 3], "decoder": [4, 5], "depth": 2, "scale": 0.5}
    assert expand_architecture(net) == {"kind": "unet", "widths": [4, 8], "blocks": [1, 3], "decoder": [4]}
    staged = {"stages": [8, {"width": 16, "down": False}], "scale": 2}
    assert expand_architecture(staged) == {"stages": [16, {"width": 32, "down": False}]}
    assert expand_architecture("model-c") == "model-c"


SEEDS = {"seed": [1, 2]}
MISTAKES: dict[str, tuple[dict[str, Any], str]] = {
    "nothing varies": ({}, "space varies nothing"),
    "a choice of nothing": ({"seed": []}, "seed: the list is empty"),
    "twice": ({"seed": [1, 1]}, "seed: a value occurs twice in 1, 1"),
    "upside down": ({"seed": {"low": 2, "high": 1}}, "seed: {low = 2, high = 1}: low must lie below high"),
    "text": ({"seed": {"low": "a", "high": 1}}, "low, high and step are numbers"),
    "a key too many": ({"seed": {"low": 1, "high": 2, "by": 1}}, "a range has low, high, and log or step"),
    "log of zero": ({"training": {"lr": {"low": 0, "high": 1, "log": True}}}, "log needs low above 0"),
    "a broken step": ({"seed": {"low": 1, "high": 2, "step": 0.5}}, "whole between whole numbers"),
    "a wrong value": ({"loss": ["mse", "msee"]}, "unknown loss 'msee'; did you mean 'mse'"),
    "a wrong end": ({"training": {"batch": {"low": 0, "high": 8}}}, "training.batch"),
    "an unknown field": ({"training": {"rate": [1, 2]}}, "unknown recipe key 'training.rate'"),
    "no such depth": (
        {"spec": {"stages": [8], "depth": [1, 2]}},
        "spec.depth is 2; write a whole number from 1 to 1, the number of stages",
    ),
    "a scale below": (
        {"spec": {"stages": [8], "scale": [1, -1]}},
        "spec.scale is -1; write a number above 0 and up to 4,096",
    ),
    "depth of a preset": ({"spec": {"depth": [1, 2]}}, "depth and scale need a list of stages"),
    "no sampler": (SEEDS | {"explore": {"sampler": "gird"}}, "unknown sampler 'gird'; did you mean 'grid'"),
    "no goal": (SEEDS | {"explore": {"goals": ["psnrr"]}}, "unknown goal 'psnrr'; did you mean 'psnr'"),
    "no pruner": (SEEDS | {"explore": {"pruner": "half"}}, "unknown pruner 'half'"),
    "a goal twice": (SEEDS | {"explore": {"goals": ["psnr", "psnr"]}}, "a goal occurs twice"),
    "a key of explore": (SEEDS | {"explore": {"trial": 3}}, "unknown recipe key 'explore.trial'"),
    "nsga2 alone": (SEEDS | {"explore": {"sampler": "nsga2"}}, "nsga2 needs two or three goals"),
    "pruning two": (SEEDS | {"explore": {"pruner": "median", "goals": ["psnr", "macs"]}}, "uses the PSNR alone"),
    "seeds of seeds": (SEEDS | {"explore": {"seeds": 2}}, "so seed cannot vary"),
    "no grid": (
        {"training": {"lr": {"low": 0.1, "high": 1.0}}, "explore": {"sampler": "grid"}},
        "a range without step has no grid",
    ),
    "a huge grid": (
        {
            "seed": {"low": 0, "high": 99},
            "training": {"epochs": {"low": 1, "high": 99}},
            "explore": {"sampler": "grid"},
        },
        "more than 2,000 points",
    ),
    "a huge range": ({"seed": {"low": 0, "high": 10**9}, "explore": {"sampler": "grid"}}, "more than 2,000 values"),
    "no end": ({"training": {"lr": {"low": 0.1, "high": float("inf")}}}, "the numbers must be smaller than 2^53"),
    "no number": ({"training": {"lr": [0.1, float("nan")]}}, "training.lr: inf and nan are not allowed"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_in_a_space_is_one_line(case: str) -> None:
    plain, message = MISTAKES[case]
    with pytest.raises(ValueError) as caught:
        parse_search_space(plain)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


# Searching


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_makes_runs_like_any_other(sampler: str, pictures_file: Path) -> None:
    goals = ["psnr", "macs"] if sampler == "nsga2" else ["psnr"]
    plain = tiny(
        pictures_file,
        spec={"stages": [2, 4], "depth": {"low": 1, "high": 2}},
        training={"epochs": 1, "lr": [0.01, 0.03]},
        explore={"sampler": sampler, "goals": goals, "trials": 3},
    )
    study = searched(plain)
    rows = study.rows()
    assert [(row.number, row.state, row.run) for row in rows] == [(n, "finished", f"tiny-{n}") for n in range(3)]
    for row in rows:
        kept = load_recipe(get_run_folder(row.run).recipe)
        assert len(kept.spec.to_dict()["stages"]) == row.point["spec.depth"]
        assert (kept.training.lr, kept.seed) == (row.point["training.lr"], row.seed)
        assert f"Study tiny, trial {row.number}" in kept.note
        assert study.ledger.get_run(row.run)["status"] == "finished"
        assert get_run_folder(row.run).best.is_file()
        assert {*SEARCH_GOALS, "epochs"} <= {*row.result, "seconds"}
    # a point that comes again has another seed
    assert len({(str(row.point), row.seed) for row in rows}) == 3
    assert {found.runs[0] for found in study.best()} <= {row.run for row in rows}


def test_a_sampler_draws_by_trial_whoever_asks() -> None:
    import optuna

    def drawn(order: list[int]) -> dict[int, float]:
        study = optuna.create_study(sampler=make_numbered_sampler("random", 7))
        trials = [study.ask() for _ in range(4)]
        return {number: trials[number].suggest_float("x", 0, 1) for number in order}

    one = drawn([0, 1, 2, 3])
    assert drawn([3, 1, 0, 2]) == one
    assert len(set(one.values())) == 4


PLANS = {
    "the whole grid": ("grid", None, 3, [3, 3]),
    "a grid is covered first": ("grid", 3, 3, [2, 1]),
    "part of a grid": ("grid", 1, 3, [1]),
    "points by seeds": ("tpe", 7, 3, [3, 2, 2]),
    "one seed": ("random", 4, 1, [1, 1, 1, 1]),
}


@pytest.mark.parametrize("case", PLANS)
def test_how_many_trials_of_which_point(case: str, pictures_file: Path) -> None:
    sampler, trials, seeds, wanted = PLANS[case]
    table = {"sampler": sampler, "seeds": seeds} | ({"trials": trials} if trials else {})
    study = open_study(SearchRequest(parse_search_space(tiny(pictures_file) | {"explore": table}), "plan"))
    assert [row.repeats for row in study.rows()] == wanted
    assert [row.state for row in study.rows()] == ["waiting"] * len(wanted)


def test_a_study_grows_and_never_shrinks(pictures_file: Path) -> None:
    plain = tiny(pictures_file) | {"explore": {"sampler": "grid", "seeds": 2, "trials": 2}}
    plain["training"]["epochs"] = 1
    assert len(searched(plain).rows()) == 2
    grown_ = run_search(SearchRequest(None, "tiny", resume=True, limits=("explore.trials=4",)), Watcher())
    assert [(row.seed, row.state) for row in grown_.rows()] == [(0, "finished")] * 2 + [(1, "finished")] * 2
    assert grown_.rows()[2].point == grown_.rows()[0].point
    assert [len(point.runs) for point in grown_.best()] == [2]
    with pytest.raises(ValueError, match="study tiny has 4 trials; --trials is the number of all trials, old and new"):
        run_search(SearchRequest(None, "tiny", resume=True, limits=("explore.trials=3",)), Watcher())
    with pytest.raises(ValueError, match=r"explore\.seeds cannot change"):
        run_search(SearchRequest(None, "tiny", resume=True, limits=("explore.seeds=3",)), Watcher())


def test_who_watches_is_told_each_trial_once(pictures_file: Path) -> None:
    watcher = Watcher()
    run_search(SearchRequest(parse_search_space(tiny(pictures_file), where="tiny"), "tiny"), watcher)
    assert [(row.run, ended, trials) for row, ended, trials in watcher.trials] == [("tiny-0", 1, 2), ("tiny-1", 2, 2)]
    assert watcher.said[0].startswith("study tiny: 2 trials of tiny in sqlite:///")


def test_pruners_end_what_lags_behind(pictures_file: Path) -> None:
    plain = tiny(pictures_file, training={"epochs": 9}, explore={"sampler": "random", "trials": 5}, seed=[1, 2])
    for pruner in PRUNERS:
        made = parse_search_space(plain, [f"explore.pruner={pruner}"])
        study = open_study(SearchRequest(made, f"by-{pruner}"))
        good = [study.take(made) for _ in range(4)]
        for trial in good:
            assert trial is not None
            assert not any(study.prunes(made, trial, epoch, 25.0 + epoch, 9) for epoch in (1, 2, 3))
            study.finish(trial, made, dict.fromkeys(("psnr", "loss", "macs", "parameters", "images_per_second"), 1.0))
        poor = study.take(made)
        assert poor is not None
        assert any(study.prunes(made, poor, epoch, 10.0, 9) for epoch in (1, 2, 3)) is (pruner != "none")


def test_to_take_a_trial_reads_the_study_equally_often_at_any_size(
    pictures_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = parse_search_space(tiny(pictures_file, explore={"sampler": "random", "minutes": 60}, seed=[1, 2]))
    study = Study("grows", None).create(made)
    reads: list[int] = []
    read = study._trials

    def count() -> Any:
        reads.append(len(reads))
        return read()

    monkeypatch.setattr(study, "_trials", count)
    costs = []
    for _ in range(6):
        before = len(reads)
        trial = study.take(made)
        costs.append(len(reads) - before)
        assert trial is not None
        study.finish(trial, made, dict.fromkeys(("psnr", "loss", "macs", "parameters", "images_per_second"), 1.0))
    assert [row.seed for row in study.rows()] == [0] * 6
    assert len(set(costs)) == 1


def test_a_pruned_trial_is_a_run_that_could_go_on(pictures_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Study, "prunes", lambda self, space, trial, *_: trial.number == 1)
    study = searched(tiny(pictures_file))
    assert [row.state for row in study.rows()] == ["finished", "pruned"]
    row = study.ledger.get_run("tiny-1")
    assert (row["status"], row["epochs_done"]) == ("pruned", 1)
    assert "other trials were better" in row["reason"]
    assert len(fit_denoiser(load_run_recipe("tiny-1"), "tiny-1", resume=True).rows) == 2


def test_it_stops_at_an_epochs_end_and_goes_on(pictures_file: Path) -> None:
    study = open_study(SearchRequest(parse_search_space(tiny(pictures_file), where="tiny"), "tiny"))
    SearchWorker(study, look=study.stop).work()
    assert [(row.state, row.epochs, row.owner) for row in study.rows()] == [("waiting", 1, {}), ("waiting", 0, {})]
    assert study.ledger.get_run("tiny-0")["status"] == "interrupted"
    assert SearchWorker(study).work() is None  # nobody said that it goes on
    assert study.counts()["waiting"] == 2
    watcher = Watcher()
    run_search(SearchRequest(None, "tiny", resume=True), watcher)
    assert [row.state for row in study.rows()] == ["finished"] * 2
    assert [row["epoch"] for row in get_run_folder("tiny-0").read_metrics()] == [1, 2]


def test_budgets_of_epochs_and_minutes(pictures_file: Path) -> None:
    watcher = Watcher()
    plain = tiny(pictures_file, seed={"low": 0, "high": 99}, explore={"sampler": "random", "total_epochs": 4})
    study = run_search(SearchRequest(parse_search_space(plain), "epochs"), watcher)
    assert study.counts()["finished"] == 2
    plain["explore"] = {"sampler": "random", "minutes": 1e-9}
    study = run_search(SearchRequest(parse_search_space(plain), "minutes"), watcher)
    assert study.rows() == []
    assert "the time is over" in watcher.said[-1]


# What dies


def dead(study: Study, number: int) -> None:
    """Make a trial belong to a process that has ended."""
    study.note(number, owner=describe_process() | {"born": "1+1"})


def test_a_dead_workers_trial_is_taken_again_as_it_was(pictures_file: Path) -> None:
    plain = tiny(pictures_file, training={"lr": {"low": 0.01, "high": 0.1}}, explore={"sampler": "random", "trials": 1})
    made = parse_search_space(plain)
    study = open_study(SearchRequest(made, "tiny"))
    for deaths in range(2):
        trial = study.take(made)
        assert trial is not None
        lr = trial.suggest_float("training.lr", 0.01, 0.1)
        assert study.take(made) is None
        dead(study, trial.number)
        assert study.rows()[0].point == {"training.lr": lr}
        assert (trial.number, deaths) == (0, trial.user_attrs.get("deaths", 0))
    trial = study.take(made)
    assert trial is not None
    dead(study, 0)
    # what killed three workers may be the trial
    assert study.take(made) is None
    assert [(row.state, row.reason) for row in study.rows()] == [("failed", "its worker died 3 times")]


def test_a_silent_worker_of_another_machine_is_taken_for_dead(
    pictures_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = parse_search_space(tiny(pictures_file) | {"explore": {"sampler": "grid", "trials": 1}})
    study, clock = open_study(SearchRequest(made, "tiny")), [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    assert study.take(made) is not None
    study.note(0, owner={"host": "elsewhere", "pid": 1, "born": "1+1"}, beat=0)
    for at, beat in ((0, 1), (170, 2), (340, 3), (510, 3)):
        clock[0] = at
        study.note(0, beat=beat)
        assert study.take(made) is None
    clock[0] = 530
    assert study.take(made) is not None
    assert study.rows()[0].owner == describe_process()


def test_who_was_taken_for_dead_leaves_the_trial_alone(pictures_file: Path) -> None:
    study = open_study(
        SearchRequest(parse_search_space(tiny(pictures_file) | {"explore": {"sampler": "grid", "trials": 1}}), "tiny")
    )
    other = {"host": "elsewhere", "pid": 1, "born": "1+1"}
    worker = SearchWorker(study)
    trial = study.take(study.space)
    assert trial is not None
    study.note(0, owner=other)
    worker._run_trial(trial, study.space)
    assert [(row.state, row.owner) for row in study.rows()] == [("running", other)]


def test_a_trial_that_diverges_fails_and_the_others_go_on(pictures_file: Path) -> None:
    plain = tiny(pictures_file, training={"lr": [1e30, 0.01], "optimiser": "sgd", "epochs": 1}, seed=3)
    study = searched(plain)
    assert [row.state for row in study.rows()] == ["failed", "finished"]
    assert "the loss became infinite or NaN" in study.rows()[0].reason
    assert study.ledger.get_run("tiny-0")["status"] == "failed"
    plain["training"]["lr"] = [1e30, 1e31, 1e32, 1e33]
    with pytest.raises(ValueError, match="3 trials failed in a row; the last: .*became infinite or NaN"):
        searched(plain, "wild")


def test_missing_data_fails_no_trial(tmp_path: Path) -> None:
    with pytest.raises((ValueError, OSError), match=r"nowhere\.npz"):
        searched(tiny(tmp_path / "nowhere.npz"))
    assert Study("tiny").open().counts()["waiting"] == 2


def test_a_network_of_the_user_is_searched(
    pictures_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "searched_nets.py").write_text(
        "from torch import nn\n\ndef make():\n    return nn.Conv2d(3, 3, 3, 1, 1)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    fields = tiny(pictures_file, spec="searched_nets:make", training={"epochs": 1, "lr": [0.01, 0.02]})
    study = searched(fields)
    assert [row.state for row in study.rows()] == ["finished"] * 2
    assert load_recipe(get_run_folder("tiny-0").recipe, trusted=True).spec.halo == 1
    # The database may be a stranger's, so its code is named again.
    with pytest.raises(ValueError, match="spec is 'searched_nets:make', but a file may name only what ships"):
        run_search(SearchRequest(None, "tiny", resume=True), Watcher())


@pytest.mark.parametrize("channels", [1, 5])
def test_images_of_other_channels_are_searched(channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    sizes = {"train_images": 24, "val_images": 8, "test_images": 4}
    images = {name: rng.integers(0, 256, (count, 8, 8, channels), np.uint8) for name, count in sizes.items()}
    np.savez(tmp_path / "bands.npz", **images)
    name = f"nets_of_{channels}"
    (tmp_path / f"{name}.py").write_text(
        f"from torch import nn\n\ndef make():\n    net = nn.Conv2d({channels}, {channels}, 3, 1, 1)\n"
        f"    net.channels = {channels}\n    return net\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for spec in {"stages": [2], "channels": channels}, f"{name}:make":
        fields = tiny(tmp_path / "bands.npz", spec=spec, training={"epochs": 1, "lr": [0.01, 0.02]})
        study = searched(fields, f"study-{str(spec)[2:6]}".replace("'", ""))
        assert [(row.state, row.reason) for row in study.rows()] == [("finished", "")] * 2


def test_a_full_disk_puts_the_trial_back(pictures_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device", "runs/tiny-0/best.safetensors")

    monkeypatch.setattr("daelab.experiments.search.worker.fit_denoiser", full)
    with pytest.raises(OSError, match="No space left"):
        searched(tiny(pictures_file))
    assert Study("tiny").open().counts()["waiting"] == 2


# Mistakes


def test_mistakes_about_studies(pictures_file: Path, tmp_path: Path) -> None:
    made = parse_search_space(tiny(pictures_file), where="tiny")
    with pytest.raises(ValueError, match="there is no study in sqlite:.*daelab explore SPACE creates one"):
        Study("tiny").open()
    assert [file.name for file in get_runs_root().iterdir()] == ["ledger.db"]
    open_study(SearchRequest(made, "tiny"))
    for request, message in [
        (SearchRequest(made, "tiny"), "study tiny exists; resume it with --resume, or use another --name"),
        (SearchRequest(None, "tinny", resume=True), "unknown study 'tinny'; did you mean 'tiny'"),
        (SearchRequest(None), "name a search space, such as explore/depth, or use --resume with the --name of a study"),
        (SearchRequest(None, "new"), "name a search space for study new"),
        (SearchRequest(load_search_space("explore/depth"), "tiny", resume=True), "study tiny has another search space"),
        (
            SearchRequest(parse_search_space({"seed": [1, 2]}), "free"),
            "has no limit; add --trials, --total-epochs or --minutes",
        ),
        (SearchRequest(made, "a b"), "run name 'a b': use letters"),
        (SearchRequest(made, "tiny", workers=0), "--workers is 0"),
        (SearchRequest(made, "x", url="sqlite://"), "a SQLite file .* or PostgreSQL is needed"),
        (SearchRequest(made, "x", url="nonesuch://x"), "nonesuch"),
    ]:
        with pytest.raises(ValueError, match=message) as caught:
            run_search(request, Watcher())
        assert "\n" not in str(caught.value)
    get_run_folder("taken-3").path.mkdir(parents=True)
    with pytest.raises(ValueError, match="run taken-3 exists, but study taken needs this name"):
        open_study(SearchRequest(made, "taken"))


def test_a_password_is_never_shown() -> None:
    assert hide_password("postgresql://me:secret@host:1/db") == "postgresql://me:***@host:1/db"
    with pytest.raises(ValueError) as caught:
        Study("x", "nonesuch://me:secret@host/db")
    assert "secret" not in str(caught.value)


# Comparing


def written(name: str, psnr: float | None, status: str = "finished", **fields: Any) -> None:
    """Record a run in the ledger alone."""
    own = {key: fields.pop(key) for key in ("noise", "data") if key in fields}
    images = fields.pop("val_size", None)
    made = parse_recipe(
        {"spec": fields.pop("spec", "model-c"), "seed": fields.pop("seed", 0), "training": fields, **own}
    )
    scores = {"val_size": images} if images else {}
    scores |= {"val_loss": 0.01, "val_psnr": psnr, "val_psnr_image": psnr} if psnr else {}
    Ledger().record(
        name, status=status, epochs_done=3, images_per_second=100.0, recipe=made.to_dict(), folder="", **scores
    )


def test_only_what_differs_is_shown_best_first() -> None:
    written("a", 25.0, lr=0.1)
    written("b", 26.0, lr=0.2, seed=1)
    written("c", None, "running", lr=0.2, batch=64)
    found = compare(["a", "b", "c"])
    assert set(found.fields) == {"seed", "training.lr", "training.batch"}
    assert [run.name for run in found.runs] == ["b", "a", "c"]
    table = found.run_table()
    assert table.columns[:5] == ("run", "status", "seed", "batch", "lr")
    assert table.rows[0][:5] == ("b", "finished", 1, 128, "0.2")
    assert [len(point.runs) for point in found.points] == [1, 1]


VERDICTS: dict[str, tuple[list[tuple[float, list[float]]], str, list[bool]]] = {
    "clear": ([(0.1, [25.0, 25.2]), (0.2, [26.0, 26.3])], "Best: lr 0.2 (26.15 dB), ahead of every other", [False]),
    "close": (
        [(0.1, [25.9, 26.3]), (0.2, [26.0, 26.3])],
        "Best mean: lr 0.2 (26.15 dB). Within the seed range of it: lr 0.1.",
        [True],
    ),
    "as far as seeds elsewhere": (
        [(0.1, [25.9]), (0.2, [26.0]), (0.3, [20.0, 20.5])],
        "Within the seed range of it: lr 0.1.",
        [True, False],
    ),
    "no seeds": ([(0.1, [25.9]), (0.2, [26.0])], "No point has several seeds", [False]),
    "seeds alone": (
        [(0.1, [25.0, 26.0])],
        "All runs differ by their seed alone: mean 25.50 dB, seed range 1.00 dB",
        [],
    ),
}


@pytest.mark.parametrize("case", VERDICTS)
def test_what_is_no_further_apart_than_seeds_is_too_close(case: str) -> None:
    groups, verdict, close = VERDICTS[case]
    names = []
    for lr, psnrs in groups:
        for seed, psnr in enumerate(psnrs):
            names.append(f"run-{lr}-{seed}")
            written(names[-1], psnr, lr=lr, seed=seed)
    found = compare(names)
    assert verdict in found.verdict
    assert [point.close for point in found.points[:-1]] == close
    cells = [row[-4] for row in found.point_table().rows]
    assert [str(cell).startswith("≈") for cell in cells[:-1]] == close
    json.dumps(found.to_dict(), allow_nan=False)


def test_every_point_beside_one_run() -> None:
    for name, seed, psnr in (("as-it-is", 0, 25.0), ("again", 1, 25.2)):
        written(name, psnr, seed=seed)
    written("wide", 26.0, spec={"stages": [64]}, lr=0.5)
    written("slow", 25.05, lr=0.0001)
    found = compare(["as-it-is", "again", "wide", "slow"])
    table = found.against("again")
    assert [row[:4] for row in table.rows] == [
        (1, "stages 64; lr 0.5", 1, "26.00"),
        (2, "again", 2, "25.10"),
        (3, "lr 0.0001", 1, "25.05"),
    ]
    assert [row[5] for row in table.rows] == ["+0.90", None, "≈ -0.05"]
    assert found.outcome("again") == (
        "Better than again by more than the seed range: stages 64; lr 0.5 (+0.90 dB). Within the seed range: "
        "lr 0.0001. Worse: 0 of 2."
    )
    with pytest.raises(ValueError, match="unknown finished run to compare against 'agian'; did you mean 'again'"):
        found.against("agian")


# What two runs are made of, and what the verdict says of their conditions.
MIXED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "noise": ({"noise": "type-1"}, {"noise": "type-2"}, "noise type-1 (1 of 2 runs) | noise type-2 (1 of 2 runs)"),
    "data": ({"data": {"name": "photos"}}, {}, "data set photos (1 of 2 runs) | data set cifar10 (1 of 2 runs)"),
    "crop": (
        {"data": {"name": "folder:a", "crop": 64}},
        {"data": {"name": "folder:a", "crop": 32}},
        "crop 64 (1 of 2 runs) | crop 32 (1 of 2 runs)",
    ),
    "images": ({"val_size": 500}, {"val_size": 5000}, "number of validation images 500 (1 of 2 runs)"),
    "both": ({"noise": "type-1", "data": {"name": "photos"}}, {}, "noise type-1; data set photos (1 of 2 runs)"),
}


@pytest.mark.parametrize("case", MIXED)
def test_scores_under_other_conditions_are_not_ranked(case: str, tmp_path: Path) -> None:
    one, other, reason = MIXED[case]
    written("low", 20.0, lr=0.1, **one)
    written("high", 30.0, lr=0.2, **other)
    found = compare(["low", "high"])
    assert [run.name for run in found.runs] == ["low", "high"]
    assert found.verdict.startswith("Not ranked: the scores were measured under different conditions")
    assert reason in found.verdict
    assert len(found.run_table().rows) == 2
    assert found.point_table().rows == found.against("low").rows == ()
    assert found.outcome("low") == found.verdict
    document = found.to_dict()
    assert document["ranked"] is False
    assert [(point["runs"], point["ahead"], point["too_close"]) for point in document["points"]] == [
        (["low"], None, False),
        (["high"], None, False),
    ]
    with pytest.raises(ValueError, match="unknown finished run to compare against 'lo'"):
        found.against("lo")
    pytest.importorskip("matplotlib")
    write_comparison_page(found, tmp_path / "page", "Runs", "daelab compare low high")
    assert "Not ranked" in (tmp_path / "page/compare.html").read_text(encoding="utf-8")
    assert {path.name for path in (tmp_path / "page").glob("*.svg")} == set()


def test_a_run_without_a_score_is_not_ranked() -> None:
    written("a", 20.0, noise="type-1")
    written("b", None)
    found = compare(["b", "a"])
    assert found.verdict == "Only a has a score: 20.00 dB."
    assert [len(point.runs) for point in found.points] == [1]
    json.dumps(found.to_dict(), allow_nan=False)


def test_conditions_of_unfinished_runs_do_not_matter() -> None:
    written("a", 20.0)
    written("b", 21.0, lr=0.5)
    written("c", None, "running", noise="type-1")
    found = compare(["a", "b", "c"])
    assert (found.mixed, found.runs[0].name, found.to_dict()["ranked"]) == ((), "b", True)


def test_the_same_seed_twice_is_no_spread() -> None:
    for name, lr in (("a", 0.1), ("b", 0.1), ("c", 0.2)):
        written(name, 25.0 if lr == 0.1 else 24.0, lr=lr)
    assert "No point has several seeds" in compare(["a", "b", "c"]).verdict


def test_mistakes_in_what_to_compare(tmp_path: Path) -> None:
    written("a", 25.0)
    with pytest.raises(ValueError, match="name two runs or more to compare, or --study STUDY; only a was named"):
        compare(["a", "a"])
    with pytest.raises(ValueError, match="unknown run 'bb'"):
        compare(["a", "bb"])
    Ledger().record("logged", status="imported")
    with pytest.raises(ValueError, match="run logged was imported from a log, so it has no recipe"):
        compare(["a", "logged"])


def test_the_folder_that_a_ledger_names_is_not_opened(tmp_path: Path) -> None:
    """The ledger may be a stranger's, so curves are read from the folder of the run's name alone."""
    for name in ("mine", "theirs"):
        written(name, 25.0, seed=len(name))
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.csv").write_text("epoch,val_loss\n1,root:x:0:0\n")
        Ledger().record(name, folder=str(tmp_path / name))
    own = get_run_folder("mine")
    own.path.mkdir(parents=True)
    own.write_metrics([{"epoch": 1, "val_loss": 0.5}])
    curves = {run.name: list(run.curve) for run in compare(["mine", "theirs"]).runs}
    assert curves == {"mine": [{"epoch": 1, "val_loss": 0.5}], "theirs": []}


def test_the_field_that_matters_is_found() -> None:
    names = []
    for number, (lr, batch) in enumerate((lr, batch) for lr in (0.1, 0.2, 0.3) for batch in (16, 32, 64)):
        names.append(f"r{number}")
        written(names[-1], 20 + 30 * lr + batch / 640, lr=lr, batch=batch)
    found = compare(names)
    cells = {name: [run.fields[f"training.{name}"] for run in found.runs] for name in ("lr", "batch")}
    shares, _ = compute_importances(cells, [run.psnr or 0.0 for run in found.runs])
    assert shares["lr"] > 0.9
    assert sum(shares.values()) == pytest.approx(1)


def test_a_page_holds_all_it_shows(pictures_file: Path, tmp_path: Path, sound_page: Callable[[Path], None]) -> None:
    pytest.importorskip("matplotlib")
    plain = tiny(pictures_file, training={"epochs": 1})
    searched(plain | {"explore": {"sampler": "grid", "seeds": 2, "trials": 3}})
    assert get_run_folder("tiny-0").path.joinpath("report.html").is_file()
    out = tmp_path / "out"
    found = compare(study="tiny")
    asked = ("--plot", "a comparison", "compare.json")
    check_report_folder(asked[0], out, *asked[1:])
    assert write_comparison_page(found, out, "Study tiny", "daelab compare") == []
    there = {path.name for path in out.iterdir()}
    figures = {"curves.svg", "parallel.svg", "psnr-over-macs.svg", "psnr-over-parameters.svg"}
    assert {"compare.html", "compare.md", "compare.json", "runs.csv", "points.csv"} | figures <= there
    page = (out / "compare.html").read_text(encoding="utf-8")
    assert page.count("data:image/svg+xml") >= len(figures)
    assert write_comparison_page(found, out, "Study tiny", "daelab compare", "tiny-0") == []
    assert "Against tiny-0" in (out / "compare.html").read_text(encoding="utf-8")
    sound_page(out / "compare.html")
    assert json.loads((out / "compare.json").read_text())["fields"] == ["seed", "spec.stages"]
    check_report_folder(asked[0], out, *asked[1:])
    before = (out / "curves.svg").read_bytes()
    write_comparison_page(found, out, "Study tiny", "daelab compare")
    assert (out / "curves.svg").read_bytes() == before
    with pytest.raises(ValueError, match="contains files that are not part of a comparison"):
        check_report_folder(asked[0], get_runs_root(), *asked[1:])
    with pytest.raises(ValueError, match="is a file; give the name of a folder"):
        check_report_folder(asked[0], out / "runs.csv", *asked[1:])
    with pytest.raises(NotADirectoryError):
        check_report_folder(asked[0], out / "runs.csv/page", *asked[1:])


def test_the_best_of_two_goals_is_what_nothing_beats() -> None:
    points = {"a": (25.0, 10.0), "b": (26.0, 20.0), "c": (24.0, 15.0), "d": (26.0, 30.0)}
    found = [SearchPoint({"x": name}, (name,), {"psnr": psnr, "macs": macs}) for name, (psnr, macs) in points.items()]
    assert [one.runs[0] for one in find_best_points(found, ["psnr", "macs"])] == ["a", "b"]
    assert [one.runs[0] for one in find_best_points(found, ["psnr"])] == ["b"]
    assert find_best_points([], ["psnr"]) == []
