"""F1 equals scikit-learn's. A classifier trains, resumes exactly, and predicts alike from a file, ONNX or code."""

from __future__ import annotations

import json
import math
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn import metrics as reference
from torch import Tensor, nn

from daelab._util.tensor_file import read_tensors, to_half_precision, write_tensors
from daelab.cli import main
from daelab.datasets.base import Dataset, ImageSet
from daelab.datasets.registry import load_dataset
from daelab.evaluation.classifiers import registry
from daelab.evaluation.classifiers.classifier import Classifier
from daelab.evaluation.classifiers.classifier_file import (
    INPUT_STATISTICS,
    ClassifierFile,
    ClassifierMetadata,
    read_classifier_file,
    read_classifier_metadata,
)
from daelab.evaluation.classifiers.external import resize_images
from daelab.evaluation.classifiers.network import (
    SCALE,
    TTA,
    average_views,
    build_classifier,
    compute_view_logits,
    compute_whitening,
    count_macs,
    make_views,
    prepare_classifier,
)
from daelab.evaluation.classifiers.recipe import (
    ClassifierNetworkConfig,
    ClassifierRecipe,
    ClassifierTrainingConfig,
    list_classifier_recipes,
    load_classifier_recipe,
)
from daelab.evaluation.classifiers.registry import list_shipped_classifiers, load_classifier
from daelab.evaluation.classifiers.vit import preprocess_for_vit
from daelab.evaluation.evaluate import evaluate_denoiser
from daelab.evaluation.f1 import (
    bootstrap_f1,
    confusion_matrix,
    macro_f1,
    macro_f1_batch4,
    per_class_scores,
    recovered_f1,
)
from daelab.experiments.train import train_classifier
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.build import build_network as build_model
from daelab.models.model_file import ModelMetadata, save_model
from daelab.noise.grammar import parse_noise
from daelab.runs.folder import get_run_folder
from daelab.runs.ledger import Ledger
from daelab.training.callbacks.progress import SilentProgress
from daelab.training.callbacks.record import TrainingInterrupted
from daelab.training.recipe import parse_recipe
from daelab.training.schedules import compute_classifier_rate
from daelab.training.tasks.classification import ClassificationTask, TrainedClassifier, fit_classifier
from daelab.training.tasks.classification_images import split_evenly, translate_images
from daelab.training.tasks.denoising import fit_denoiser

CPU = torch.device("cpu")
NAMES = ("red", "green", "blue")


def coloured(count: int, seed: int, side: int = 16) -> ImageSet:
    """Return images of noise in which one channel is brighter, which is the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    images = rng.integers(0, 180, (count, 3, side, side), dtype=np.uint8)
    images[np.arange(count), labels] += 70
    return ImageSet("coloured", images, labels, NAMES)


@pytest.fixture(scope="module")
def colours() -> Dataset:
    return Dataset("coloured", coloured(96, 0), None, coloured(30, 1), NAMES, "")


@pytest.fixture(scope="module")
def colours_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Write these images as a data set that a command can name."""
    path = tmp_path_factory.mktemp("data") / "colours.npz"
    made = coloured(96, 0)
    np.savez(path, images=made.images, labels=np.array(NAMES)[made.labels])
    return f"npz:{path}"


def tiny(**changes: object) -> ClassifierRecipe:
    """Return a recipe of three epochs with six steps of two parts each, in float32, which every processor computes."""
    training = {"epochs": 3, "batch": 16, "part": 8, "lr": 0.05, "lookahead": 4, "whiten_bias_epochs": 1}
    fields = {"network": {"widths": [6, 8]}, "training": training | {"precision": "float32"} | changes}
    return ClassifierRecipe.parse(fields)


def tensors(made: ClassifierFile) -> dict[str, Tensor]:
    return made.network.state_dict()


# F1

CASES = [(count, classes, seed) for count in (1, 3, 4, 64, 203) for classes in (2, 5, 10) for seed in (0, 1)]


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def answers(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray, int]:
    """Return labels and predictions, half of which are right; some classes may not occur."""
    count, classes, seed = request.param
    rng = np.random.default_rng(seed)
    labels, guesses = rng.integers(0, classes, (2, count))
    return labels, np.where(rng.random(count) < 0.5, labels, guesses), classes


def sk_f1(labels: np.ndarray, said: np.ndarray) -> float:
    return float(reference.f1_score(labels, said, average="macro", zero_division=0))


def test_f1_is_scikit_learns(answers: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, said, classes = answers
    assert macro_f1(labels, said, classes) == pytest.approx(sk_f1(labels, said), abs=1e-12)
    fours = [sk_f1(labels[i : i + 4], said[i : i + 4]) for i in range(0, len(labels), 4)]
    assert macro_f1_batch4(labels, said, classes) == pytest.approx(np.mean(fours), abs=1e-12)


def test_tables_are_scikit_learns(answers: tuple[np.ndarray, np.ndarray, int]) -> None:
    labels, said, classes = answers
    every = np.arange(classes)
    matrix = confusion_matrix(labels, said, classes)
    np.testing.assert_array_equal(matrix, reference.confusion_matrix(labels, said, labels=every))
    expected = reference.precision_recall_fscore_support(labels, said, labels=every, zero_division=0)
    for column, values in zip(per_class_scores(matrix).values(), expected[:3], strict=True):
        np.testing.assert_allclose(column, values)


@pytest.mark.parametrize(
    ("noisy", "denoised", "clean", "expected"),
    [
        (0.5, 0.8, 0.9, 0.75),
        (0.5, 0.4, 0.9, -0.25),
        (0.2, 0.2, 0.7, 0.0),
        (0.6, 0.7, 0.6, math.nan),
        (0.4, 0.2, 0.3, math.nan),  # nothing was lost that could be recovered
    ],
)
def test_recovered(noisy: float, denoised: float, clean: float, expected: float) -> None:
    assert recovered_f1(noisy, denoised, clean) == pytest.approx(expected, nan_ok=True)


def test_the_interval_is_that_of_resampled_images() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, 500)
    said = np.where(rng.random(500) < 0.7, labels, rng.integers(0, 4, 500))
    low, high = bootstrap_f1(confusion_matrix(labels, said, 4))
    drawn = rng.integers(0, 500, (1000, 500))
    expected = np.quantile([macro_f1(labels[d], said[d], 4) for d in drawn], [0.025, 0.975])
    assert (low, high) == pytest.approx(expected, abs=0.005)
    assert bootstrap_f1(confusion_matrix(labels, said, 4)) == (low, high)


def test_nothing_to_score_is_no_number() -> None:
    none = np.zeros(0, np.int64)
    assert math.isnan(macro_f1(none, none, 3))
    assert math.isnan(macro_f1_batch4(none, none, 3))
    assert math.isnan(bootstrap_f1(confusion_matrix(none, none, 3))[0])


# The network

SHAPES = [
    ClassifierNetworkConfig(widths=(8, 12), kernel=2, skips="preactivation"),
    *(
        ClassifierNetworkConfig(widths=(4,), kernel=1),
        ClassifierNetworkConfig(widths=(8, 4)),
        ClassifierNetworkConfig(widths=(4, 4, 8), kernel=3),
    ),
    ClassifierNetworkConfig(widths=(4, 8), skips="residual"),
]


@pytest.mark.parametrize("side", [1, 2, 3])
def test_the_first_layer_whitens(side: int) -> None:
    x = torch.from_numpy(coloured(64, 2).images).float() / 255
    x = F.avg_pool2d(x - x.mean((0, 2, 3), keepdim=True), 2, 1)  # neighbours alike, as in pictures
    filters = compute_whitening(x, side, eps=0.0)
    assert filters.shape == (3 * side**2, 3, side, side)
    out = F.conv2d(x, filters).transpose(0, 1).flatten(1)
    torch.testing.assert_close(torch.cov(out), torch.eye(len(out)), atol=2e-3, rtol=0)


def test_whitening_stays_finite_without_content() -> None:
    assert compute_whitening(torch.zeros(4, 3, 8, 8), 2).isfinite().all()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_built_saved_and_loaded_is_equal(shape: ClassifierNetworkConfig, tmp_path: Path, colours: Dataset) -> None:
    net = build_classifier(shape, 3)
    prepare_classifier(net, torch.from_numpy(colours.train.batch(np.arange(96))))
    card = ClassifierMetadata(name="x", network=shape, classes=NAMES, size=(16, 16), tta="none")
    ClassifierFile(net, card).save(tmp_path / "x.safetensors")
    loaded = read_classifier_file(tmp_path / "x.safetensors")
    assert loaded.card == card
    net.load_state_dict(to_half_precision(net.state_dict(), INPUT_STATISTICS))
    x = torch.rand(5, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(loaded.network(x), net.eval()(x))
    ClassifierFile(loaded.network, card).save(tmp_path / "y.safetensors")
    assert (tmp_path / "y.safetensors").read_bytes() == (tmp_path / "x.safetensors").read_bytes()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_features_are_what_each_block_gives(shape: ClassifierNetworkConfig) -> None:
    net, x = build_classifier(shape, 3).eval(), torch.rand(2, 3, 16, 16)
    found = net.features(x)
    assert [one.shape[1] for one in found] == list(shape.widths)
    if shape.skips == "preactivation":
        torch.testing.assert_close(net(x), net.head(F.silu(net.norm(found[-1])).mean((-2, -1))))
    else:
        torch.testing.assert_close(net(x), net.head(found[-1].amax((-2, -1))) * SCALE)


def test_macs_count_every_convolution() -> None:
    for shape in SHAPES:
        net = build_classifier(shape, 2).eval()
        counted = net.head.weight.numel()

        def count(module: nn.Module, _: object, out: Tensor) -> None:
            nonlocal counted
            assert isinstance(module, nn.Conv2d)
            counted += out[0].numel() * module.weight[0].numel()

        for module in net.modules():
            if isinstance(module, nn.Conv2d):
                module.register_forward_hook(count)
        net(torch.rand(1, 3, 32, 32))
        assert count_macs(shape, 32, 32) == counted


def test_convolutions_begin_as_identities() -> None:
    weight = build_classifier(ClassifierNetworkConfig(widths=(30, 40), kernel=2), 3).blocks[0].conv1.weight
    x = torch.rand(1, 24, 6, 6)
    torch.testing.assert_close(F.conv2d(x, weight.detach(), padding=1)[:, :24], x)
    assert weight[24:].std() > 0.01


def test_one_seed_one_network_and_no_trace_in_the_global_one() -> None:
    before = torch.get_rng_state()
    one, same, other = (build_classifier(SHAPES[2], 3, seed).head.weight for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("tta", TTA)
def test_views_are_weighted_to_one(tta: str) -> None:
    assert sum(TTA[tta]) == 1
    x = torch.rand(2, 3, 8, 8)
    seen = list(make_views(x, len(TTA[tta])))
    assert len(seen) == len(TTA[tta])
    assert torch.equal(seen[0], x)
    assert all(view.shape == x.shape for view in seen)
    if tta != "none":
        net = build_classifier(SHAPES[2], 3).eval()
        one, mirrored = (
            average_views(compute_view_logits(net, image, len(seen), "float32"), tta) for image in (x, x.flip(-1))
        )
        assert one.shape == (2, 3)
        if tta == "mirror":
            torch.testing.assert_close(one, mirrored)


def test_macs_are_those_of_the_convolutions() -> None:
    assert count_macs(ClassifierNetworkConfig(widths=(64, 256, 256)), 32, 32) == pytest.approx(118.2e6, rel=0.01)


@pytest.mark.parametrize("name", list_classifier_recipes())
def test_what_ships_is_small(name: str) -> None:
    net = build_classifier(load_classifier_recipe(name).network, 10)
    bytes_ = sum(t.numel() * t.element_size() for t in to_half_precision(net.state_dict(), INPUT_STATISTICS).values())
    assert bytes_ < 10e6


# Training


FILES = {"recipe.toml", "environment.json", "metrics.csv", "checkpoint.safetensors", "judge.safetensors"}


class Killer(SilentProgress):
    """An observer that sends a signal to this process after a step, counted from the start, or during the test."""

    def __init__(self, after: int = 0, *, in_test: bool = False) -> None:
        self.left, self.in_test = after, in_test

    def step(self, epoch: int, step: int, images_per_second: float) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGTERM)

    def test(self, done: int, images: int) -> None:
        if self.in_test:
            os.kill(os.getpid(), signal.SIGTERM)


def without_times(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: value for k, value in row.items() if k not in ("seconds", "images_per_second")} for row in rows]


def test_a_classifier_learns(colours: Dataset) -> None:
    trained = fit_classifier(tiny(epochs=6), "a", dataset=colours)
    made, folder = trained.file, trained.run.path
    accuracy = made.card.metrics["test"]["accuracy"]
    assert set(accuracy) == set(TTA)
    assert accuracy["mirror"] > 0.9
    assert made.card.metrics["test"]["images"] == 30
    assert made.card.classes == NAMES
    assert {path.name for path in folder.iterdir()} == FILES
    loaded = read_classifier_file(trained.path)
    assert loaded.card == made.card
    x = torch.from_numpy(colours.test.batch(np.arange(30))).float() / 255
    answers = load_classifier(str(trained.path), device=CPU)(x)
    assert (answers.numpy() == colours.test.labels).mean() > 0.9


def test_a_classifier_leaves_the_same_records_as_a_denoiser(colours: Dataset) -> None:
    trained = fit_classifier(tiny(), "a", dataset=colours)
    rows = trained.run.read_metrics()
    assert rows == trained.rows
    columns = ["epoch", "learning_rate", "train_loss", "seconds", "images_per_second", "train_accuracy"]
    assert [list(row) for row in rows] == [columns] * 3
    row = Ledger().get_run("a")
    assert (row["status"], row["epochs_done"], row["epochs"], row["train_size"]) == ("finished", 3, 3, 96)
    assert (row["recipe"], row["recipe_sha256"]) == (tiny().to_dict(), tiny().sha256)
    assert row["parameters"] == sum(p.numel() for p in trained.file.network.parameters())
    assert (row["architecture"], row["val_loss"]) == ("classifier 6, 8", None)


@pytest.fixture(scope="module")
def uninterrupted(colours: Dataset, tmp_path_factory: pytest.TempPathFactory) -> TrainedClassifier:
    root = tmp_path_factory.mktemp("whole")
    return fit_classifier(tiny(), "a", dataset=colours, runs_root=root, ledger=Ledger(f"sqlite:///{root}/ledger.db"))


def interrupt(colours: Dataset, killer: Killer) -> None:
    with pytest.raises(TrainingInterrupted, match="daelab train-judge --resume a"):
        fit_classifier(tiny(), "a", dataset=colours, progress=killer)
    assert Ledger().get_run("a")["status"] == "interrupted"


@pytest.mark.parametrize("after", [1, 5, 6, 7, 17, 18])
def test_resumed_is_uninterrupted(after: int, uninterrupted: TrainedClassifier, colours: Dataset) -> None:
    interrupt(colours, Killer(after))
    again = fit_classifier(tiny(), "a", dataset=colours, resume=True)
    whole = tensors(uninterrupted.file)
    assert tensors(again.file).keys() == whole.keys()
    assert all(torch.equal(value, whole[name]) for name, value in tensors(again.file).items())
    assert again.file.card.metrics == uninterrupted.file.card.metrics
    assert without_times(again.rows) == without_times(uninterrupted.rows)
    assert Ledger().get_run("a")["status"] == "finished"


def test_an_interrupted_test_is_repeated(uninterrupted: TrainedClassifier, colours: Dataset) -> None:
    interrupt(colours, Killer(in_test=True))
    assert not (get_run_folder("a").path / "judge.safetensors").exists()
    again = fit_classifier(tiny(), "a", dataset=colours, resume=True)
    assert again.file.card.metrics == uninterrupted.file.card.metrics


def test_a_checkpoint_of_version_0_1_0_resumes(uninterrupted: TrainedClassifier, colours: Dataset) -> None:
    interrupt(colours, Killer(7))
    path = get_run_folder("a").checkpoint
    header, stored = read_tensors(path)
    del header["checkpoint"], header["best"]
    old = {}
    for name, tensor in stored.items():
        name = name.replace("average.", "slow.").replace("loss_sum", "sums")
        if name.startswith("optimiser."):
            name = name.replace("optimiser.", "momentum.").removesuffix(".momentum_buffer")
        old[name] = tensor
    write_tensors(path, old, header | {"judge_checkpoint": 1})
    again = fit_classifier(tiny(), "a", dataset=colours, resume=True)
    whole = tensors(uninterrupted.file)
    assert all(torch.equal(value, whole[name]) for name, value in tensors(again.file).items())


def test_another_seed_is_another_judge(uninterrupted: TrainedClassifier, colours: Dataset) -> None:
    other = fit_classifier(tiny().model_copy(update={"seed": 1}), "b", dataset=colours)
    assert not torch.equal(tensors(other.file)["head.weight"], tensors(uninterrupted.file)["head.weight"])


def test_a_checkpoint_of_another_recipe_is_refused(colours: Dataset) -> None:
    fit_classifier(tiny(epochs=1), "a", dataset=colours)
    with pytest.raises(ValueError, match="another recipe"):
        fit_classifier(tiny(epochs=2), "a", dataset=colours, resume=True)


def test_a_diverging_classifier_is_one_line(colours: Dataset) -> None:
    with pytest.raises(ValueError, match=r"epoch 1: the loss became infinite or NaN; .*; try a lower training.lr"):
        fit_classifier(tiny(lr=1e30), "a", dataset=colours)


def test_parts_change_only_the_statistics() -> None:
    x = torch.arange(10)
    for size, lengths in ((10, [10]), (4, [5, 5]), (3, [4, 3, 3]), (100, [10])):
        assert [len(part) for part in split_evenly(x, size)] == lengths


def test_images_move_over_a_reflected_border() -> None:
    x = torch.rand(5, 3, 6, 7)
    corners = np.random.default_rng(0).integers(0, 5, (2, 5))
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)), "reflect")
    expected = [padded[i, :, top : top + 6, left : left + 7] for i, (top, left) in enumerate(corners.T)]
    np.testing.assert_array_equal(translate_images(x, corners, 2).numpy(), np.stack(expected))


def test_each_image_is_mirrored_every_second_epoch(colours: Dataset) -> None:
    task = ClassificationTask(tiny(translate=0), colours, CPU)
    plain = task.images.float() / 255
    first, second, third = (task.make_batch(np.arange(96), epoch * task.steps).images for epoch in (0, 1, 2))
    mirrored = (first != plain).flatten(1).any(1)
    assert 20 < int(mirrored.sum()) < 76
    assert torch.equal(second, first.flip(-1))
    assert torch.equal(third, first)


def test_the_rate_is_a_triangle() -> None:
    settings = ClassifierTrainingConfig()
    rates = [compute_classifier_rate(settings, step / 1000) for step in range(1001)]
    assert rates[0] == settings.start_lr
    assert max(rates) == rates[230] == 1
    assert rates[-1] == pytest.approx(settings.final_lr)


def test_only_some_images_are_learnt_where_asked(colours: Dataset) -> None:
    fields = tiny().to_dict() | {"data": {"train": 20}}
    assert len(ClassificationTask(ClassifierRecipe.parse(fields), colours, CPU).images) == 20


# Recipes


@pytest.mark.parametrize("name", [*list_classifier_recipes(), "judge", "photos"])
def test_shipped_recipes_load_and_come_back(name: str, tmp_path: Path) -> None:
    found = load_classifier_recipe(name, ["seed=3"])
    assert found.seed == 3
    path = tmp_path / "copy.toml"
    path.write_text(found.to_toml())
    assert load_classifier_recipe(path) == found
    assert load_classifier_recipe(path).sha256 == found.sha256 != load_classifier_recipe(name).sha256


@pytest.mark.parametrize(
    ("overrides", "hint"),
    [
        (["training.lrr=1"], "did you mean 'training.lr'"),
        (["training.lr=-1"], "training.lr"),
        (["network.widths=[]"], "network.widths"),
        (["data.name=foto"], "photos"),
        (["tta=all"], "tta"),
        (["seed"], "field=value"),
        (["seed.x=1"], "seed"),
    ],
)
def test_mistakes_in_a_recipe_are_one_line(overrides: list[str], hint: str) -> None:
    with pytest.raises(ValueError, match=hint.replace("[", r"\[")) as caught:
        load_classifier_recipe("judge/photos", overrides)
    assert "\n" not in str(caught.value)


# Judges from elsewhere


class Brightest(nn.Module):
    """A classifier whose scores are the means of the channels."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def write_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.joinpath("mine_for_daelab.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    classes = ('red', 'green', 'blue')\n"
        "    size = (4, 4)\n"
        "    def forward(self, x):\n"
        "        assert x.shape[-2:] == (4, 4)\n"
        "        return x.mean((2, 3))\n"
        "def broken(): raise RuntimeError('no weights\\nhere')\n"
        "def number(): return 3\n"
        "def lazy(): return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(3))\n"
        "class Flat(Net):\n"
        "    def forward(self, x): return x.flatten()\n"
    )
    monkeypatch.chdir(folder)
    monkeypatch.delitem(sys.modules, "mine_for_daelab", raising=False)


@pytest.fixture
def pixels(colours: Dataset) -> Tensor:
    return torch.from_numpy(colours.test.batch(np.arange(30))).float() / 255


def test_a_judge_from_a_factory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: Dataset, pixels: Tensor
) -> None:
    write_module(tmp_path, monkeypatch)
    for text in ("mine_for_daelab:Net", "judge:mine_for_daelab:Net"):
        found = load_classifier(text)
        assert found.classes == NAMES
        assert found(pixels).dtype == torch.int64
        np.testing.assert_array_equal(found(pixels).numpy(), colours.test.labels)
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize("fixed", [(), (1, 8, 8), (7, 16, 16)], ids=str)
def test_a_judge_from_onnx(fixed: tuple[int, ...], tmp_path: Path, colours: Dataset, pixels: Tensor) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    shape = [fixed[0], 3, *fixed[1:]] if fixed else ["n", 3, "h", "w"]
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["x"], ["pooled"]),
        onnx.helper.make_node("Flatten", ["pooled"], ["scores"]),
    ]
    graph = onnx.helper.make_graph(
        nodes,
        "brightest",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [shape[0], 3])],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    onnx.helper.set_model_props(model, {"classes": json.dumps(NAMES)})
    onnx.save(model, tmp_path / "mine.onnx")
    found = load_classifier(str(tmp_path / "mine.onnx"))
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert found.classes == NAMES
    # 30 is no multiple of 7, so the last batch of such a graph is filled.
    np.testing.assert_array_equal(found(pixels).numpy(), colours.test.labels)


CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(scope="module")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small random vision transformer whose labels have another order than CIFAR-10's."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    names = dict(enumerate(reversed(CIFAR)))
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=224,
        patch_size=16, id2label=names, label2id={name: place for place, name in names.items()}
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("vit")
    transformers.ViTForImageClassification(config).save_pretrained(folder)
    return folder


def test_the_papers_judge_prepares_images_as_transformers_does(vit_folder: Path) -> None:
    import transformers
    from PIL import Image

    images = coloured(6, 3, side=32).images
    pictures = [Image.fromarray(image.transpose(1, 2, 0)) for image in images]
    processor = transformers.ViTImageProcessorPil()
    expected = processor(pictures, return_tensors="pt")["pixel_values"]
    half = torch.full((3, 1, 1), 0.5)
    x = torch.from_numpy(images).float() / 255
    found = preprocess_for_vit(x, (224, 224), half, half)
    # Pillow rounds once more between the two axes
    assert (found - expected).abs().max() <= 2.01 * 2 / 255
    assert (found - expected).abs().mean() < 0.5 * 2 / 255


def test_the_papers_judge_maps_its_labels_by_name(vit_folder: Path) -> None:
    found = load_classifier("judge:vit", vit_folder, CPU)
    x = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert found.classes == CIFAR[::-1]
    own = found(x)
    assert torch.equal(found.on(CIFAR)(x), 9 - own)


def test_weights_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers", reason="transformers is not installed")
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    for path in (None, tmp_path):
        with pytest.raises(FileNotFoundError, match="--judge-path DIR") as caught:
            load_classifier("vit", path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list_shipped_classifiers())
def test_what_ships_judges_as_its_header_says(name: str, request: pytest.FixtureRequest) -> None:
    path = list_shipped_classifiers()[name]
    assert path.stat().st_size < 10e6
    card = read_classifier_metadata(path)
    assert card.name == name
    said = card.metrics["test"]["accuracy"][card.tta]
    assert said >= (0.88 if name == "unseen" else 0.94)  # a smaller network, which also withstands noise better
    root = request.getfixturevalue("cifar_root") if card.data["name"] == "cifar10" else None
    test = load_dataset(card.data["name"], root, download=False, train=False).test
    places = np.linspace(0, len(test) - 1, 200).astype(np.int64)
    x = torch.from_numpy(test.batch(places)).float() / 255
    right = float((load_classifier(name)(x).numpy() == test.labels[places]).mean())
    assert right == pytest.approx(said, abs=0.04)


def test_shipped_weights_that_are_not_there_say_what_makes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "list_shipped_classifiers", dict)
    for name, words in (("builtin", "judge/cifar10"), ("photos", "judge/photos")):
        with pytest.raises(FileNotFoundError, match=f"daelab train-judge --recipe {words}"):
            load_classifier(name)


MISTAKES = [
    ("bulitin", "did you mean 'builtin'"),
    ("nowhere.onnx", "nowhere.onnx"),
    ("nowhere.safetensors", "nowhere.safetensors"),
    ("nowhere_at_all:make", "No module named"),
    ("mine_for_daelab:nothing", "nothing"),
    ("mine_for_daelab:broken", "RuntimeError: no weights"),
    ("mine_for_daelab:number", "int, not an nn.Module"),
    ("mine_for_daelab:", "mine_for_daelab:"),
    ("model.safetensors", "not a classifier"),
    ("cut.safetensors", "cut.safetensors"),
    ("text.safetensors", "not a safetensors file"),
    ("text.onnx", "text.onnx"),
    ("other.safetensors", "tensors are not those"),
    ("header.safetensors", "classes"),
]


@pytest.fixture
def wrong_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, monkeypatch)
    model = build_model(ARCHITECTURE_PRESETS["model-b-35"], 0)
    save_model(tmp_path / "model.safetensors", model, ModelMetadata(spec=model.spec))
    for name in ("text.safetensors", "text.onnx"):
        (tmp_path / name).write_text("hello " * 10)
    net = build_classifier(SHAPES[2], 3)
    card = ClassifierMetadata(name="x", network=SHAPES[2], classes=NAMES, size=(16, 16), tta="none")
    ClassifierFile(net, card).save(tmp_path / "whole.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "whole.safetensors").read_bytes()[:-100])
    ClassifierFile(net, card.model_copy(update={"network": SHAPES[3]})).save(tmp_path / "other.safetensors")
    header = card.model_dump(mode="json") | {"classes": 3}
    write_tensors(tmp_path / "header.safetensors", net.state_dict(), header)


@pytest.mark.parametrize(("text", "hint"), MISTAKES)
@pytest.mark.usefixtures("wrong_files")
def test_a_mistake_is_one_line(text: str, hint: str) -> None:
    if text.endswith(".onnx"):
        pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    with pytest.raises((ValueError, OSError), match=hint) as caught:
        load_classifier(text)
    assert "\n" not in str(caught.value)


def test_scores_of_the_wrong_shape_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pixels: Tensor) -> None:
    write_module(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match=r"\(1440,\) for 30 images|for 30 images"):
        load_classifier("mine_for_daelab:Flat")(pixels)


def test_scores_that_are_no_numbers_are_refused(pixels: Tensor) -> None:
    """NaN would count as the first class, and the accuracy would look like one."""
    scores = torch.zeros(len(pixels), 3)
    scores[7, 1] = math.nan
    with pytest.raises(ValueError, match="classifier broken: it returned NaN"):
        Classifier("broken", lambda _: scores, NAMES)(pixels)
    scores[7, 1] = -math.inf  # the logarithm of a probability of zero
    assert Classifier("sure", lambda _: scores, NAMES)(pixels).shape == (30,)


def test_a_network_that_is_not_complete_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_module(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="classifier mine_for_daelab:lazy: ValueError: Attempted to use an uninit"):
        load_classifier("mine_for_daelab:lazy")


def test_only_vit_takes_a_path() -> None:
    with pytest.raises(ValueError, match="only vit"):
        load_classifier("builtin", "somewhere")


# A judge and a data set's classes


def channel_judge(classes: tuple[str, ...] = NAMES, seen: list[int] | None = None) -> Classifier:
    def logits(x: Tensor) -> Tensor:
        if seen is not None:
            seen.append(len(x))
        return x.mean((2, 3))

    return Classifier("channels", logits, classes)


def test_classes_are_matched_by_name(pixels: Tensor, colours: Dataset) -> None:
    own = channel_judge()(pixels)
    assert torch.equal(channel_judge().on(("blue", "green", "red"))(pixels), 2 - own)
    assert torch.equal(channel_judge(()).on(NAMES)(pixels), own)
    with pytest.raises(ValueError, match="does not know the classes cat of coloured; it knows red, green, blue"):
        channel_judge().on(("cat", "red"), "coloured")
    with pytest.raises(ValueError, match="scores of 4 classes"):
        channel_judge(()).on(("a", "b", "c", "d"))(pixels)


def test_clean_answers_are_remembered(pixels: Tensor) -> None:
    seen: list[int] = []
    found = channel_judge((), seen).on(NAMES)
    assert torch.equal(found.remembered(pixels), found.remembered(pixels.clone()))
    assert seen == [30]
    found.remembered(1 - pixels)
    assert seen == [30, 30]


def test_resizing_leaves_the_right_size_alone(pixels: Tensor) -> None:
    assert resize_images(pixels, (16, 16)) is pixels
    assert resize_images(pixels, (24, 20)).shape == (30, 3, 24, 20)


# In an evaluation

MIXED = "gaussian(0.1, 0.3) | multiplicative(0.1, 0.8)"


def test_an_evaluation_with_a_judge(colours: Dataset) -> None:
    def half(x: Tensor) -> Tensor:
        return x.roll(1, 1)  # red becomes green: every answer is wrong

    found = evaluate_denoiser(half, colours.test, parse_noise(MIXED), judge=channel_judge(), batch=7)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["judge"] == "channels"
    assert set(plain["macro_f1"]) == {"clean", "noisy", "denoised", "recovered", "ci95"}
    assert set(plain["macro_f1_batch4"]) == {"clean", "noisy", "denoised"}
    assert set(plain["accuracy"]) == {"clean", "noisy", "denoised"}
    assert plain["macro_f1"]["clean"] == 1
    assert plain["macro_f1"]["denoised"] < 0.2 < plain["macro_f1"]["noisy"] <= 1
    assert [np.sum(plain["confusion"][kind]) for kind in ("clean", "noisy", "denoised")] == [30, 30, 30]
    assert plain["confusion"]["clean"] == [[10, 0, 0], [0, 10, 0], [0, 0, 10]]
    assert set(plain["per_class"]) == set(NAMES)
    assert plain["per_class"]["red"]["clean"] == {"precision": 1, "recall": 1, "f1": 1}
    for component in plain["components"]:
        assert component["macro_f1"]["clean"] == 1
    whole = found.overall.judged
    assert whole is not None
    parts = [part.judged for part in found.components if part.judged]
    right = sum(part.accuracy["noisy"] * len(part.labels) for part in parts)
    assert right == pytest.approx(30 * whole.accuracy["noisy"])


def test_without_a_judge_nothing_changes(colours: Dataset) -> None:
    plain = evaluate_denoiser(lambda x: x, colours.test, parse_noise(MIXED)).to_dict()
    assert not {"judge", "macro_f1", "confusion"} & set(plain)


def test_a_judge_of_other_classes_is_refused(colours: Dataset) -> None:
    with pytest.raises(ValueError, match="does not know the classes red, green, blue of coloured"):
        evaluate_denoiser(lambda x: x, colours.test, parse_noise(MIXED), judge=channel_judge(CIFAR))


# The commands

SETS = ["--set=network.widths=[6, 8]", "--set=training.batch=16", "--set=training.lr=0.05"]


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., tuple[int, str, str]]:
    """Run a command in its own folder, and return the exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DAELAB_RUNS", "runs")

    def command(*words: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["daelab", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return command


def test_train_judge_and_evaluate_with_it(run: Callable[..., tuple[int, str, str]], colours_file: str) -> None:
    words = ["train-judge", "--set", f"data.name={colours_file}", "--set=training.epochs=2", *SETS]
    code, out, err = run(*words, "--name", "j", "--save", "j.safetensors", "--json")
    assert code == 0, err
    made = json.loads(out)
    assert (made["run"], made["judge"], made["classes"]) == ("j", "j.safetensors", sorted(NAMES))
    assert "epoch 2/2" in err
    assert "left 0:00:00" in err
    assert {path.name for path in Path("runs/j").iterdir()} == FILES
    assert read_classifier_file("j.safetensors").card.name == "j"
    code, out, _ = run("train-judge", "--resume", "j")
    assert code == 0
    assert "accuracy" in out
    model = build_model(ARCHITECTURE_PRESETS["model-b-35"], 0)
    save_model(Path("m.safetensors"), model, ModelMetadata(spec=model.spec, noise="type-1"))
    words = ["evaluate", "m.safetensors", "--data", colours_file, "--judge", "j.safetensors"]
    code, out, err = run(*words, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert found["judge"] == "j.safetensors"
    assert {"clean", "noisy", "denoised", "recovered"} <= set(found["macro_f1"])
    code, out, _ = run(*words)
    assert code == 0
    assert "macro F1 of batches of 4" in out
    assert all(name in out for name in NAMES)


def test_a_signal_saves_and_says_how_to_go_on(colours_file: str) -> None:
    fields = tiny().to_dict() | {"data": {"name": colours_file}}
    with pytest.raises(TrainingInterrupted, match="daelab train-judge --resume j") as caught:
        train_classifier(ClassifierRecipe.parse(fields), "j", progress=Killer(2))
    assert caught.value.signum == signal.SIGTERM
    again = train_classifier(name="j", resume=True)
    whole = train_classifier(ClassifierRecipe.parse(fields), "whole")
    assert all(torch.equal(value, tensors(whole.file)[name]) for name, value in tensors(again.file).items())
    with pytest.raises(ValueError, match="exists"):
        train_classifier(ClassifierRecipe.parse(fields), "j")


def test_a_run_of_the_other_kind_is_told_by_the_command_that_resumes_it(
    run: Callable[..., tuple[int, str, str]], colours_file: str
) -> None:
    words = ["train-judge", "--set", f"data.name={colours_file}", "--set=training.epochs=1", *SETS, "--name", "j"]
    assert run(*words)[0] == 0
    fields = {"data": {"name": colours_file}, "spec": {"stages": [4]}, "training": {"epochs": 1}}
    fit_denoiser(parse_recipe(fields), "d")
    for words, line in (
        (["train", "--resume", "j"], "run j is the training of a classifier; use daelab train-judge --resume j"),
        (["train-judge", "--resume", "d"], "run d is the training of a denoiser; use daelab train --resume d"),
        (["compare", "d", "j"], "run j is the training of a classifier; only denoisers can be compared"),
    ):
        assert run(*words) == (2, "", f"daelab: {line}\n")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("train-judge", "--recipe", "judge/foto"), "did you mean 'judge/photos'"),
        (("train-judge", "--resume", "nobody"), "no run nobody"),
        (("train-judge", "--resume", "x", "--set", "seed=1"), "--resume"),
        (("train-judge", "--save", "x.pt"), ".safetensors"),
        (("train-judge", "--set", "data.name=npz:nowhere.npz"), "nowhere.npz"),
        (("evaluate", "m.safetensors", "--judge", "nobody"), "unknown classifier 'nobody'"),
    ],
)
def test_a_wrong_command_is_one_line(
    run: Callable[..., tuple[int, str, str]], words: tuple[str, ...], hint: str
) -> None:
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert hint in err
    assert err.count("\n") == 1
