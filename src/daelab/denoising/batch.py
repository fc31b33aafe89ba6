"""Many pictures: which file becomes which, and all of them done, whatever becomes of one."""

from __future__ import annotations

import glob
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from daelab.denoising.pipeline import COMPARED, UNSURE, DenoiseResult, choose_target, is_same_file
from daelab.denoising.tiling import ProgressCallback
from daelab.errors import describe_error
from daelab.image_io.bundled_photos import find_photo
from daelab.image_io.picture import SUFFIXES
from daelab.image_io.write import check_target

_NO_MATCH = ": no picture matches"
BatchProgress = Callable[[float, int], None]
"""Called with (pictures done, in parts of one; pictures in all)."""
BatchWork = Callable[[str, Path, ProgressCallback], DenoiseResult]
"""(source, target, progress over tiles) -> what became of it; raises ValueError or OSError where it fails."""


@dataclass(frozen=True)
class BatchRequest:
    """Which pictures, and where their results go."""

    pictures: Sequence[str]
    """Files, folders, patterns, photo:NAME."""
    out: Path | None = None
    """A file for one picture, else a folder; beside each source where it is not given."""
    recursive: bool = False
    suffix: str | None = None
    """Between a result's name and its ending; "" in a folder of its own, else `default_suffix`."""
    default_suffix: str = "_clean"
    form: str | None = None
    """Another format for the results."""
    in_place: bool = False
    overwrite: bool = False
    shard: tuple[int, int] = (1, 1)
    """Only part I of N; a picture's part follows from its name, so that N machines agree without talking."""

    @property
    def single(self) -> bool:
        """Whether one picture is named, so that its failure is the command's."""
        return len(self.pictures) == 1 and not _stands_for_many(self.pictures[0])

    @property
    def into_file(self) -> bool:
        """Whether `out` names the one result."""
        return self.out is not None and self.single and bool(self.out.suffix) and not self.out.is_dir()


@dataclass(frozen=True)
class BatchJob:
    """One picture to do."""

    source: str
    target: Path
    fault: str = ""
    """Why it cannot be done."""


def plan_batch(request: BatchRequest) -> list[BatchJob]:
    """What is to do, in the order of the request, each folder sorted by name.

    Raises:
        ValueError: options that contradict each other, or an unknown format.
    """
    if request.in_place and (request.out or request.suffix or request.form or request.overwrite):
        raise ValueError("--in-place replaces each source; it takes no --out, --suffix, --format or --overwrite")
    if request.out is not None and not request.single and _names_a_file(request.out):
        raise ValueError(f"--out {request.out}: several pictures need a folder, not a file")
    if request.into_file and request.out is not None:
        check_target(request.out, overwrite=True)
    part, parts = request.shard
    if not 1 <= part <= parts:
        raise ValueError(f"--shard I/N: I from 1 to N, not {part}/{parts}")
    found: list[BatchJob] = []
    taken: dict[Path, str] = {}
    for source, name, fault in _sources(request):
        target = _target(request, source, name)
        fault = fault or _clash(request, source, target, taken)
        taken.setdefault(target, source)
        if zlib.crc32(name.as_posix().encode()) % parts == part - 1:
            found.append(BatchJob(source, target, fault))
    return found


def _names_a_file(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.is_dir()


def _stands_for_many(text: str) -> bool:
    return Path(text).is_dir() or (not Path(text).exists() and not text.startswith("photo:") and glob.has_magic(text))


def _sources(request: BatchRequest) -> Iterator[tuple[str, Path, str]]:
    """(source, its name below what was asked for, why it cannot be done)."""
    for text in request.pictures:
        path = Path(text)
        if text.startswith("photo:"):
            file = find_photo(text.removeprefix("photo:"))
            yield text, Path(text.removeprefix("photo:") + file.suffix), ""
        elif path.is_dir():
            inside = sorted(path.rglob("*") if request.recursive else path.iterdir())
            yield from ((str(file), file.relative_to(path), "") for file in _pictures(inside, request))
        elif _stands_for_many(text):
            files = [Path(name) for name in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207
            if not files:
                yield text, path, text + _NO_MATCH
            yield from ((str(file), Path(file.name), "") for file in _pictures(files, request))
        elif not path.is_file():
            yield text, Path(path.name), f"no picture {path}"
        elif request.single or not _is_result(path, request):
            yield text, Path(path.name), ""


def _pictures(files: Iterable[Path], request: BatchRequest) -> Iterator[Path]:
    """Those that are pictures by their names, and no results of an earlier run."""
    for file in files:
        passed_over = file.name.startswith(".") or (request.out is not None and file.is_relative_to(request.out))
        is_picture = file.suffix.lower() in SUFFIXES and file.is_file()
        if is_picture and not passed_over and not _is_result(file, request):
            yield file


def _is_result(file: Path, request: BatchRequest) -> bool:
    """Whether its name is that of a result, and its source stands beside it."""
    if request.out is not None or request.in_place:
        return False
    stem = file.stem
    for ending in (COMPARED, UNSURE, _suffix(request)):
        stem = stem.removesuffix(ending)
    return stem != file.stem and any(file.with_name(stem + end).exists() for end in SUFFIXES)


def _suffix(request: BatchRequest) -> str:
    if request.suffix is not None:
        return request.suffix
    return "" if request.out is not None else request.default_suffix


def _target(request: BatchRequest, source: str, name: Path) -> Path:
    if request.in_place:
        return Path(source)
    if request.into_file:
        assert request.out is not None
        return request.out
    place = name if source.startswith("photo:") else Path(source)
    place = place if request.out is None else request.out / name
    return choose_target(place, _suffix(request), request.form)


def _clash(request: BatchRequest, source: str, target: Path, taken: dict[Path, str]) -> str:
    """Why a result cannot go to its place."""
    if target in taken:
        return f"{source}: its result would be {target}, as that of {taken[target]} is"
    if not request.in_place and is_same_file(Path(source), target):
        return f"{source}: its result would replace it; --in-place allows that"
    return ""


def run_batch(
    request: BatchRequest, work: BatchWork, workers: int = 1, report: BatchProgress | None = None
) -> Iterator[DenoiseResult]:
    """Do all of them, one by one or by several threads, and say in their order what became of each.

    A picture whose result exists has been done before. A single picture's mistake is raised, and so
    is the existence of a single result that was named.

    Raises:
        ValueError: as `jobs`, or no picture was found, or the single picture cannot be done.
        OSError: the single picture cannot be done.
    """
    if workers < 1:
        raise ValueError(f"--workers must be at least 1, not {workers}")
    todo = plan_batch(request)
    if request.shard == (1, 1) and all(job.fault.endswith(_NO_MATCH) for job in todo):
        raise ValueError(f"no picture in {', '.join(request.pictures)}")
    progress = _Progress(len(todo), report)

    def one(job: BatchJob) -> DenoiseResult:
        found = _one(job, request, work, progress.of(job))
        progress.of(job)(1, 1)
        return found

    if workers == 1 or len(todo) < 2:
        yield from map(one, todo)
        return
    threads = max(1, torch.get_num_threads() // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        try:
            yield from pool.map(one, todo)
        finally:  # interrupted, what has not begun need not
            pool.shutdown(cancel_futures=True)


def _one(job: BatchJob, request: BatchRequest, work: BatchWork, progress: ProgressCallback) -> DenoiseResult:
    try:
        if job.fault:
            raise ValueError(job.fault)
        if job.target.exists() and not (request.overwrite or request.in_place or request.into_file):
            return DenoiseResult(job.source, str(job.target), status="done before")
        return work(job.source, job.target, progress)
    except (ValueError, OSError) as error:
        if request.single:
            raise
        return DenoiseResult(job.source, str(job.target), status="failed", reason=describe_error(error))


class _Progress:
    """How many pictures are done, in parts of one, while several are worked on."""

    def __init__(self, total: int, report: BatchProgress | None) -> None:
        self.total, self.report = total, report
        if report:
            report(0, total)
        self.parts: dict[BatchJob, float] = {}
        self.lock = threading.Lock()

    def of(self, job: BatchJob) -> ProgressCallback:
        """What to call with (tiles done, tiles in all) of a picture."""

        def tell(done: int, tiles: int) -> None:
            with self.lock:
                self.parts[job] = done / tiles
                if self.report:
                    self.report(sum(self.parts.values()), self.total)

        return tell
