"""The OpenAPI document, and requests that are made from it."""

import warnings
from typing import Any

import httpx2
import pytest

from tests.serving.conftest import Running


def test_the_document_names_what_there_is(server: Running) -> None:
    document = httpx2.get(f"{server.url}/openapi.json").json()
    routes = {"/v1/images/generations", "/v1/images/edits", "/v1/images/variations", "/v1/models"}
    assert routes <= document["paths"].keys()
    schema = document["paths"]["/v1/images/generations"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    assert schema["required"] == ["prompt"]
    assert {"seed", "guidance_scale", "candidates", "stream"} <= schema["properties"].keys()


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_requests_made_from_the_document_have_the_answers_in_it(server: Running) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import schemathesis
        from hypothesis import HealthCheck, given, settings
        from schemathesis.checks import not_a_server_error
        from schemathesis.specs.openapi.checks import (
            content_type_conformance,
            response_schema_conformance,
            status_code_conformance,
        )

        checks = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
        schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
        for found in schema.get_all_operations():
            operation: Any = found.ok()  # type: ignore[union-attr]  # an error of the document fails here

            @settings(max_examples=30, deadline=None, database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def ask(case: Any) -> None:
                case.call_and_validate(checks=checks, timeout=60)

            ask()
