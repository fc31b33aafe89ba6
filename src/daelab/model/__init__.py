"""Spec -> nn.Module.

network.py      Network: layers by name; `fold`, `inference`
autoencoder.py  the paper's
unet.py         ours
table.py        `build`
"""

from daelab.model.network import PART, Network, fold, inference, with_level
from daelab.model.table import build

__all__ = ["PART", "Network", "build", "fold", "inference", "with_level"]
