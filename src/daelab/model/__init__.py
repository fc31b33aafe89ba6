"""Spec -> nn.Module.

network.py      Network: layers by name; `fold`, `inference`
norm.py         norms; batch norm over all processes
autoencoder.py  the paper's
unet.py         ours
table.py        `build`
"""

from daelab.model.network import PART, Network, fold, inference, with_level
from daelab.model.norm import standing_in
from daelab.model.table import build

__all__ = ["PART", "Network", "build", "fold", "inference", "standing_in", "with_level"]
