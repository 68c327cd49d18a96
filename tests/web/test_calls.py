"""Idempotency-Key: asking twice is asking once, on both databases."""

from __future__ import annotations

from datetime import timedelta

from sqlmodel import Session, col, select, update

from storage import calls
from storage.tables import ApiCall
from tests.web.conftest import Site
from tests.web.lot_world import World
from web.render import utc_now


def test_the_same_call_under_one_key_has_one_effect(site: Site) -> None:
    world = World(site)
    lot_id = world.submitted(opens=timedelta(minutes=5))
    key = {"Idempotency-Key": "publish-1"}
    first = world.operator.api("POST", f"/lots/{lot_id}/publish", headers=key)
    again = world.operator.api("POST", f"/lots/{lot_id}/publish", headers=key)
    assert first.status_code == again.status_code, first.text
    assert first.json() == again.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert "Idempotent-Replayed" not in first.headers
    other = world.operator.api("POST", f"/lots/{lot_id + 1}/publish", headers=key)
    assert (other.status_code, other.json()["code"]) == (409, "key_reused")
    # Another person's key is another key.
    assert world.creditor.api("POST", f"/lots/{lot_id}/publish", headers=key).status_code == 403
    bad = world.operator.api("POST", f"/lots/{lot_id}/publish", headers={"Idempotency-Key": "a b"})
    assert (bad.status_code, bad.json()["code"]) == (422, "idempotency_key")
    assert "Idempotency-Key" in world.operator.api("GET", "/openapi.json").json()["info"]["description"]


def test_a_call_without_an_answer_is_not_run_again(site: Site) -> None:
    world = World(site)
    lot_id = world.submitted(opens=timedelta(minutes=5))

    def begin(session: Session) -> int:
        return calls.begin(
            session, world.operator.person_id, "k", method="POST", path=f"/lots/{lot_id}/publish",
            body_hash="6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d", moves_money=False,
            at=utc_now(),
        ).id  # fmt: skip

    call_id = site.db.in_transaction(begin)
    answer = world.operator.api("POST", f"/lots/{lot_id}/publish", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "key_in_use")
    site.db.in_transaction(
        lambda session: session.exec(
            update(ApiCall).where(col(ApiCall.id) == call_id).values(created_at=utc_now() - timedelta(hours=1))
        )
    )
    answer = world.operator.api("POST", f"/lots/{lot_id}/publish", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["code"]) == (409, "answer_unknown")


def test_keys_of_money_never_expire(site: Site) -> None:
    world = World(site)
    for path in ("/lots/999/publish", "/participations/999/approve"):
        answer = world.operator.api("POST", path, headers={"Idempotency-Key": path.replace("/", "-")})
        assert answer.status_code == 404
    later = utc_now() + calls.KEPT + timedelta(days=1)
    assert site.db.in_transaction(calls.clear_old, at=later) == 1
    assert site.db.read(lambda session: session.exec(select(ApiCall.path)).all()) == ["/participations/999/approve"]
