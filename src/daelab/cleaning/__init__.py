"""Noisy pictures' files in, clean files of the same kind out: `one` picture, and `many` by doing one many times."""

from daelab.cleaning.compare import compared
from daelab.cleaning.many import Job, Request, done, jobs
from daelab.cleaning.one import SUFFIX, Cleaned, Options, clean, clean_file, denoise_file, format_of, mapped

__all__ = [
    "SUFFIX",
    "Cleaned",
    "Job",
    "Options",
    "Request",
    "clean",
    "clean_file",
    "compared",
    "denoise_file",
    "done",
    "format_of",
    "jobs",
    "mapped",
]
