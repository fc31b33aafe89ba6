"""Image sets: uint8 pictures with labels, cut into training, validation and test parts.

    sets.py      Images (what training and evaluation read), ImageSet, Dataset
    splits.py    seeded training and validation parts
    cifar10.py   `cifar10`       found, or downloaded; checked before it is unpickled
    fetch.py     a file from the network, whole and verified
    photos.py    `photos`        the default; ten photographs, no network
    folder.py    `folder:PATH`   any pictures; kept in memory or streamed from disk
    npz.py       `npz:PATH`      arrays
    whole.py     `cbsd68`        whole pictures of any size, to test on
                 `cbsd432`       photographs to train on, tested on cbsd68
    table.py     DATASETS: name -> function, and `load`

Shapes: N images, C = 3 channels (RGB), H rows, W columns; B images in a batch.
"""

from daelab.data.folder import FolderSet
from daelab.data.photos import photo_crops, photo_path
from daelab.data.sets import Dataset, Images, ImageSet, Source
from daelab.data.splits import split
from daelab.data.table import CROPPED, DATASETS, TERMS, known, load
from daelab.data.whole import PictureSet

__all__ = [
    "CROPPED",
    "DATASETS",
    "TERMS",
    "Dataset",
    "FolderSet",
    "ImageSet",
    "Images",
    "PictureSet",
    "Source",
    "known",
    "load",
    "photo_crops",
    "photo_path",
    "split",
]
