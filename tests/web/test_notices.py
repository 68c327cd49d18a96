"""Notices: put with their cause, written in the reader's language once, sent, read; mails and jobs of the operator."""

from __future__ import annotations

import ast
import email
import email.policy
import re
import socket
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session, select

from storage import notices, outbox
from storage.notices import Reader
from storage.tables import Auction, AuditTrail, Mail, Outbox, Person, Watch
from tests.servers import PATIENCE_S
from tests.web.conftest import Site, Visit
from tests.web.lot_world import World
from web.notices import KINDS, languages_of, write
from web.render import utc_now
from web.tasks import run_row

ROOT = Path(__file__).resolve().parents[2]
AT = datetime(2026, 11, 22, 8, 0, tzinfo=UTC)
FACTS: dict[str, Any] = {
    "lot_id": 7, "lot": "2026-0007", "title_en": "Sedan <1> & more", "title_zh": "轿车", "currency": "CNY",
    "amount_minor": 8_400_000, "reference": "CL7-4K2M-9", "due_at": AT.isoformat(), "bidder": 3,
    "limit_minor": None, "reason": "no agreement", "party": "First Bank", "closes_at": AT.isoformat(),
    "opens_at": AT.isoformat(), "sale_id": 5, "hammer_minor": 148_000_000, "premium_minor": 0,
    "deposit_minor": 8_400_000, "balance_minor": 139_600_000, "outcome": "sold", "back_at": AT.isoformat(),
    "missing_minor": 1, "default_at": AT.isoformat(), "paid_minor": 5, "proceeds_minor": 9, "tape_id": 1,
    "file": "a.csv", "rows": 10, "faults": 3, "faulty_rows": 2,
    "task": "settle", "job": "settle:9", "attempts": 30,
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_notice_reads_in_both_languages(kind: str) -> None:
    english, chinese = (
        write(kind, FACTS, language, name="Li Wei", base_url="http://x")[0:2] for language in ("en", "zh")
    )
    assert english[0]
    assert "\n" not in english[0]
    assert "CNY" not in english[0], "no amounts in a subject"
    assert english[1].startswith("Dear Li Wei,")
    assert "&amp;" not in english[1]
    assert re.search("[\u4e00-\u9fff]", chinese[0])
    assert "Dear" not in chinese[1]
    assert "http://x/" in chinese[1]


def test_every_kind_that_is_put_has_a_text() -> None:
    put = set()
    for path in (ROOT / "storage").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and len(node.args) > 1:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                where = node.args[1] if name in ("put", "_tell") else None
                if isinstance(where, ast.Constant) and where.value in KINDS:
                    put.add(where.value)
    assert {"won", "not_won", "admitted", "lot_sold", "defaulted", "payment_late"} <= put
    assert {path.stem for path in (ROOT / "web/templates/notices").glob("*.txt")} == {*KINDS, "_mail"}


def test_a_reader_gets_his_language_else_both_in_china() -> None:
    assert languages_of(Reader(1, "A", "a@b.cd", "en", "CN")) == ("en",)
    assert languages_of(Reader(1, "A", "a@b.cd", "", "CN")) == ("zh", "en")
    assert languages_of(Reader(1, "A", "a@b.cd", "", "DE")) == ("en",)


def put(site: Site, visit: Visit, key: str = "1") -> int:
    def leave(session: Session) -> int:
        # Not due before it is run by hand below: the application's own worker must not come first.
        at = utc_now() + timedelta(days=1)
        notices.put(session, "won", key, FACTS, party_id=visit.party_id, at=at)
        notices.put(session, "won", key, FACTS, party_id=visit.party_id, at=at)
        session.flush()
        return session.exec(select(Outbox.id).where(Outbox.key == f"mail:won:{key}")).one()

    return site.db.in_transaction(leave)


def send(site: Site, row_id: int) -> None:
    site.db.in_transaction(lambda session: outbox.try_again(session, row_id, at=utc_now()))
    run_row(site.app.state.jobs.context, row_id, "send_mail")


def until_done(site: Site, row_id: int) -> None:
    """Wait for whoever has the row: this test, or the application's worker."""
    end = time.monotonic() + PATIENCE_S
    while site.db.read(lambda session: session.get_one(Outbox, row_id)).done_at is None:
        assert time.monotonic() < end, "the row was not done"
        time.sleep(0.05)


def test_a_notice_is_sent_once_and_read(site: Site) -> None:
    li, operator = site.person("investor"), site.person("operator")
    row_id = put(site, li)
    send(site, row_id)
    until_done(site, row_id)
    mails = site.db.read(lambda session: list(session.exec(select(Mail))))
    assert [(mail.person_id, mail.template, mail.language) for mail in mails] == [(li.person_id, "won", "zh+en")]
    assert mails[0].sent_at is not None
    (file,) = (site.app.state.settings.data / "mail").glob("*.eml")
    letter = email.message_from_bytes(file.read_bytes(), policy=email.policy.default)
    assert letter["subject"] == mails[0].subject
    assert "CNY 1,396,000.00" in letter.get_content()
    assert "您以" in letter.get_content()
    assert "@example.com" in letter["to"]

    page = li.get("/notices?lang=en").text
    assert "1 unread notice" in page
    assert "CL7-4K2M-9" in page
    assert 'class="count">1<' in li.get("/home").text
    li.post("/notices/read", {"upto": mails[0].id})
    assert 'class="count"' not in li.get("/home").text
    other = site.person("investor")
    assert "CL7-4K2M-9" not in other.get("/notices").text

    assert "2026-0007" in operator.get("/outbox?lang=en").text
    assert "Sedan &lt;1&gt; &amp; more" in operator.get(f"/outbox/{mails[0].id}").text
    assert operator.get("/outbox/999").status_code == 404
    assert li.get("/outbox").status_code == 403
    assert li.get("/jobs").status_code == 403


def test_failing_work_is_shown_by_its_code_and_tried_again(site: Site) -> None:
    operator = site.person("operator")

    def fail(session: Session) -> int:
        at = utc_now()
        outbox.put(session, "settle", "settle:99", {"auction_id": 99}, at=at + timedelta(days=1))
        session.flush()
        row = session.exec(select(Outbox).where(Outbox.key == "settle:99")).one()
        row.attempts, row.error = 30, "NotFound: not_found(kind='secret', id=99)"
        session.add(row)
        return row.id

    row_id = site.db.in_transaction(fail)
    page = operator.get("/jobs?state=failing&lang=en").text
    assert "not_found" in page
    assert "secret" not in page
    assert "Given up" in page
    assert "/jobs?state=failing" in operator.get("/home").text
    assert operator.post(f"/jobs/{row_id}/try-again").status_code == 303
    row = site.db.read(lambda session: session.get_one(Outbox, row_id))
    assert row.attempts >= 29
    assert row.due_at <= utc_now() + timedelta(days=1)
    assert site.person("investor").post(f"/jobs/{row_id}/try-again").status_code == 403


def test_who_watches_or_was_let_in_is_reminded_once_before_the_opening(site: Site) -> None:
    market = World(site)
    lot_id, auction_id = market.published(opens=timedelta(minutes=90))
    bidder = market.bidder(auction_id, name="Bidder")
    watcher, both = site.person("investor"), bidder.person_id

    def watch(session: Session) -> datetime:
        session.add_all(Watch(person_id=person_id, lot_id=lot_id) for person_id in (watcher.person_id, both))
        return session.get_one(Auction, auction_id).opens_at

    opens_at = site.db.in_transaction(watch)

    def reminders(session: Session) -> list[int]:
        rows = session.exec(select(Outbox).where(Outbox.task == "send_mail"))
        return sorted(row.arguments["person_id"] for row in rows if row.arguments["kind"] == "reminder_opening")

    assert site.db.in_transaction(notices.remind, at=opens_at - notices.REMIND_BEFORE - timedelta(seconds=1)) == 0
    assert site.db.in_transaction(notices.remind, at=opens_at - notices.REMIND_BEFORE) == 2
    assert site.db.in_transaction(notices.remind, at=opens_at - timedelta(minutes=1)) == 0
    assert site.db.read(reminders) == sorted([watcher.person_id, both])
    assert site.db.in_transaction(notices.remind, at=opens_at) == 0, "it is open: too late for that"


def test_work_that_is_given_up_says_what_it_is_and_operators_are_told(site: Site) -> None:
    operator, other = site.person("operator"), site.person("operator")
    site.person("investor")
    mail = {"key": "won:1", "kind": "won", "facts": FACTS, "party_id": None, "person_id": operator.person_id}

    def fail(session: Session, task: str, arguments: dict[str, Any]) -> int:
        outbox.put(session, task, f"{task}:99", arguments, at=utc_now() + timedelta(days=1))
        session.flush()
        row = session.exec(select(Outbox).where(Outbox.key == f"{task}:99")).one()
        row.attempts, row.claimed_by = outbox.GIVE_UP_AFTER, "me"
        session.add(row)
        session.flush()
        notices.work_failed(session, row.id, "ConnectionRefusedError: 10.0.0.1", by="me", at=utc_now())
        return row.id

    settle = site.db.in_transaction(fail, "settle", {"auction_id": 99})
    letter = site.db.in_transaction(fail, "send_mail", mail)
    told = site.db.read(lambda session: list(session.exec(select(Outbox).where(Outbox.task == "send_mail"))))
    to = sorted(row.arguments["person_id"] for row in told if row.arguments["kind"] == "job_given_up")
    assert to == sorted([operator.person_id, other.person_id] * 2)

    page = operator.get("/jobs?state=failing&lang=en").text
    assert "Settle an auction that has ended" in page
    assert "refuses the connection" in page
    assert "10.0.0.1" not in page
    assert "none by itself" in page
    assert "It cannot be let go" in page
    assert "不能放弃" in operator.get("/jobs?state=failing&lang=zh").text
    operator.get("/?lang=en")
    assert operator.post(f"/jobs/{settle}/let-go", {"reason": "why not"}).status_code == 409
    assert operator.post(f"/jobs/{letter}/let-go", {"reason": ""}).status_code == 422
    assert operator.post(f"/jobs/{letter}/let-go", {"reason": "the address is gone"}).status_code == 303
    row = site.db.read(lambda session: session.get_one(Outbox, letter))
    assert (row.done_at is not None, row.error) == (True, "ConnectionRefusedError: 10.0.0.1")
    assert site.db.read(lambda session: session.get_one(Outbox, settle)).done_at is None
    trail = site.db.read(
        lambda session: session.exec(select(AuditTrail).where(AuditTrail.action == "job.let_go")).one()
    )
    assert trail.facts["reason"] == "the address is gone"
    assert operator.post(f"/jobs/{letter}/let-go", {"reason": "again"}).status_code == 409
    assert site.person("investor").post(f"/jobs/{settle}/let-go", {"reason": "again"}).status_code == 403


class Smtp(threading.Thread):
    """A mail server, as RFC 5321 has it, for one mail."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self.listening.getsockname()[1]}"
        self.got = ""

    def run(self) -> None:
        connection, _ = self.listening.accept()
        with connection, connection.makefile("rw", newline="") as lines:

            def say(text: str) -> None:
                lines.write(text + "\r\n")
                lines.flush()

            say("220 here")
            for line in lines:
                word = line[:4].upper()
                if word == "DATA":
                    say("354 go on")
                    while (part := lines.readline()) != ".\r\n":
                        self.got += part
                say("221 bye" if word == "QUIT" else "250 ok")
                if word == "QUIT":
                    return


def test_mail_goes_to_the_server_and_waits_while_it_is_away(site: Site) -> None:
    from web.notices import send_mail

    li = site.person("investor")
    site.db.in_transaction(lambda session: setattr(session.get_one(Person, li.person_id), "language", "en"))
    server = Smtp()
    context = site.app.state.jobs.context
    arguments = {"key": "won:9", "kind": "won", "facts": FACTS, "party_id": li.party_id, "person_id": None}

    def with_url(url: str) -> Any:
        from dataclasses import replace

        return replace(context, settings=context.settings.model_copy(update={"mail_url": url}))

    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        send_mail(with_url(f"smtp://127.0.0.1:{port}"), **arguments)
    server.start()
    send_mail(with_url(server.url), **arguments)
    server.join(10)
    assert "Subject: Lot 2026-0007: you have won" in server.got
    assert "Auto-Submitted: auto-generated" in server.got
    send_mail(with_url(f"smtp://127.0.0.1:{port}"), **arguments)  # sent before: nothing to do
