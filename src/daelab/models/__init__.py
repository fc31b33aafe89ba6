"""Architectures as data, the networks built from them, and the files that hold their weights.

The modules:

    architectures  the fields of each kind of network, its layer table and its presets
    build          the network of an architecture
    external       modules and functions of the user as networks
    layers         what all networks share; networks prepared for inference
    autoencoder    the network of the paper's auto-encoders
    unet           the network of a U-Net
    normalization  batch norm over several processes, and layer norm
    model_file     one file per model, with its metadata
    onnx           ONNX export and inference
    spandrel       weights of other people, whose architectures the package spandrel knows
    registry       the models that ship
"""
