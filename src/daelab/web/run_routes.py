"""The addresses of the API about runs, studies and the leaderboard."""

# There is no `from __future__ import annotations` here, as in `app.py`.

import logging
from typing import TYPE_CHECKING, Annotated, Any

from daelab.image_io.picture import Picture
from daelab.image_io.write import encode_to_bytes
from daelab.runs.folder import get_run_folder
from daelab.runs.process_lock import stop_training
from daelab.web.columns import describe_columns
from daelab.web.run_page import (
    describe_run,
    describe_study,
    find_crop,
    list_studies,
    read_report,
    read_sample_strip,
)
from daelab.web.run_store import RunStore
from daelab.web.schemas import (
    ColumnsSchema,
    LeaderboardSchema,
    ProblemSchema,
    RunDetailsSchema,
    RunSchema,
    RunsSchema,
    StoppedSchema,
    StudiesSchema,
    StudySchema,
)
from daelab.web.security import POLICY_HEADER

if TYPE_CHECKING:
    from fastapi import FastAPI

log = logging.getLogger("daelab.web")
_REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"
"""The policy of a report, which may be a stranger's: it can run nothing and load nothing."""
_NO_TOKEN = (
    "runs can be stopped from the page only if the server has a token; start it with: daelab serve --token TOKEN"
)
_MISSING: dict[int | str, Any] = {404: {"model": ProblemSchema, "description": "There is none of this name"}}


def add_run_routes(app: "FastAPI", store: RunStore, read: dict[int | str, dict[str, Any]], *, has_token: bool) -> None:
    """Add the addresses to the application.

    Args:
        app: The application.
        store: The runs and the leaderboard.
        read: The errors that every address may answer, as the OpenAPI document describes them.
        has_token: Whether visitors must give a token. Only then may they stop runs.
    """
    responses = read | {503: {"model": ProblemSchema, "description": "The runs cannot be read"}}
    _add_runs(app, store, responses, has_token)
    _add_files(app, store, responses)
    _add_studies(app, store, responses)

    # LookupError and not KeyError: only the functions of `run_page` and `RunStore` raise it as such.
    @app.exception_handler(LookupError)
    async def answer_missing(_: Any, error: LookupError) -> Any:
        from fastapi.responses import JSONResponse

        if type(error) is not LookupError:
            raise error
        return JSONResponse({"error": str(error)}, 404)


def _add_runs(app: "FastAPI", store: RunStore, responses: dict[int | str, Any], has_token: bool) -> None:
    from fastapi import HTTPException, Path, Query
    from fastapi.responses import JSONResponse

    Name = Annotated[str, Path(max_length=200)]  # noqa: N806

    @app.get("/api/columns", responses=responses, response_model=ColumnsSchema, summary="The titles of all columns")
    def columns() -> Any:
        return describe_columns() | {"can_stop": has_token}

    @app.get("/api/runs", responses=responses, response_model=RunsSchema, summary="The runs of the ledger")
    def runs(
        since: Annotated[
            str, Query(max_length=100, description="The version of an earlier answer, for what has changed since.")
        ] = "",
    ) -> Any:
        # Sent as it is, since checking 10,000 rows would take longer than reading them.
        return JSONResponse(store.list_changes(since))

    @app.get("/api/runs/{name}", responses=responses | _MISSING, response_model=RunSchema, summary="A run's curve")
    def run(
        name: Name,
        after: Annotated[float, Query(description="Only epochs after this one are answered.")] = 0,
    ) -> Any:
        return store.run(name, after)

    @app.get(
        "/api/runs/{name}/details",
        responses=responses | _MISSING,
        response_model=RunDetailsSchema,
        summary="A run's recipe, environment, samples and commands",
    )
    def details(name: Name) -> Any:
        return describe_run(store, name)

    @app.post(
        "/api/runs/{name}/stop",
        responses=responses | _MISSING,
        response_model=StoppedSchema,
        summary="Let a training save its state and end",
    )
    def stop(name: Name) -> Any:
        if not has_token:
            raise HTTPException(403, _NO_TOKEN)
        row = store.read_row(name)
        stop_training(get_run_folder(name).path, row["host"], row["pid"])
        log.info("A visitor stopped the run %s.", name)
        return {"stopped": name}


def _add_files(app: "FastAPI", store: RunStore, responses: dict[int | str, Any]) -> None:
    from fastapi import Path
    from fastapi.responses import Response

    Name = Annotated[str, Path(max_length=200)]  # noqa: N806
    picture: dict[int | str, Any] = {
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
    }
    page: dict[int | str, Any] = {200: {"content": {"text/html": {"schema": {"type": "string"}}}}}

    @app.get(
        "/api/runs/{name}/samples/{part}",
        responses=responses | _MISSING | picture,
        response_class=Response,
        summary="Sample images of a run, next to each other",
    )
    def samples(name: Name, part: Name) -> Response:
        strip = read_sample_strip(store, name, part)
        return Response(encode_to_bytes(Picture(strip), "PNG"), media_type="image/png")

    @app.get(
        "/api/runs/{name}/report",
        responses=responses | _MISSING | page,
        response_class=Response,
        summary="The report of a run",
    )
    def report(name: Name) -> Response:
        headers = {POLICY_HEADER: _REPORT_POLICY}
        return Response(read_report(store, name), media_type="text/html; charset=utf-8", headers=headers)

    @app.get(
        "/api/leaderboard/crops/{crop}/{model}",
        responses=responses | _MISSING | picture,
        response_class=Response,
        summary="A model's result on a crop of the leaderboard",
    )
    def crop(crop: Name, model: Name) -> Response:
        return Response(find_crop(store, crop, model).read_bytes(), media_type="image/png")


def _add_studies(app: "FastAPI", store: RunStore, responses: dict[int | str, Any]) -> None:
    from fastapi import Path

    @app.get("/api/studies", responses=responses, response_model=StudiesSchema, summary="The names of all studies")
    def studies() -> Any:
        return {"studies": list_studies(store)}

    @app.get(
        "/api/studies/{name}",
        responses=responses | _MISSING,
        response_model=StudySchema,
        summary="The trials of a study, and the importance of its fields",
    )
    def study(name: Annotated[str, Path(max_length=200)]) -> Any:
        return describe_study(store, name)

    @app.get("/api/leaderboard", responses=responses, response_model=LeaderboardSchema, summary="The leaderboard")
    def leaderboard() -> Any:
        return store.leaderboard()
