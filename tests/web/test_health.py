"""/metrics and /readyz of a served application, and what its log says of the people in it."""

from __future__ import annotations

import json
import logging
from datetime import timedelta

import pytest
import structlog
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError

from storage import outbox
from tests.web.conftest import Site
from web.logs import configure_logs
from web.render import utc_now


def figures(body: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in body.splitlines() if line.startswith("clearlot_")]
    return {name: float(value) for name, _, value in lines}


def test_metrics_have_bids_turns_sockets_and_the_outbox(site: Site) -> None:
    site.db.in_transaction(outbox.put, "no such task", "later", {}, at=utc_now() + timedelta(days=1))
    answer = site.guest().get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    found = figures(answer.text)
    for name in ('bids_total{outcome="accepted"}', 'bids_total{outcome="refused"}', 'turns_total{outcome="committed"}',
                 'turns_total{outcome="failed"}', "turn_seconds_total", "live_sockets", "live_rooms", "live_watchers",
                 "live_behind", "outbox_due", "outbox_claimed", "outbox_oldest_seconds",
                 "outbox_given_up"):  # fmt: skip
        assert found[f"clearlot_{name}"] == 0, name
    assert any(name.startswith("clearlot_requests_total") for name in found)


def test_the_log_has_no_name_no_secret_and_no_line_break_of_anybody(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("DEBUG")
    secrets = ["Zhangsan Asset Co", "zhang.san@example.org", "correct horse battery", "Li\nSi"]
    guest = site.guest()
    li = site.person("operator", name="Zhangsan Asset Co")
    token = li.client.cookies["clearlot-session"]
    guest.post("/sign-in", {"email": "zhang.san@example.org", "password": "correct horse battery"})
    guest.get("/lots?q=zhang.san@example.org")
    guest.get("/no-such-page/%0d%0aforged%20line")
    li.get("/parties")
    li.get("/parties/7", headers={"X-Forwarded-For": "Li\\nSi"})
    # What a database says of a row that it refuses has the row in it.
    for log in (structlog.get_logger("test"), logging.getLogger("test")):
        try:
            with site.db.engine.begin() as connection:
                for _ in range(2):
                    connection.execute(
                        text(
                            "INSERT INTO outbox (key, task, arguments, due_at, attempts, error)"
                            " VALUES (:email, '', '{}', CURRENT_TIMESTAMP, 0, '')"
                        ),
                        {"email": "zhang.san@example.org"},
                    )
        except IntegrityError:
            log.exception("refused")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) > 5
    events = [json.loads(line) for line in lines]  # every line is one object: nothing forged another one
    assert {"request", "refused"} <= {one["event"] for one in events}
    assert sum("Traceback" in one.get("exception", "") for one in events) == 2
    for secret in [*secrets, token, li.csrf]:
        assert not [line for line in lines if secret in line], secret
