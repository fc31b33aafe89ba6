"""Image sets: uint8 images with labels, divided into training, validation and test parts.

The modules:

    base            Images, ImageSet, Dataset, and the request for one
    registry        `load_dataset`, and the data sets by name
    cifar10         CIFAR-10, downloaded if necessary
    bundled_photos  crops of ten photographs that need no network
    image_folder    the images of a folder, as crops
    full_images     CBSD68 and CBSD432: images of any size, uncropped
    paired          pairs of a noisy and a clean image of the same scene
    picture_names   the picture files of a folder, and the names that tell noisy from clean
    arrays          arrays from a NumPy .npz file
    neighbors       pairs made of noisy images alone
    noisy_pairs     pairs of noisy and clean images for training loops of the user's own
    splits          seeded training and validation parts
    decoding        image files as RGB pixels
    download        published files with a known MD5
"""
