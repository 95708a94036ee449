"""What the OpenAPI document promises is taken, and everything else refused with a reason."""

import pytest
from hypothesis import HealthCheck, Phase, given, settings

schemathesis = pytest.importorskip("schemathesis")


def operations(url: str) -> list:
    document = schemathesis.openapi.from_url(f"{url}/openapi.json")
    return [found.ok() for found in document.get_all_operations()]


def test_no_request_that_the_document_allows_is_an_error_of_the_server(url: str) -> None:
    seen = operations(url)
    assert len(seen) > 15
    for operation in seen:

        @settings(
            max_examples=6,
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def check(case) -> None:
            answer = case.call(timeout=120)
            assert answer.status_code < 500, (case.method, case.formatted_path, answer.text)
            if answer.status_code >= 400:
                assert answer.json()["error"]["message"]

        check()
