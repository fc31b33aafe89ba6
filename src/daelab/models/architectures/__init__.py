"""Architectures as data: the fields of each kind of network, its layer table and its presets.

The modules:

    base         Architecture, and the layer table that describes every network
    autoencoder  the paper's auto-encoders
    unet         U-Nets of residual blocks
    presets      the architectures by name; `parse_architecture`
"""
