"""The JSON API against its own description: what schemathesis makes up of it, asked by each role with its key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.web.busy import INSIDE, Busy, busy_site
from tests.web.conftest import ORIGIN

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 12  # of each operation and role


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Busy]:
    """One of everything, on SQLite."""
    folder: Path = tmp_path_factory.mktemp("fuzz")
    with busy_site(folder, "sqlite") as made:
        yield made


@pytest.fixture(scope="module")
def described(busy: Busy) -> schemathesis.BaseSchema:
    """The API as it describes itself."""
    return schemathesis.openapi.from_dict(busy.people["guest"].get("/api/v1/openapi.json").json())


@pytest.mark.parametrize("who", ["creditor", "bidder 1", "operator", "servicer"])
def test_every_answer_is_as_described(busy: Busy, described: schemathesis.BaseSchema, who: str) -> None:
    visit = busy.site.visit()
    headers = {"Authorization": f"Bearer {busy.api_key(busy.people[who])}"}
    wrong: dict[str, str] = {}
    for result in described.get_all_operations():
        operation: Any = result.ok()  # type: ignore[union-attr]

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            kwargs = case.as_transport_kwargs(base_url=f"{ORIGIN}/api/v1", headers=headers)
            asked = requests.Request(**kwargs).prepare()
            sent: dict[str, Any] = {"headers": dict(asked.headers), "content": asked.body or b""}
            answer = visit.client.request(asked.method or "", asked.url or "", **sent)
            case.validate_response(answer, checks=CHECKS)
            assert not [word for word in INSIDE if word in answer.text]

        try:
            ask()
        except BaseException as error:  # every operation is tried before the test speaks
            wrong[f"{operation.method} {operation.path}"] = f"{type(error).__name__}: {error}"[:1500]
    assert not wrong, "\n\n".join(f"{name}: {text}" for name, text in wrong.items())
