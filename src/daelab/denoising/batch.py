"""Batches of pictures: which file becomes which, and the loop over all of them, which no bad picture ends."""

from __future__ import annotations

import os
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import torch

from daelab._util.distributed import count_processes, gather_values, get_rank
from daelab._util.files import ignores_case
from daelab._util.memory import release_freed_memory
from daelab.denoising.automatic import LEFT_UNCHANGED
from daelab.denoising.pipeline import (
    DENOISED_SUFFIX,
    DONE_BEFORE,
    FAILED,
    DenoiseResult,
    choose_target,
    is_same_file,
)
from daelab.denoising.side_files import COMPARISON, UNCERTAINTY
from daelab.denoising.sources import FoundFiles, find_files, is_several
from daelab.denoising.tiling import ProgressCallback
from daelab.errors import describe_error, make_unknown_name_error
from daelab.image_io.bundled_photos import find_photo
from daelab.image_io.formats import FORMATS, find_format, list_suffixes

_NO_MATCH = ": no picture matches"
_DOWNLOAD = "; addresses are not opened, so download it first"
_SHOWN = 5
"""The number of files that a note names."""
BatchProgress = Callable[[float, int], None]
"""Called with (pictures done, fractions included; pictures in total)."""
BatchWork = Callable[[str, Path, ProgressCallback], DenoiseResult]
"""Called with (source, target, progress over tiles) to process a picture. Raises ValueError or OSError if it fails."""


@dataclass(frozen=True)
class BatchRequest:
    """The pictures of a batch, and where their results go."""

    pictures: Sequence[str]
    """Files, folders, glob patterns or photo:NAME."""
    out: Path | None = None
    """A file for one picture, else a folder. None writes each result beside its source."""
    out_is_folder: bool = False
    """Whether `out` is a folder even if its name looks like that of a file."""
    recursive: bool = False
    """Whether folders inside folders are included."""
    suffix: str | None = None
    """The suffix of the names of results. None means `default_suffix` beside the source, and none in a folder."""
    default_suffix: str = DENOISED_SUFFIX
    """The suffix of results beside their sources."""
    form: str | None = None
    """The name of another format for the results."""
    in_place: bool = False
    """Whether results replace their sources."""
    overwrite: bool = False
    """Whether existing results are replaced."""
    shard: tuple[int, int] = (1, 1)
    """Part I of N. A picture's part follows from its name, so that N computers agree without talking to each other."""

    @property
    def single(self) -> bool:
        """Whether one picture is named, so that the command fails if it fails."""
        return len(self.pictures) == 1 and not is_several(self.pictures[0])

    @property
    def into_file(self) -> bool:
        """Whether `out` is the file of the only result."""
        if self.out is None or self.out_is_folder or not self.single:
            return False
        return bool(self.out.suffix) and not self.out.is_dir()


@dataclass(frozen=True)
class BatchJob:
    """A picture of a batch."""

    source: str
    """The path of the picture, or photo:NAME."""
    target: Path
    """The path of its result."""
    fault: str = ""
    """The reason why it cannot be processed, if there is one."""


@dataclass(frozen=True)
class BatchSummary:
    """The results of a batch, of every process."""

    results: list[DenoiseResult]
    """The results, in the order of the request; of several processes sorted by source."""
    done: int
    """The number of pictures that were processed."""
    done_before: int
    """The number of pictures whose result existed."""
    failed: int
    """The number of pictures that failed."""

    def __str__(self) -> str:
        """Return the counts in words, with the reasons for which pictures were left unchanged."""
        reasons = Counter(result.why for result in self.results if result.status == LEFT_UNCHANGED)
        parts = [f"{self.done - reasons.total():,} done"]
        # The reason is the first sentence of the line that was printed for the picture.
        for why, count in reasons.most_common():
            parts.append(f"{count:,} left as {'it is' if count == 1 else 'they are'} ({why.partition('. ')[0]})")
        return ", ".join([*parts, f"{self.done_before:,} done before", f"{self.failed:,} failed"])


def plan_batch(request: BatchRequest) -> list[BatchJob]:
    """List the pictures of a batch in the order of the request, each folder sorted by name.

    Args:
        request: The request.

    Raises:
        ValueError: Options contradict each other, or a format is unknown.
    """
    if request.suffix and Path(f"a{request.suffix}").name != f"a{request.suffix}":
        raise ValueError(f"--suffix {request.suffix}: a part of a file name has no slash; name a folder with --out")
    if request.in_place and (request.out or request.suffix or request.form or request.overwrite):
        raise ValueError("--in-place replaces each source; it takes no --out, --suffix, --format or --overwrite")
    if request.out is not None:
        _check_out(request, request.out)
    part, parts = request.shard
    if not 1 <= part <= parts:
        raise ValueError(f"--shard I/N: I must be from 1 to N, not {part}/{parts}")
    jobs: list[BatchJob] = []
    taken: dict[str, str] = {}
    fold = str.casefold if request.out is not None and ignores_case(request.out) else str
    for source, name, fault in _list_sources(request):
        target = _locate_target(request, source, name)
        # Clashes are found before the parts are divided, so that every computer finds the same ones.
        # The real path, since links may lead to the same file. `Path.resolve` fails for links in a circle.
        place = fold(os.path.realpath(target))
        fault = fault or _find_clash(request, source, target, taken.get(place))
        taken.setdefault(place, source)
        # The part follows from the path inside the folder alone, so that the folder may lie elsewhere on each computer.
        if zlib.crc32(os.fsencode(name.as_posix())) % parts == part - 1:
            jobs.append(BatchJob(source, target, fault))
    return jobs


def find_unread(request: BatchRequest) -> FoundFiles:
    """Find what the folders and patterns of a request hold beside pictures of a supported format.

    Args:
        request: The request.

    Returns:
        The files that are not read and the folders that are not entered, without pictures.
    """
    found = [find_files(text, request.recursive, request.out) for text in request.pictures if is_several(text)]
    return FoundFiles([], [*chain(*(one.unread for one in found))], [*chain(*(one.not_entered for one in found))])


def describe_unread(found: FoundFiles) -> list[str]:
    """Describe in one line each which files are not read and which folders are not entered.

    Args:
        found: What `find_unread` returned.
    """
    lines = []
    if found.unread:
        lines.append(f"{_count_names(found.unread, 'file')}, because only pictures of supported formats are read")
    if found.not_entered:
        lines.append(f"{_count_names(found.not_entered, 'folder')}, because --recursive is not given")
    return lines


def _count_names(paths: Sequence[Path], noun: str) -> str:
    names = [path.name for path in paths[:_SHOWN]] + ["..."] * (len(paths) > _SHOWN)
    counted = f"1 {noun} was" if len(paths) == 1 else f"{len(paths):,} {noun}s were"
    return f"{counted} skipped ({', '.join(names)})"


def _check_out(request: BatchRequest, out: Path) -> None:
    """Refuse a place for results that cannot be written to, before anything is computed."""
    is_format = find_format(out.suffix) is not None
    if request.into_file and not is_format:
        fault = make_unknown_name_error("picture format", out.suffix, list_suffixes())
        raise ValueError(f"--out {out}: {fault}; to name a folder, write {out}{os.sep}")
    if not request.single and is_format and not (out.is_dir() or request.out_is_folder):
        raise ValueError(f"--out {out}: several pictures need a folder; write {out}{os.sep} if it is to be one")
    folder = out.parent if request.into_file else out
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise ValueError(f"--out {out}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK):
        raise PermissionError(f"--out {out}: the folder {nearest} cannot be written to")


def _list_sources(request: BatchRequest) -> Iterator[tuple[str, Path, str]]:
    """Yield each source, its path inside what was asked for, and the reason why it cannot be processed."""
    for text in request.pictures:
        path = Path(text)
        if text.startswith("photo:"):
            file = find_photo(text.removeprefix("photo:"))
            yield text, Path(text.removeprefix("photo:") + file.suffix), ""
        elif is_several(text):
            found = find_files(text, request.recursive, request.out)
            if not found.pictures and not path.is_dir():
                yield text, path, text + _NO_MATCH
            for file in found.pictures:
                # A second run over the same folder must not denoise the results of the first.
                if not _is_result(file, request):
                    yield str(file), file.relative_to(path) if path.is_dir() else Path(file.name), ""
        elif not path.is_file():
            yield text, Path(path.name), f"no picture {text}{_DOWNLOAD if '://' in text else ''}"
        elif request.single or not _is_result(path, request):
            yield text, Path(path.name), ""


def _is_result(file: Path, request: BatchRequest) -> bool:
    """Return whether a file is named like a result and its source is beside it."""
    if request.out is not None or request.in_place:
        return False
    stem = file.stem
    for ending in (COMPARISON, UNCERTAINTY, _choose_suffix(request)):
        stem = stem.removesuffix(ending)
    endings = [end for row in FORMATS.values() if row.denoise for end in row.suffixes]
    # Cameras write suffixes in capitals.
    return stem != file.stem and any(
        file.with_name(stem + end).exists() for end in (*endings, *map(str.upper, endings))
    )


def _choose_suffix(request: BatchRequest) -> str:
    if request.suffix is not None:
        return request.suffix
    return "" if request.out is not None else request.default_suffix


def _locate_target(request: BatchRequest, source: str, name: Path) -> Path:
    if request.in_place:
        return Path(source)
    if request.into_file:
        assert request.out is not None
        return request.out
    place = name if source.startswith("photo:") else Path(source)
    place = place if request.out is None else request.out / name
    return choose_target(place, _choose_suffix(request), request.form)


def _find_clash(request: BatchRequest, source: str, target: Path, other: str | None) -> str:
    """Return the reason why a result cannot be written to its target, if there is one."""
    if other is not None:
        return f"{source}: its result would be {target}, which is the result of {other} too"
    if not request.in_place and is_same_file(Path(source), target):
        return f"{source}: its result would replace it; name another file with --out"
    return ""


def parse_shard(text: str) -> tuple[int, int]:
    """Read which part of a batch this process takes. Several processes divide the part among themselves.

    Args:
        text: "I/N" for part I of N, from 1.

    Raises:
        ValueError: The text is of another form.
    """
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal()):
        raise ValueError(f"--shard must be I/N, such as 2/8, not {text!r}")
    # Each part is divided once more among the processes of the group.
    return int(part) + int(parts) * get_rank(), int(parts) * count_processes()


def run_batch(
    request: BatchRequest, work: BatchWork, workers: int = 1, report: BatchProgress | None = None
) -> Iterator[DenoiseResult]:
    """Process the pictures of a batch, one by one or in several threads, and yield their results in order.

    A picture whose result exists is skipped, unless it is the one result that was named. If the request names a single
    picture, its error is raised; else the result of a picture that failed says why.

    Args:
        request: The request.
        work: Makes the result of a picture.
        workers: The number of threads.
        report: Called with (pictures done, fractions included; pictures in total).

    Raises:
        ValueError: The request contradicts itself, no picture was found, or the single picture failed.
        OSError: The single picture failed.
    """
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, not {workers}")
    jobs = plan_batch(request)
    if request.shard == (1, 1) and all(job.fault.endswith(_NO_MATCH) for job in jobs):
        unread = describe_unread(find_unread(request))
        raise ValueError(f"no picture in {', '.join(request.pictures)}{''.join(f'; {text}' for text in unread)}")
    progress = _BatchProgress(len(jobs), report)

    def run_job(job: BatchJob) -> DenoiseResult:
        result = _run_job(job, request, work, lambda done, tiles: progress.update(job, done / tiles))
        progress.update(job, 1)
        return result

    if workers == 1 or len(jobs) < 2:
        yield from map(run_job, jobs)
        return
    # The workers divide the cores, since more threads than cores slow each other down.
    threads = max(1, torch.get_num_threads() // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            yield from pool.map(run_job, jobs)
        finally:  # after an interruption, pictures that have not begun are dropped
            pool.shutdown(cancel_futures=True)


def _run_job(job: BatchJob, request: BatchRequest, work: BatchWork, progress: ProgressCallback) -> DenoiseResult:
    try:
        if job.fault:
            raise ValueError(job.fault)
        # A result that exists is skipped, so that an interrupted batch can be repeated.
        if job.target.exists() and not (request.overwrite or request.in_place or request.into_file):
            return DenoiseResult(job.source, str(job.target), status=DONE_BEFORE)
        return work(job.source, job.target, progress)
    except (ValueError, OSError) as error:
        if request.single:
            raise
        return DenoiseResult(job.source, str(job.target), status=FAILED, reason=describe_error(error))
    finally:
        # The next picture may need pieces of other sizes.
        release_freed_memory()


class _BatchProgress:
    """The number of pictures that are done, fractions included, while several are processed at once."""

    def __init__(self, total: int, report: BatchProgress | None) -> None:
        """Report that no picture is done."""
        self.total, self.report = total, report
        self.parts: dict[BatchJob, float] = {}
        self.lock = threading.Lock()
        if report:
            report(0, total)

    def update(self, job: BatchJob, part: float) -> None:
        """Report that a part of a picture, from 0 to 1, is done."""
        with self.lock:
            self.parts[job] = part
            if self.report:
                self.report(sum(self.parts.values()), self.total)


def summarize_results(results: Sequence[DenoiseResult]) -> BatchSummary:
    """Count the results of a batch, those of every process included.

    Args:
        results: The results of this process.
    """
    everything = list(results)
    if count_processes() > 1:  # also keeps a process from ending, and thereby ending the others, before they are done
        # Sorted, since the order in which several processes divide the pictures means nothing to the user.
        everything = sorted(chain.from_iterable(gather_values(everything)), key=lambda result: result.source)
    done_before, failed = (sum(result.status == status for result in everything) for status in (DONE_BEFORE, FAILED))
    return BatchSummary(everything, len(everything) - done_before - failed, done_before, failed)
