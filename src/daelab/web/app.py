"""The application: every address, and what it answers."""

# no `from __future__ import annotations`: FastAPI reads the annotations of functions in functions,
# where what they name is imported

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from daelab.denoising.automatic import AUTOMATIC
from daelab.denoising.pipeline import DenoiseOptions
from daelab.web.about import describe_server, get_version, read_sample
from daelab.web.admission import AdmissionQueue, QueueFull, RequestTimeout
from daelab.web.assets import list_assets
from daelab.web.handlers import (
    PICTURE_MEDIA_TYPES,
    AnswerFile,
    answer_denoise,
    answer_inspect,
    answer_noise,
    answer_preview,
)
from daelab.web.limits import ServerLimits
from daelab.web.model_registry import list_models
from daelab.web.run_store import RunStore
from daelab.web.schemas import (
    AboutSchema,
    DenoisedFileSchema,
    InspectedSchema,
    LeaderboardSchema,
    ModelSchema,
    ProblemSchema,
    RunSchema,
    RunsSchema,
)
from daelab.web.security import SecurityMiddleware
from daelab.web.streaming import ClientLeft, describe_problem, run_alone, run_queued, stream_events, stream_lines
from daelab.web.uploads import UploadTooLarge

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response


@dataclass(frozen=True)
class ServerSettings:
    """Of a server."""

    limits: ServerLimits = field(default_factory=ServerLimits)
    names: tuple[str, ...] = ()
    """Host names it answers to; see `Guard`."""
    token: str | None = None
    book: RunStore = field(default_factory=RunStore)


def create_app(settings: ServerSettings | None = None) -> SecurityMiddleware:
    """The ASGI application.

    Raises:
        ValueError: the extra `web` is not installed.
    """
    try:
        import python_multipart  # noqa: F401
        from fastapi import FastAPI
    except ImportError:
        raise ValueError("the page needs FastAPI: pip install 'daelab[web]'") from None
    settings = settings or ServerSettings()
    desk = AdmissionQueue(settings.limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        desk.close()

    app = FastAPI(
        title="daelab",
        version=get_version(),
        description="Denoise pictures, make them noisy, inspect their noise, and read the ledger of runs.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _add_page(app)
    _add_pictures(app, settings.limits, desk)
    _add_denoise(app, settings.limits, desk)
    _add_books(app, settings)
    _add_errors(app)
    # around everything, so that an answer of 500 has the headers too
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
                            "description": "What the picture should look like, where that is known.",
                        },
                    },
                }
            },
        },
    }
}
_PICTURE: dict[str, Any] = {
    media: {"schema": {"type": "string", "format": "binary"}} for media in dict.fromkeys(PICTURE_MEDIA_TYPES.values())
}
_WORK: dict[int | str, dict[str, Any]] = {
    400: {"model": ProblemSchema, "description": "A host name that this server does not answer to"},
    401: {"model": ProblemSchema, "description": "The token is missing or wrong"},
    403: {"model": ProblemSchema, "description": "It came from another site's page"},
    413: {"model": ProblemSchema, "description": "The body is too large"},
    422: {"model": ProblemSchema, "description": "A broken picture, or a wrong setting"},
    429: {"model": ProblemSchema, "description": "The queue is full"},
    503: {"model": ProblemSchema, "description": "It took too long"},
}
_READ: dict[int | str, dict[str, Any]] = {status: _WORK[status] for status in (400, 401, 403, 422)}


def _add_pictures(app: "FastAPI", limits: ServerLimits, desk: AdmissionQueue) -> None:
    from fastapi import Query, Request
    from fastapi.responses import Response

    Name = Annotated[str, Query(max_length=1000, description="Of a raw body's file; a form names its own.")]  # noqa: N806
    picture = {"content": _PICTURE, "description": "The picture's file"}
    works = partial(app.post, openapi_extra=_BODY)

    @works("/api/noise", responses={200: picture, **_WORK}, response_class=Response, summary="Add noise to a picture")
    async def noise(
        request: Request,
        noise: Annotated[str, Query(max_length=2000, description="A preset, or a noise's text.")] = "published-code",
        seed: Annotated[int, Query(ge=0, lt=2**63)] = 0,
        name: Name = "",
    ) -> Response:
        found = await run_alone(request, desk, limits, name, lambda p, _: answer_noise(p, noise, seed, limits.pixels))
        return _file(found)

    @works("/api/preview", responses={200: picture, **_WORK}, response_class=Response, summary="A picture as PNG")
    async def preview(request: Request, name: Name = "") -> Response:
        return _file(await run_alone(request, desk, limits, name, lambda p, _: answer_preview(p, limits.pixels)))

    @works("/api/inspect", responses=_WORK, response_model=InspectedSchema, summary="Which noise is in a picture?")
    async def inspect(request: Request, name: Name = "") -> Any:
        return await run_alone(request, desk, limits, name, lambda p, _: answer_inspect(p, limits.pixels))


def _add_denoise(app: "FastAPI", limits: ServerLimits, desk: AdmissionQueue) -> None:
    from fastapi import Query, Request
    from fastapi.responses import JSONResponse, Response, StreamingResponse

    kinds = {
        "content": {
            "application/json": {"schema": DenoisedFileSchema.model_json_schema()},
            "application/x-ndjson": {"schema": {"type": "string"}},
            **_PICTURE,
        },
        "description": "The clean picture's file, in the format that came; or see `answer`",
    }

    @app.post(
        "/api/denoise",
        responses={200: kinds, **_WORK},
        response_class=Response,
        openapi_extra=_BODY,
        summary="Clean a picture",
    )
    async def denoise(
        request: Request,
        model: Annotated[
            str, Query(max_length=200, description="A name of /api/models, or automatic: what inspecting chooses.")
        ] = AUTOMATIC,
        strength: Annotated[float, Query(ge=0, le=1, allow_inf_nan=False)] = 1.0,
        self_ensemble: Annotated[bool, Query(description="Average eight flips and rotations.")] = False,
        name: Annotated[str, Query(max_length=1000, description="Of a raw body's file.")] = "",
        answer: Annotated[
            Literal["picture", "json", "events"],
            Query(
                description="The file alone; a JSON document with it; or JSON lines: `progress` while it is worked on, "
                "`report`, `file` in pieces of base64, and `end` or `error`."
            ),
        ] = "picture",
    ) -> Response:
        options = DenoiseOptions(strength=strength, self_ensemble=self_ensemble, max_pixels=limits.pixels)

        def work(pictures: dict[str, Any], progress: Any) -> AnswerFile:
            return answer_denoise(model, pictures, options, progress)

        if answer == "events":
            found = stream_events(request, desk, limits, name, work)
            first = await anext(found)  # refusals come before it, with a status of their own
            return StreamingResponse(stream_lines(first, found), media_type="application/x-ndjson")
        clean = await run_queued(request, desk, limits, name, work)
        if answer == "json":
            return JSONResponse(clean.report | {"file": base64.b64encode(clean.data).decode()})
        return _file(clean)


def _add_books(app: "FastAPI", settings: ServerSettings) -> None:
    from fastapi import HTTPException, Path
    from fastapi.responses import Response

    book = settings.book
    gone: dict[int | str, Any] = {404: {"model": ProblemSchema, "description": "There is none of that name"}}

    @app.get("/api/about", responses=_READ, response_model=AboutSchema, summary="What this server takes")
    def about_() -> Any:
        return describe_server(settings.limits)

    @app.get("/api/models", responses=_READ, response_model=list[ModelSchema], summary="Models to choose from")
    def models() -> Any:
        return list_models()

    @app.get(
        "/api/samples/{name}",
        responses={200: {"content": _PICTURE}, **_READ, **gone},
        response_class=Response,
        summary="A bundled photograph",
    )
    def sample(name: Annotated[str, Path(max_length=100)]) -> Response:
        found = read_sample(name)
        if found is None:
            raise HTTPException(404, f"no sample {name}")
        return _file(found)

    @app.get("/api/runs", responses=_READ, response_model=RunsSchema, summary="The ledger")
    def runs() -> Any:
        return {"runs": book.rows()}

    @app.get("/api/runs/{name}", responses={**_READ, **gone}, response_model=RunSchema, summary="A run's curve")
    def run(name: Annotated[str, Path(max_length=200)]) -> Any:
        try:
            return book.run(name)
        except LookupError as error:
            raise HTTPException(404, str(error)) from None

    @app.get("/api/leaderboard", responses=_READ, response_model=LeaderboardSchema, summary="The leaderboard")
    def leaderboard() -> Any:
        return book.leaderboard()


def _add_errors(app: "FastAPI") -> None:
    """Every error as {"error": one line}."""
    from fastapi import Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse, Response
    from starlette.exceptions import HTTPException

    def says(status: int, text: str, headers: Any = None) -> Response:
        return JSONResponse({"error": text}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return says(422, f"{first['loc'][-1]}: {first['msg']}")

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return says(error.status_code, str(error.detail), error.headers)

    for kind in (ValueError, QueueFull, RequestTimeout, UploadTooLarge, ClientLeft, Exception):
        app.exception_handler(kind)(_unserved)


async def _unserved(_: "Request", error: Exception) -> "Response":
    from fastapi.responses import JSONResponse

    status, text = describe_problem(error)
    return JSONResponse({"error": text}, status, {"retry-after": "2"} if status == 429 else None)


def _file(found: AnswerFile) -> "Response":
    from fastapi.responses import Response

    # the star form alone: names may be of any script
    place = f"attachment; filename*=UTF-8''{quote(found.name)}"
    return Response(found.data, media_type=found.media, headers={"content-disposition": place})
