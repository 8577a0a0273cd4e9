"""Schemathesis reads the OpenAPI document and finds no request that makes the gateway fail."""

import importlib.util
import json
from collections import Counter

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from scoreboard.sampling import EVERY

EXAMPLES = 100 if EVERY else 5
"""Of each kind and route; MESHLAB_EVERY=1 tries a hundred."""

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("schemathesis") is None, reason="schemathesis is not installed: the document is not tried"
)


@pytest.fixture
def attempts():
    """Try what the document allows, and what it does not, against a gateway; returns ``(route, status)`` of each."""
    import schemathesis
    from schemathesis.checks import CHECKS as known
    from schemathesis.checks import load_all_checks

    load_all_checks()
    checks = [known.get_one(name) for name in CHECKS]

    @schemathesis.serializer("application/x-ndjson")
    def lines(_, value):
        return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8", "replace")

    def attempt(operation, mode):
        @settings(max_examples=EXAMPLES, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
        @given(case=operation.as_strategy(mode))
        def once(case):
            tried.append((operation.label, case.call_and_validate(checks=checks, timeout=60).status_code))

        once()

    tried = []

    def attempts(url):
        for result in schemathesis.openapi.from_url(url).get_all_operations():
            operation = result.ok()
            takes = operation.body or operation.query or operation.headers
            for mode in schemathesis.GenerationMode:
                if takes or mode.is_positive:
                    attempt(operation, mode)
        return tried

    return attempts


def test_no_request_is_an_error_of_the_server_and_every_answer_is_as_documented(start, attempts):
    gate = start("--no-access-log", "--rate", "none")
    tried = attempts(f"{gate.url}/openapi.json")
    print(Counter(tried))
    paths = gate.ask("GET", "/openapi.json")[1]["paths"]
    routes = {f"{method.upper()} {path}" for path, methods in paths.items() for method in methods}
    assert {route for route, _ in tried} == routes - {"GET /openapi.json"}  # that one it has read
    assert {200, 400} <= {status for _, status in tried}
    assert max(status for _, status in tried) < 500
