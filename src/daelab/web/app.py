"""The web application: the page and every address of the API."""

# There is no `from __future__ import annotations` here. FastAPI evaluates the annotations of the inner functions, and
# would not find the names that the outer functions import.

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from daelab._util.text import fit_line
from daelab.denoising.automatic import AUTOMATIC
from daelab.denoising.pipeline import DenoiseOptions
from daelab.image_io.formats import list_formats
from daelab.web.about import describe_server, get_version, make_thumbnail, read_sample
from daelab.web.admission import AdmissionQueue, QueueFull, RequestTimeout
from daelab.web.assets import list_assets
from daelab.web.handlers import (
    AnswerFile,
    answer_denoise,
    answer_inspect,
    answer_noise,
    answer_preview,
)
from daelab.web.limits import ServerLimits
from daelab.web.model_registry import list_models
from daelab.web.run_routes import add_run_routes
from daelab.web.run_store import RunStore, RunsUnavailable
from daelab.web.schemas import (
    AboutSchema,
    DenoisedFileSchema,
    InspectedSchema,
    ModelSchema,
    ProblemSchema,
)
from daelab.web.security import SecurityMiddleware
from daelab.web.streaming import describe_problem, run_queued, stream_events, stream_lines
from daelab.web.uploads import ClientLeft, SlowUpload, UploadTooLarge

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True)
class ServerSettings:
    """The settings of the web server."""

    limits: ServerLimits = field(default_factory=ServerLimits)
    """The limits on requests."""
    names: tuple[str, ...] = ()
    """The host names that the server answers to, besides localhost and IP addresses."""
    token: str | None = None
    """The token that visitors must give, or None if none is needed."""
    runs: RunStore = field(default_factory=RunStore)
    """The runs and the leaderboard that the page shows."""


def create_app(settings: ServerSettings | None = None) -> SecurityMiddleware:
    """Return the ASGI application.

    Args:
        settings: The settings of the server, or None for the defaults.

    Raises:
        ValueError: The extra `web` is not installed.
    """
    try:
        import python_multipart  # noqa: F401
        from fastapi import FastAPI
    except ImportError:
        raise ValueError("the web page needs FastAPI; install it with: pip install 'daelab[web]'") from None
    settings = settings or ServerSettings()
    queue = AdmissionQueue(settings.limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        queue.close()

    app = FastAPI(
        title="daelab",
        version=get_version(),
        description="Denoise pictures, add noise to them, identify their noise, and read the ledger of runs.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_page(app)
    _add_pictures(app, settings.limits, queue)
    _add_denoise(app, settings.limits, queue)
    _add_information(app, settings)
    add_run_routes(app, settings.runs, _READ, has_token=settings.token is not None)
    _add_errors(app)
    # The middleware is outermost, so that an answer with status 500 has the security headers too.
    return SecurityMiddleware(app, settings.names, settings.token)


def _add_page(app: "FastAPI") -> None:
    from fastapi import HTTPException, Request
    from fastapi.responses import Response

    @app.get("/", include_in_schema=False)
    @app.get("/static/{name}", include_in_schema=False)
    def page(request: Request, name: str = "index.html") -> Response:
        asset = list_assets().get(name)
        if asset is None:
            raise HTTPException(404, "no such file")
        headers = {"etag": asset.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == asset.tag:
            return Response(status_code=304, headers=headers)
        return Response(asset.data, media_type=asset.media, headers=headers)


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["picture"],
                    "properties": {
                        "picture": {"type": "string", "format": "binary"},
                        "clean": {
                            "type": "string",
                            "format": "binary",
                            "description": "The noise-free picture, if it is known. The answer then has scores.",
                        },
                    },
                }
            },
        },
    }
}
_PICTURE: dict[str, Any] = {
    row.media_type: {"schema": {"type": "string", "format": "binary"}} for row in list_formats()
}
_WORK: dict[int | str, dict[str, Any]] = {
    400: {"model": ProblemSchema, "description": "The server does not answer to this host name"},
    401: {"model": ProblemSchema, "description": "The token is missing or wrong"},
    403: {"model": ProblemSchema, "description": "The request came from a page of another site"},
    408: {"model": ProblemSchema, "description": "The request arrived too slowly"},
    413: {"model": ProblemSchema, "description": "The body is too large"},
    422: {"model": ProblemSchema, "description": "The picture is broken, or a setting is invalid"},
    429: {"model": ProblemSchema, "description": "The queue is full"},
    503: {"model": ProblemSchema, "description": "The request took too long"},
}
_READ: dict[int | str, dict[str, Any]] = {status: _WORK[status] for status in (400, 401, 403, 422)}


def _add_pictures(app: "FastAPI", limits: ServerLimits, queue: AdmissionQueue) -> None:
    from fastapi import Query, Request
    from fastapi.responses import Response

    Name = Annotated[  # noqa: N806
        str, Query(max_length=1000, description="File name of a raw body. The parts of a form have their own.")
    ]
    picture = {"content": _PICTURE, "description": "The file of the picture"}
    post = partial(app.post, openapi_extra=_BODY)

    @post("/api/noise", responses={200: picture, **_WORK}, response_class=Response, summary="Add noise to a picture")
    async def noise(
        request: Request,
        noise: Annotated[str, Query(max_length=2000, description="Preset or formula of the noise.")] = "published-code",
        seed: Annotated[int, Query(ge=0, lt=2**63, description="Seed of the noise.")] = 0,
        name: Name = "",
    ) -> Response:
        handler = partial(answer_noise, text=noise, seed=seed, most=limits.pixels)
        return _respond(await run_queued(request, queue, limits, name, handler))

    @post(
        "/api/preview", responses={200: picture, **_WORK}, response_class=Response, summary="Convert a picture to PNG"
    )
    async def preview(request: Request, name: Name = "") -> Response:
        handler = partial(answer_preview, most=limits.pixels)
        return _respond(await run_queued(request, queue, limits, name, handler))

    @post("/api/inspect", responses=_WORK, response_model=InspectedSchema, summary="Identify the noise in a picture")
    async def inspect(request: Request, name: Name = "") -> Any:
        return await run_queued(request, queue, limits, name, partial(answer_inspect, most=limits.pixels))


_DENOISED: dict[str, Any] = {
    "content": {
        "application/json": {"schema": DenoisedFileSchema.model_json_schema()},
        "application/x-ndjson": {"schema": {"type": "string"}},
        **_PICTURE,
    },
    "description": "The denoised picture in the format of the request, or what `answer` asks for",
}


def _add_denoise(app: "FastAPI", limits: ServerLimits, queue: AdmissionQueue) -> None:
    from fastapi import Query, Request
    from fastapi.responses import JSONResponse, Response, StreamingResponse

    amount = partial(Query, ge=0, le=1, allow_inf_nan=False)

    @app.post(
        "/api/denoise",
        responses={200: _DENOISED, **_WORK},
        response_class=Response,
        openapi_extra=_BODY,
        summary="Denoise a picture",
    )
    async def denoise(
        request: Request,
        model: Annotated[
            str,
            Query(
                max_length=200,
                description="Name of a model of /api/models, or automatic for the model that fits the noise.",
            ),
        ] = AUTOMATIC,
        strength: Annotated[float, amount(description="How far to denoise: 0 changes nothing, 1 is all.")] = 1.0,
        chroma: Annotated[
            float | None, amount(description="Strength for colors alone. Default: that of strength.")
        ] = None,
        detail: Annotated[float, amount(description="Part of the fine detail to recover.")] = 0.0,
        self_ensemble: Annotated[
            bool, Query(description="Average the results of eight flips and rotations. It takes eight times as long.")
        ] = False,
        form: Annotated[
            Literal["PNG", "JPEG", "WEBP", "TIFF"] | None,
            Query(alias="format", description="Format of the result. Default: that of the picture."),
        ] = None,
        quality: Annotated[
            int | None, Query(ge=1, le=100, description="Quality of a JPEG or WebP. Default: that of the picture.")
        ] = None,
        name: Annotated[str, Query(max_length=1000, description="File name of a raw body.")] = "",
        answer: Annotated[
            Literal["picture", "json", "events"],
            Query(
                description="picture: the file alone. json: a JSON document with the report and the file. events: JSON "
                "lines with `waiting`, `progress`, `report`, `file` in pieces of base64, and `end` or `error`."
            ),
        ] = "picture",
    ) -> Response:
        options = DenoiseOptions(
            strength=strength, chroma=chroma, detail=detail, self_ensemble=self_ensemble, max_pixels=limits.pixels
        )
        handler = partial(answer_denoise, model=model, options=options, form=form, quality=quality)
        if answer == "events":
            events = stream_events(request, queue, limits, name, handler)
            first = await anext(events)  # a refusal is raised here, before the status 200 is sent
            return StreamingResponse(stream_lines(first, events), media_type="application/x-ndjson")
        denoised = await run_queued(request, queue, limits, name, handler)
        if answer == "json":
            return JSONResponse(denoised.report | {"file": base64.b64encode(denoised.data).decode()})
        return _respond(denoised)


def _add_information(app: "FastAPI", settings: ServerSettings) -> None:
    from fastapi import HTTPException, Path, Query
    from fastapi.responses import Response

    missing: dict[int | str, Any] = {404: {"model": ProblemSchema, "description": "There is none of this name"}}

    @app.get("/api/about", responses=_READ, response_model=AboutSchema, summary="What the server accepts and offers")
    def about() -> Any:
        return describe_server(settings.limits)

    @app.get("/api/models", responses=_READ, response_model=list[ModelSchema], summary="The models to choose from")
    def models() -> Any:
        return list_models()

    @app.get(
        "/api/samples/{name}",
        responses={200: {"content": _PICTURE}, **_READ, **missing},
        response_class=Response,
        summary="A bundled photograph",
    )
    def sample(
        name: Annotated[str, Path(max_length=100)],
        thumbnail: Annotated[bool, Query(description="Return a small JPEG of it.")] = False,
    ) -> Response:
        photo = make_thumbnail(name) if thumbnail else read_sample(name)
        if photo is None:
            raise HTTPException(404, f"no sample {name}")
        return _respond(photo)


def _add_errors(app: "FastAPI") -> None:
    """Answer every error with {"error": one line}."""
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException

    def respond(status: int, text: str, headers: Any = None) -> Response:
        return JSONResponse({"error": fit_line(text)}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid_request(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return respond(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def answer_http_error(_: Request, error: HTTPException) -> Response:
        return respond(error.status_code, str(error.detail), error.headers)

    kinds = (ValueError, QueueFull, RequestTimeout, RunsUnavailable, SlowUpload, UploadTooLarge, ClientLeft, Exception)
    for kind in kinds:
        app.exception_handler(kind)(_answer_error)


async def _answer_error(_: "Request", error: Exception) -> "Response":
    from fastapi.responses import JSONResponse

    status, text = describe_problem(error)
    return JSONResponse({"error": text}, status, {"retry-after": "2"} if status == 429 else None)


def _respond(file: AnswerFile) -> "Response":
    from fastapi.responses import Response

    # only the encoded form `filename*`, because names may be of any script
    disposition = f"attachment; filename*=UTF-8''{quote(file.name)}"
    return Response(file.data, media_type=file.media, headers={"content-disposition": disposition})
