"""Noisy pictures' files in, clean files of the same kind out: `one` picture, and `many` by doing one many times;
`automatic` says by which model, where none is named."""

from daelab.cleaning.automatic import AUTOMATIC, LEFT, Automatic, Cleaner, chosen
from daelab.cleaning.compare import compared
from daelab.cleaning.many import Job, Request, done, jobs
from daelab.cleaning.one import SUFFIX, Cleaned, Options, clean, clean_file, denoise_file, format_of, mapped, untouched

__all__ = [
    "AUTOMATIC",
    "LEFT",
    "SUFFIX",
    "Automatic",
    "Cleaned",
    "Cleaner",
    "Job",
    "Options",
    "Request",
    "chosen",
    "clean",
    "clean_file",
    "compared",
    "denoise_file",
    "done",
    "format_of",
    "jobs",
    "mapped",
    "untouched",
]
