"""A network as data: a spec gives a layer table, and whoever needs a shape reads that. No torch here.

layer.py        Layer, and what every Spec answers: parameters, MACs, table, size multiple, radius, halo
autoencoder.py  Autoencoder: the paper's
unet.py         UNet: ours
table.py        PRESETS, KINDS, `from_dict`
"""

from daelab.spec.autoencoder import Autoencoder, Stage, infer
from daelab.spec.layer import NORMS, Layer, Row, Spec, check_shapes
from daelab.spec.table import KINDS, PRESETS, from_dict
from daelab.spec.unet import BLOCKS, UNet

__all__ = [
    "BLOCKS",
    "KINDS",
    "NORMS",
    "PRESETS",
    "Autoencoder",
    "Layer",
    "Row",
    "Spec",
    "Stage",
    "UNet",
    "check_shapes",
    "from_dict",
    "infer",
]
