"""The results of the paper, figure by figure, as data.

Source: C. Psychalas, "Exploring Convolutional Auto-encoders for Image Denoising", 2024. The measurements of daelab are
compared with these values.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedResult:
    """A row of the paper's Table 2, with the models that reproduce it."""

    title: str
    """The name of the model."""
    checkpoint: str
    """The file of the published weights."""
    val_loss: float
    """The validation loss (MSE)."""
    val_psnr: float
    """The validation batch PSNR, in dB."""
    macro_f1: float
    """The macro F1 of the ViT, by batches of four images."""
    sizes: str
    """The numbers of training and validation images."""
    ours: str | None
    """The name of our shipped model with this network and these sizes, if there is one."""


CLEAN_F1 = 0.9772
"""The macro F1 of the ViT on the clean images (Table 2)."""

TABLE_2 = (
    PublishedResult("Model-B (test 35)", "35.pt", 0.003199, 24.96, 0.6881, "20,000/5,000", "model-b-35"),
    PublishedResult("Model-C (test 37)", "37.pt", 0.002193, 26.60, 0.8099, "20,000/5,000", None),
    PublishedResult("Model-C (test 38)", "38.pt", 0.002002, 26.95, 0.8174, "40,000/10,000", "model-c"),
)
"""The rows of Table 2."""

TABLE_1 = (
    ("Type-I", "0.3", "0.05", "gaussian(0.3, 0.05)"),
    ("Type-II (image values used)", "0.8", "0.5", "multiplicative(0.8, 0.5)"),
    ("Type-I + Type-II", "0.2 / 0.2", "0.05 / 0.1", "gaussian(0.2, 0.05) > multiplicative(0.2, 0.1)"),
    ("Type-II + Type-I", "0.2 / 0.2", "0.2 / 0.05", "multiplicative(0.2, 0.2) > gaussian(0.2, 0.05)"),
)
"""The rows of Table 1: noise, mean, standard deviation, and the text form of the noise in daelab."""


@dataclass(frozen=True)
class PublishedRuntime:
    """A row of the paper's Table 3, with the recipe that reproduces it."""

    title: str
    """The name of the model."""
    recipe: str
    """The name of the recipe."""
    batch: int
    """The number of images in a batch."""
    train: int
    """The number of training images."""
    val: int
    """The number of validation images."""
    seconds: float
    """The seconds per epoch in the paper."""
    judged: bool = False
    """Whether a classifier scores the validation images ("+ ViT" in the paper)."""


TABLE_3 = (
    PublishedRuntime("Model-A (test 1)", "paper/1", 32, 45_000, 5_000, 57),
    PublishedRuntime("Model-A (test 5)", "paper/5", 64, 45_000, 5_000, 47),
    PublishedRuntime("Model-B (test 35)", "paper/35", 32, 20_000, 5_000, 15),
    PublishedRuntime("Model-B (test 35)", "paper/35", 64, 20_000, 5_000, 10),
    PublishedRuntime("Model-B (test 35 + a classifier)", "paper/35", 8, 1_000, 5_000, 140, judged=True),
    PublishedRuntime("Model-C (test 37)", "paper/37", 64, 20_000, 5_000, 20),
    PublishedRuntime("Model-C (test 38)", "paper/38", 128, 40_000, 10_000, 33),
)
"""The rows of Table 3."""
MACHINE = "Intel Core i7-8550U at 4 GHz (turbo), Nvidia MX150 with 2 GB, 16 GB of memory, Ubuntu 23.10"
"""The hardware of the paper."""

LAYERS = {
    "Figure 3": (
        "model-a",
        """Conv2d-1 64,32,32 1792; Conv2d-2 64,16,16 16448; Conv2d-3 32,16,16 18464; Conv2d-4 32,8,8 4128;
        Conv2d-5 16,8,8 4624; Conv2d-6 16,4,4 1040; Conv2d-7 8,4,4 1160; ConvTranspose2d-8 16,4,4 1168;
        ConvTranspose2d-9 16,8,8 1040; ConvTranspose2d-10 32,8,8 4640; ConvTranspose2d-11 32,16,16 4128;
        ConvTranspose2d-12 64,16,16 18496; ConvTranspose2d-13 64,32,32 16448; ConvTranspose2d-14 3,32,32 1731""",
    ),
    "Figure 5": (
        "model-b",
        """Conv2d-1 8,32,32 224; BatchNorm2d-2 8,32,32 16; Conv2d-3 8,16,16 264; BatchNorm2d-4 8,16,16 16;
        Conv2d-5 16,16,16 1168; BatchNorm2d-6 16,16,16 32; Conv2d-7 16,8,8 1040; BatchNorm2d-8 16,8,8 32;
        Conv2d-9 32,8,8 4640; BatchNorm2d-10 32,8,8 64; Conv2d-11 32,4,4 4128; BatchNorm2d-12 32,4,4 64;
        Conv2d-13 64,4,4 18496; BatchNorm2d-14 64,4,4 128; Conv2d-15 64,2,2 16448; BatchNorm2d-16 64,2,2 128;
        ConvTranspose2d-17 64,4,4 16448; BatchNorm2d-18 64,4,4 128; ConvTranspose2d-19 32,4,4 18464;
        BatchNorm2d-20 32,4,4 64; ConvTranspose2d-21 32,8,8 4128; BatchNorm2d-22 32,8,8 64;
        ConvTranspose2d-23 16,8,8 4624; BatchNorm2d-24 16,8,8 32; ConvTranspose2d-25 16,16,16 1040;
        BatchNorm2d-26 16,16,16 32; ConvTranspose2d-27 8,16,16 1160; BatchNorm2d-28 8,16,16 16;
        ConvTranspose2d-29 8,32,32 264; BatchNorm2d-30 8,32,32 16; ConvTranspose2d-31 3,32,32 219""",
    ),
    "Figure 6": (
        "model-c",
        """Conv2d-1 32,32,32 896; BatchNorm2d-2 32,32,32 64; Conv2d-3 32,16,16 4128; BatchNorm2d-4 32,16,16 64;
        Conv2d-5 64,16,16 18496; BatchNorm2d-6 64,16,16 128; Conv2d-7 64,8,8 16448; BatchNorm2d-8 64,8,8 128;
        ConvTranspose2d-9 64,16,16 16448; BatchNorm2d-10 64,16,16 128; ConvTranspose2d-11 32,16,16 18464;
        BatchNorm2d-12 32,16,16 64; ConvTranspose2d-13 32,32,32 4128; BatchNorm2d-14 32,32,32 64;
        ConvTranspose2d-15 3,32,32 867""",
    ),
}
"""The layer tables by figure: the preset, and the rows with layer, output shape without the batch, and parameters."""


def get_published_layers(figure: str) -> list[tuple[str, tuple[int, ...], int]]:
    """Return the rows of a layer table as the paper prints them.

    Args:
        figure: A key of `LAYERS`.

    Returns:
        the name, the output shape without the batch, and the number of parameters of each layer.
    """
    rows = []
    for text in LAYERS[figure][1].split(";"):
        name, shape, parameters = text.split()
        rows.append((name, tuple(map(int, shape.split(","))), int(parameters)))
    return rows


BEST_LOGGED = {"model-a": 0.0055616, "model-b": 0.0040090}
"""The lowest validation loss in the log: of tests 1 to 8 (Model-A), and of a network as deep as Figure 5 (test 15)."""

TESTS = 38
"""The number of tests in the paper's log."""
REPOSITORY = "https://github.com/Xritsos/Denoising"
"""The repository of the paper's code."""

DIFFERENCES = (
    (
        "Type-II + Type-I noise",
        "means 0.2 / 0.2, deviations 0.2 / 0.05 (Table 1)",
        "multiplicative(0.2, 0.2), then gaussian(0.1, 0.08)",
        "both, as the presets table-1 and published-code; the checkpoints were trained under the second",
    ),
    (
        "Model-B",
        "stages 8, 16, 32, 64 (Figure 5)",
        "test 35's weights hold the stages 8, 16 only: 5,539 parameters",
        "both, model-b and model-b-35",
    ),
    ("Model-A", "95,307 parameters (Figure 3)", "its file holds Model-C under another name", "Figure 3"),
    (
        "PSNR",
        "not defined",
        "of each batch, 10 log10(max² / MSE) with the batch's own maximum, averaged over batches",
        "that value as batch PSNR, beside the usual PSNR: mean over images, data range 1",
    ),
    (
        "Macro F1",
        "not defined",
        "of each batch of 4 images, averaged over batches: biased low",
        "both; the macro F1 over the whole set is the main one",
    ),
    (
        "Classifier",
        "ViT, fine-tuned on CIFAR-10",
        "the same",
        "a small classifier ships with daelab; --judge vit uses the ViT",
    ),
    (
        "Training images",
        "20,000 / 40,000",
        "drawn with replacement, unseeded: about 16,147 / 25,285 distinct ones",
        "distinct images for our models; with replacement in the recipes paper/1 to paper/38; always seeded",
    ),
    (
        "Validation noise",
        "not stated",
        "drawn again in every epoch, and used to choose the best epoch",
        "one fixed set of noisy validation images for each seed",
    ),
    ("Loss of test 38", "0.002002 (Table 2)", "0.0020209 (its log)", "both are given"),
    (
        "Learning rate",
        "constant, Adam",
        "the same",
        "our models: Muon, warm-up, a cosine schedule, a moving average of the weights; study/* as in the paper",
    ),
    ("Epochs", "300 and 600", "the same", "our models: as many as fit into 90 minutes on two cores"),
)
"""The differences between the paper, its published code and daelab, in this order after the topic."""
