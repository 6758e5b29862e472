"""The stub behind the page replies what the OpenAPI description says, no more and no less."""

from typing import Any

import pytest

from openapi import reply_faults
from stubbed import NO_PROGRESS, NO_REASON

pytest.importorskip("fastapi", reason="the page is an extra: pip install 'dfal[label]'")
pytest.importorskip("jsonschema_rs", reason="it comes with schemathesis")

STATUS = {"last_answer_id": 0, "model": 0, "left": 5, "store": "s1"}


def test_a_reply_as_described_has_no_fault() -> None:
    assert reply_faults("post", "/api/tell", 200, STATUS) == []
    assert reply_faults("get", "/api/questions/7", 200, NO_REASON) == []
    assert reply_faults("post", "/api/tell", 409, {"detail": "no"}) == []


@pytest.mark.parametrize(
    ("method", "path", "status", "body", "fault"),
    [
        ("post", "/api/tell", 200, STATUS | {"answers": 0}, "'answers' was unexpected"),
        ("post", "/api/tell", 200, {"model": 0, "left": 5, "store": "s1"}, "is a required"),
        ("post", "/api/tell", 200, STATUS | {"left": "5"}, "is not of type"),
        ("post", "/api/ask", 200, STATUS | {"questions": [{"id": 0}]}, "is a required"),
        ("get", "/api/progress", 200, STATUS | NO_PROGRESS, '"images" is a required'),
        ("get", "/api/questions/7", 200, NO_REASON | {"seen": 1}, "'seen' was unexpected"),
        ("post", "/api/tell", 409, {"sentence": "no"}, "is a required"),
        ("post", "/api/tell", 418, {"detail": "no"}, "no status 418"),
        ("get", "/api/nothing", 200, {}, "is not described"),
    ],
)
def test_a_key_too_few_or_too_many_is_a_fault(
    method: str, path: str, status: int, body: Any, fault: str
) -> None:
    assert fault in "; ".join(reply_faults(method, path, status, body))
