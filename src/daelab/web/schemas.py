"""The JSON documents of the API, as its OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ProblemSchema(BaseModel):
    """Why a request was not answered."""

    error: str


class SampleSchema(BaseModel):
    """A photograph that is there to try."""

    name: str
    file: str


class AboutSchema(BaseModel):
    """What this server is and takes."""

    version: str
    body_bytes: int
    pixels: int
    seconds: float
    queue: int
    suffixes: list[str]
    """Of files that are read and written."""
    noises: dict[str, str]
    """Name of a preset -> its formula."""
    samples: list[SampleSchema]


class ModelSchema(BaseModel):
    """What a model's header says."""

    name: str
    origin: str
    """"ships" or "run"."""
    parameters: int
    macs_per_pixel: int
    """Multiplications and additions."""
    multiple: int
    halo: int
    conditioned: bool
    """Whether it is told the level of the noise, estimated from each picture."""
    noise: str
    """That it was trained under."""
    data: str
    images: int | None
    """That the scores are of; none: of the validation."""
    psnr_noisy: float | None
    psnr: float | None
    """dB, mean over images."""
    ssim: float | None


class ScoreSchema(BaseModel):
    """Of one channel, or over all."""

    psnr: float | None
    """dB; none where nothing differs."""
    ssim: float | None


class ScoresSchema(BaseModel):
    """Against the clean picture; channel -> score."""

    noisy: dict[str, ScoreSchema]
    denoised: dict[str, ScoreSchema]


class DenoisedSchema(BaseModel):
    """What became of a picture."""

    name: str
    model: str
    """That cleaned it; several where pages differ in it, "" where it was left as it is."""
    why: str
    """Of a model that was chosen, or of none, in one line; "" where one was asked for."""
    strength: float
    format: str
    width: int
    height: int
    pages: int
    note: str
    seconds: float
    scores: ScoresSchema | None


class DenoisedFileSchema(DenoisedSchema):
    """The same, with the clean picture's file."""

    file: str
    """In base64."""


class InspectedSchema(BaseModel):
    """Which noise is in a picture."""

    text: str
    family: str
    confidence: float
    probabilities: dict[str, float]
    level: float
    gain: float
    offset: float
    sigma_scikit_image: float | None
    models: list[str]
    """Those that were trained for it, the best first."""
    choice: str | None
    """The one that `automatic` takes; none: it leaves the picture as it is."""
    strength: float
    """How far `automatic` goes with it, from 0 to 1: half-way where the noise is faint."""
    advice: str


class RunsSchema(BaseModel):
    """The ledger."""

    runs: list[dict[str, Any]]


class RunSchema(BaseModel):
    """A run, and its epochs so far."""

    run: dict[str, Any]
    curve: list[dict[str, float]]


class LeaderboardSchema(BaseModel):
    """A table, as text."""

    columns: list[str]
    rows: list[list[str]]
