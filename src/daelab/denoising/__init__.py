"""Denoising of pictures of any size, from arrays or files, one or many.

Modules:

    denoiser              `Denoiser`: a picture or a batch in, the denoised one out
    backends              what denoises: a network, an ONNX file or a classical method, and what tiling must know of it
    blending              the mixture of the denoised picture with its source
    named_models          the networks that users name: files, runs, and code of their own
    tiling                denoising tile by tile, with the result of the full image
    classical             classical methods, tuned and evaluated as the networks are
    noise_identification/ the noise in a picture, and the models that were trained for it
    automatic             the choice of a model for each picture
    pipeline              one file: read, denoise every page, write; batch runs many files
    noisy_images          noise added to pictures and files
    image_comparison      the metrics of two pictures
"""
