"""The JSON documents of the API, as its OpenAPI document describes them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class ProblemSchema(BaseModel):
    """The reason why a request failed."""

    error: str
    """The reason in one line."""


class SampleSchema(BaseModel):
    """A photograph that a visitor can try."""

    name: str
    """The name in /api/samples/{name}."""
    file: str
    """The name of its file."""


class AboutSchema(BaseModel):
    """The version of this server, its limits, and what it offers."""

    version: str
    """The version of daelab."""
    body_bytes: int
    """Largest request, in bytes."""
    pixels: int
    """Largest picture, in pixels."""
    seconds: float
    """Longest time that a request may take, in seconds."""
    queue: int
    """Number of requests that may wait."""
    suffixes: list[str]
    """The suffixes of files that are read and written."""
    noises: dict[str, str]
    """The formula of each noise preset, by its name."""
    samples: list[SampleSchema]
    """The photographs that a visitor can try."""


class ModelSchema(BaseModel):
    """The metadata of a model."""

    name: str
    """The name of the model."""
    origin: str
    """Where it comes from: "ships" for a shipped model, "run" for one that was trained here."""
    parameters: int
    """Number of parameters."""
    macs_per_pixel: int
    """Multiplications and additions per pixel."""
    multiple: int
    """The input's height and width must be multiples of this."""
    halo: int
    """Number of pixels around a tile that influence it."""
    conditioned: bool
    """Whether the level of the noise is an input. It is estimated from each picture."""
    noise: str
    """The noise that it was trained under."""
    data: str
    """The data set of the scores."""
    images: int | None
    """Number of test images of the scores, or null if they are of the validation images."""
    psnr_noisy: float | None
    """Mean PSNR of the noisy images, in dB."""
    psnr: float | None
    """Mean PSNR of the denoised images, in dB."""
    ssim: float | None
    """Mean SSIM of the denoised images."""


class ScoreSchema(BaseModel):
    """The scores of one channel, or of all channels."""

    psnr: float | None
    """PSNR in dB, or null if nothing differs."""
    ssim: float | None
    """SSIM, or null if the picture is too small or too large."""


class ScoresSchema(BaseModel):
    """The scores of each channel against the clean picture."""

    noisy: dict[str, ScoreSchema]
    """The scores of the noisy picture by channel."""
    denoised: dict[str, ScoreSchema]
    """The scores of the denoised picture by channel."""


class DenoisedSchema(BaseModel):
    """The report on a denoised picture."""

    name: str
    """The name of the denoised file."""
    model: str
    """The model that was used; several if the pages differ, and "" if the picture was left unchanged."""
    why: str
    """Why this model, or none, was chosen, in one line; "" if the request named the model."""
    strength: float
    """How far the picture was denoised, from 0 to 1."""
    format: str
    """The format of the file."""
    width: int
    """Width in pixels."""
    height: int
    """Height in pixels."""
    pages: int
    """Number of pages."""
    note: str
    """A limitation of the result, or ""."""
    seconds: float
    """Time taken, in seconds."""
    scores: ScoresSchema | None
    """The scores, or null if the request had no clean picture."""


class DenoisedFileSchema(DenoisedSchema):
    """The report on a denoised picture, with its file."""

    file: str
    """The file in base64."""


class InspectedSchema(BaseModel):
    """The noise that was identified in a picture."""

    text: str
    """The noise in one line."""
    family: str
    """The most probable family of noise."""
    confidence: float
    """The probability of that family."""
    probabilities: dict[str, float]
    """The probability of each family."""
    level: float
    """The level of the noise."""
    gain: float
    """The factor that the noise changed the contrast by."""
    offset: float
    """The value that the noise changed the brightness by."""
    sigma_scikit_image: float | None
    """The estimate of scikit-image, or null if it is not installed."""
    models: list[str]
    """The models that were trained for this noise, the best first."""
    choice: str | None
    """The model that `automatic` uses, or null if it leaves the picture unchanged."""
    strength: float
    """The strength that `automatic` uses, from 0 to 1. It is lower for faint noise."""
    advice: str
    """What to do, in one line."""


class RunsSchema(BaseModel):
    """The runs of the ledger."""

    runs: list[dict[str, Any]]
    """One object for each run."""


class RunSchema(BaseModel):
    """A run and its epochs so far."""

    run: dict[str, Any]
    """The run's row of the ledger."""
    curve: list[dict[str, float]]
    """The metrics of each epoch."""


class LeaderboardSchema(BaseModel):
    """The leaderboard as text."""

    columns: list[str]
    """The names of the columns."""
    rows: list[list[str]]
    """The cells of each row."""
