"""Identification of the noise in a picture, and of the shipped models that were trained for it.

Modules:

    identify   `identify_noise`: the noise family, its effect, and the models to denoise with
    families   the noise families, and which trained noise covers which picture
    features   the statistics of a picture's patches
    network    the small network from features to families, and its file
"""
