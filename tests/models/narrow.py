"""The architectures of the presets with fewer channels, for tests in which only the structure matters."""

from __future__ import annotations

from dataclasses import replace

from daelab.models.architectures.base import Architecture
from daelab.models.architectures.presets import ARCHITECTURE_PRESETS
from daelab.models.architectures.unet import UNet


def make_narrow(spec: Architecture) -> Architecture:
    """Return a U-Net's architecture with an eighth of its channels, and any other one as it is."""
    if not isinstance(spec, UNet):
        return spec
    return replace(spec, widths=tuple(max(4, width // 8) for width in spec.widths), context=min(spec.context, 4))


NARROW_PRESETS = {name: make_narrow(spec) for name, spec in ARCHITECTURE_PRESETS.items()}
"""The presets by name; the networks need a hundredth of the multiplications."""
