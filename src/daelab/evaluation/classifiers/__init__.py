"""Classifiers that score clean, noisy and denoised images by macro F1.

Modules:

    registry         the classifiers by name, and `load_classifier`
    classifier       the one interface: a callable from images to classes
    scores           the predicted classes of clean, noisy and denoised images, and their metrics
    recipe           the training of a classifier as data
    network          daelab's convolutional classifier
    classifier_file  the file of a trained classifier
    external         the user's classifier: an ONNX file or a Python function
    vit              the paper's vision transformer
"""
