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
    chroma: float | None
    """How far its colors were denoised, or null if as far as the picture."""
    detail: float
    """The part of the fine detail that was recovered, from 0 to 1."""
    format: str
    """The format of the file."""
    media: str
    """The MIME type of the file."""
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
    sigma: float
    """The estimated standard deviation of the noise, in 8-bit steps."""
    expected_gain: float
    """The estimated gain in PSNR by denoising as a photograph, in dB."""
    graphics: bool
    """Whether the picture is no photograph, but graphics."""
    models: list[str]
    """The models that were trained for this noise, the best first."""
    choice: str | None
    """The model that `automatic` uses, or null if it leaves the picture unchanged."""
    strength: float
    """The strength that `automatic` uses, from 0 to 1. It is lower for faint noise."""
    advice: str
    """What to do, in one line."""


class ColumnSchema(BaseModel):
    """A column of a table, or a curve."""

    key: str
    """The key of its values."""
    title: str
    """Its title, with the unit."""
    digits: int | None
    """The number of decimals, or null for texts and for numbers of any size."""
    better: str
    """Which values are better: "higher", "lower", or "" if neither is."""
    log: bool
    """Whether its curve is easier to read with a logarithmic axis."""
    also: list[str]
    """Further names of the column that the filter of the page understands."""


class ColumnsSchema(BaseModel):
    """The columns that the page shows, and whether runs can be stopped from it."""

    runs: list[ColumnSchema]
    """The columns of the runs."""
    curves: list[ColumnSchema]
    """The values of each epoch."""
    metrics: dict[str, ColumnSchema]
    """The metrics of images and models by name."""
    can_stop: bool
    """Whether runs can be stopped, because visitors give a token."""


class RunsSchema(BaseModel):
    """The runs of the ledger, or those that have changed."""

    runs: list[dict[str, Any]]
    """One object for each run."""
    version: str
    """The version of this answer, for the parameter `since`."""
    whole: bool
    """Whether these are all runs."""


class RunSchema(BaseModel):
    """A run and its epochs so far."""

    run: dict[str, Any]
    """The run's row of the ledger."""
    curve: list[dict[str, float | None]]
    """The metrics of each epoch."""


class RunDetailsSchema(BaseModel):
    """What the page of a run shows besides its row and its curve."""

    recipe: dict[str, str | float | None]
    """The fields of the recipe by dotted name."""
    environment: dict[str, str]
    """What the result may depend on, such as versions, by dotted name."""
    commands: dict[str, str]
    """The commands that go on with the run, by what they do."""
    samples: dict[str, int]
    """The number of sample images of each part, for /api/runs/{name}/samples/{part}."""
    report: bool
    """Whether there is a report."""
    study: str | None
    """The study that the run belongs to, or null."""


class StoppedSchema(BaseModel):
    """A run that was told to stop."""

    stopped: str
    """The name of the run."""


class StudiesSchema(BaseModel):
    """The studies of the ledger's database."""

    studies: list[str]
    """Their names."""


class TrialSchema(BaseModel):
    """A trial of a study."""

    number: int
    """The number of the trial."""
    run: str
    """The name of its run."""
    state: str
    """The state: waiting, running, finished, pruned or failed."""
    epochs: int
    """The number of epochs so far."""
    psnr: float | None
    """The validation PSNR in dB of the best epoch so far."""
    reason: str
    """Why the trial failed or was pruned, or ""."""
    values: dict[str, str | float | None]
    """The values of the fields by name."""


class StudySchema(BaseModel):
    """A study and its trials."""

    name: str
    """The name of the study."""
    space: str
    """The name of the search space."""
    goals: list[str]
    """The titles of the goals."""
    fields: list[str]
    """The names of the fields that the search varies."""
    trials: list[TrialSchema]
    """All trials, in the order of their numbers."""
    importances: dict[str, float]
    """The share of the differences in PSNR that each field explains, from 0 to 1."""
    note: str
    """Why there are no importances, or ""."""


class LeaderboardSchema(BaseModel):
    """The leaderboard as text."""

    columns: list[str]
    """The names of the columns."""
    rows: list[list[str]]
    """The cells of each row."""
    shown: list[ColumnSchema]
    """The columns that the page shows."""
    crops: dict[str, list[str]]
    """The models with a picture, by the name of the crop: /api/leaderboard/crops/{crop}/{model}."""
