"""The server answers any request as its OpenAPI document says; schemathesis makes the requests."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from daelab.web.app import ServerSettings, create_app
from daelab.web.limits import ServerLimits

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed: pip install schemathesis")
CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
    schemathesis.checks.response_headers_conformance,
]


BOUNDED = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def test_every_operation_answers_as_the_document_says() -> None:
    app = create_app(ServerSettings(ServerLimits(100_000, 10_000, seconds=30), ("testserver",)))
    document = schemathesis.openapi.from_asgi("/api/openapi.json", app)
    tried = set()
    for found in document.get_all_operations():
        operation = found.ok()

        @given(case=operation.as_strategy())
        @BOUNDED
        def answers(case: Any) -> None:
            case.call_and_validate(checks=CHECKS)

        answers()
        tried.add(operation.path)
    assert len(tried) == 18
