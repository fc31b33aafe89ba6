"""The shipped recipes of the paper's 38 tests hold the values of its log, and the networks that follow from them."""

from __future__ import annotations

import pytest

from daelab.models.architectures.autoencoder import Autoencoder, Stage
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.training.recipe import DataConfig, TrainingConfig, list_recipes, load_recipe

DOWNLESS = Stage(64, down=False)
ARCHITECTURES = {
    "A": ARCHITECTURE_PRESETS["model-a"],
    "A+norm": Autoencoder(ARCHITECTURE_PRESETS["model-a"].stages, norm="batch"),
    "rev": Autoencoder((Stage(8), Stage(16), Stage(32), DOWNLESS), norm="none"),
    "rev+norm": Autoencoder((Stage(8), Stage(16), Stage(32), DOWNLESS)),
    "B": ARCHITECTURE_PRESETS["model-b"],
    "8-16-32": Autoencoder((Stage(8), Stage(16), Stage(32))),
    "B35": ARCHITECTURE_PRESETS["model-b-35"],
    "B35-less": Autoencoder((Stage(8), Stage(16, down=False))),
    "C": ARCHITECTURE_PRESETS["model-c"],
}
# test id, architecture, batch, lr, epochs, training images, validation images, what else differs from Adam
LOG = """
     1  A         32  0.0001  400  45000   5000
     2  A         32  0.0001  200  45000   5000  amsgrad
     3  A         32  0.001   200  45000   5000
     4  A         32  0.001   200  45000   5000  amsgrad
     5  A         64  0.0001  200  45000   5000
     6  A         64  0.001   200  45000   5000
     7  A         32  0.01    200  20000   5000
     8  A         32  0.001   400  20000   5000
     9  A+norm    32  0.001   100  20000   5000
    10  A+norm    32  0.005   100  20000   5000
    11  A+norm    16  0.005   100  20000   5000
    12  rev       32  0.005   100  20000   5000
    13  rev       32  0.01    100  20000   5000
    14  rev+norm  32  0.005   100  20000   5000
    15  rev+norm  32  0.001   300  20000   5000
    16  B         32  0.005   100  20000   5000
    17  8-16-32   32  0.005   100  20000   5000
    18  B35       32  0.005   100  20000   5000
    19  B35       64  0.005   100  20000   5000
    20  B35      128  0.005   100  20000   5000
    21  B35       64  0.001   100  20000   5000
    22  B35       64  0.0001  100  20000   5000
    23  B35       64  0.0008  100  20000   5000
    24  B35       64  0.0008  100  20000   5000  decay
    25  B35      256  0.0008  100  20000   5000
    26  B35      512  0.001   100  20000   5000
    27  B35       32  0.005   200  20000   5000
    28  B35       32  0.008   400  20000   5000
    29  B35-less  32  0.005   100  20000   5000
    30  B         32  0.005   100  20000   5000
    31  B         32  0.01    100  20000   5000
    32  B         32  0.07    100  20000   5000
    33  B         32  0.01    200  20000   5000
    34  B35       32  0.1     600  20000   5000  sgd
    35  B35       32  0.005   600  20000   5000
    36  C         64  0.001   100  30000  10000
    37  C         64  0.003   200  20000   5000
    38  C        128  0.005   300  40000  10000
"""
OTHERWISE = {
    "amsgrad": {"amsgrad": True},
    "decay": {"weight_decay": 0.005},
    "sgd": {"optimiser": "sgd", "momentum": 0.5},
}
ROWS = [line.split() for line in LOG.strip().splitlines()]


def test_all_38_ship_in_the_order_of_the_log() -> None:
    shipped = [name for name in list_recipes() if name.startswith("paper/")]
    assert shipped == [f"paper/{row[0]}" for row in ROWS] == [f"paper/{test}" for test in range(1, 39)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_holds_what_the_log_says(row: list[str]) -> None:
    test, architecture, batch, lr, epochs, train, val, *otherwise = row
    found = load_recipe(f"paper/{test}")
    assert found.note.startswith(f"The paper's test {test}: ")
    assert found.spec == ARCHITECTURES[architecture]
    assert found.training == TrainingConfig(
        batch=int(batch),
        lr=float(lr),
        epochs=int(epochs),
        **{key: value for word in otherwise for key, value in OTHERWISE[word].items()},
    )
    # 45,000 was all that validation left; a smaller part was drawn with replacement
    assert found.data == DataConfig(name="cifar10", train=int(train), val=int(val), replacement=int(train) < 45_000)
    assert (str(found.noise), found.loss) == ("published-code", "mse")


@pytest.mark.parametrize("test, parameters", [(1, 95_307), (35, 5_539), (37, 80_515), (38, 80_515)])
def test_has_the_parameters_of_the_figures_and_the_published_weights(test: int, parameters: int) -> None:
    assert load_recipe(f"paper/{test}").spec.parameters == parameters
