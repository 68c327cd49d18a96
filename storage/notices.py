"""Notices to people: put with what causes them, written once for each person, sent, and read."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, update
from sqlmodel import Session, col, select

from market.errors import NotFound
from storage import outbox
from storage.tables import Auction, Lot, Mail, Outbox, Participation, Party, Person, Watch

REMIND_BEFORE = timedelta(hours=1)  # the opening, and the end, of an auction
KEYS_AT_ONCE = 500  # bound parameters of one query


# --- putting ----------------------------------------------------------------------------------------


def put(
    session: Session, kind: str, key: object, facts: Mapping[str, Any], *,
    party_id: int | None = None, person_id: int | None = None, at: datetime,
) -> None:  # fmt: skip
    """Leave a notice to a person, or to everybody who acts for a party, in the transaction of its cause.

    Args:
        kind: a template in web/templates/notices/.
        key: with `kind`, what there is one notice of: asked again, the first one stands.
        facts: what the template says: text, ints, instants (`_at`); money in minor units beside `currency`.
    """
    kept = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in facts.items()}
    whole = f"{kind}:{key}"
    arguments = {"key": whole, "kind": kind, "facts": kept, "party_id": party_id, "person_id": person_id}
    outbox.put(session, "send_mail", f"mail:{whole}", arguments, at=at)


def lot_facts(lot: Lot) -> dict[str, Any]:
    """What every notice about a lot says of it."""
    return {
        "lot_id": lot.id, "lot": lot.reference, "title_en": lot.title_en, "title_zh": lot.title_zh,
        "currency": lot.currency,
    }  # fmt: skip


def remind(session: Session, *, at: datetime) -> int:
    """Put the reminders that the clock makes due; return how many are new.

    Before the opening: to everybody who watches the lot, and to the people of each party that was let in; before the
    end: to everybody who watches it. Once for each person and instant: new times after an outage are told anew.
    """
    soon = at + REMIND_BEFORE
    opening = (Auction.phase == "upcoming", Auction.opens_at > at, Auction.opens_at <= soon)
    watching = (
        select(Watch.person_id, Auction, Lot)
        .join(Auction, col(Auction.lot_id) == Watch.lot_id)
        .join(Lot, col(Lot.id) == Watch.lot_id)
    )
    let_in = (
        select(Person.id, Auction, Lot)
        .join(Participation, col(Participation.party_id) == Person.party_id)
        .join(Auction, col(Auction.id) == Participation.auction_id)
        .join(Lot, col(Lot.id) == Auction.lot_id)
        .where(col(Participation.status).in_(("awaiting_deposit", "admitted")))
    )
    closing = (Auction.phase == "open", Auction.closes_at > at, Auction.closes_at <= soon)
    wanted: dict[str, tuple[str, int, dict[str, Any]]] = {}  # the outbox row's key -> kind, person, facts
    for query in (watching, let_in):
        for person_id, auction, lot in session.exec(query.where(*opening)).all():
            key = f"{auction.id}:{person_id}:{auction.opens_at:%Y%m%dT%H%M%S}"
            facts = lot_facts(lot) | {"opens_at": auction.opens_at}
            wanted[f"reminder_opening:{key}"] = ("reminder_opening", person_id, facts)
    for person_id, auction, lot in session.exec(watching.where(*closing)).all():
        facts = lot_facts(lot) | {"closes_at": auction.closes_at}
        wanted[f"reminder:{auction.id}:{person_id}"] = ("reminder", person_id, facts)
    keys = [f"mail:{key}" for key in wanted]
    there: set[str] = set()
    for start in range(0, len(keys), KEYS_AT_ONCE):
        there.update(session.exec(select(Outbox.key).where(col(Outbox.key).in_(keys[start : start + KEYS_AT_ONCE]))))
    for key, (kind, person_id, facts) in wanted.items():
        if f"mail:{key}" not in there:
            put(session, kind, key.partition(":")[2], facts, person_id=person_id, at=at)
    return len(keys) - len(there)


def work_failed(session: Session, outbox_id: int, error: str, *, by: str, at: datetime) -> None:
    """Note a failure of work after the commit (`outbox.failed`); when it is given up, tell every operator."""
    given_up = outbox.failed(session, outbox_id, error, at=at, by=by)
    if given_up is None or given_up.arguments.get("kind") == "job_given_up":  # a mail about a mail helps nobody
        return
    people = session.exec(
        select(Person).join(Party, col(Party.id) == Person.party_id).where(Party.status == "admitted")
    ).all()
    facts = {"task": given_up.task, "job": given_up.key, "attempts": given_up.attempts}
    for person in people:
        if "operator" in person.roles:
            key = f"{outbox_id}:{given_up.attempts}:{person.id}"
            put(session, "job_given_up", key, facts, person_id=person.id, at=at)


# --- writing and sending ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reader:
    """Somebody who gets a notice."""

    person_id: int
    name: str
    email: str
    language: str  # zh | en | "": not said
    country: str  # of the party


def readers(session: Session, *, party_id: int | None, person_id: int | None) -> list[Reader]:
    """Return whom a notice goes to: one person, or all who act for a party; nobody who is locked."""
    of = Person.id == person_id if person_id is not None else Person.party_id == party_id
    rows = session.exec(
        select(Person, Party)
        .join(Party, col(Party.id) == Person.party_id)
        .where(of, col(Person.locked).is_(False))
        .order_by(col(Person.id))
    ).all()
    return [Reader(one.id, one.name, one.email, one.language, party.country) for one, party in rows]


def keep(session: Session, mails: Collection[Mail]) -> list[Mail]:
    """Keep what was written, once for each person; return those of them that are not sent yet."""
    unsent = []
    for mail in mails:
        there = session.exec(select(Mail).where(Mail.key == mail.key, Mail.person_id == mail.person_id)).first()
        if there is None:
            session.add(mail)
        if (there or mail).sent_at is None:
            unsent.append(there or mail)
    session.flush()
    return unsent


def sent(session: Session, mail_id: int, *, at: datetime) -> None:
    """Note that a mail was handed on."""
    session.execute(update(Mail).where(col(Mail.id) == mail_id, col(Mail.sent_at).is_(None)).values(sent_at=at))


# --- reading ----------------------------------------------------------------------------------------


def of_person(session: Session, person_id: int, *, after: int = 0, limit: int = 20) -> tuple[list[Mail], int, int]:
    """Return a person's notices, newest first (from below `after`), how many in all, and how many unread."""
    mine = Mail.person_id == person_id
    query = select(Mail).where(mine).order_by(col(Mail.id).desc()).limit(limit)
    if after:
        query = query.where(Mail.id < after)
    total = session.exec(select(func.count()).select_from(Mail).where(mine)).one()
    return list(session.exec(query)), total, unread(session, person_id)


def unread(session: Session, person_id: int) -> int:
    """Return how many notices a person has not marked as read."""
    return session.exec(
        select(func.count()).select_from(Mail).where(Mail.person_id == person_id, col(Mail.read_at).is_(None))
    ).one()


def mark_read(session: Session, person_id: int, *, upto: int, at: datetime) -> None:
    """Mark a person's notices as read, up to the newest one that was shown."""
    session.execute(
        update(Mail)
        .where(col(Mail.person_id) == person_id, col(Mail.id) <= upto, col(Mail.read_at).is_(None))
        .values(read_at=at)
    )


def outbox_mails(
    session: Session, *, unsent: bool = False, after: int = 0, limit: int = 50
) -> tuple[list[tuple[Mail, Person]], int]:
    """Return mails as sent with their readers, newest first, and how many there are in all."""
    where = [col(Mail.sent_at).is_(None)] if unsent else []
    query = (
        select(Mail, Person)
        .join(Person, col(Person.id) == Mail.person_id)
        .where(*where)
        .order_by(col(Mail.id).desc())
        .limit(limit)
    )
    if after:
        query = query.where(Mail.id < after)
    total = session.exec(select(func.count()).select_from(Mail).where(*where)).one()
    return [(mail, person) for mail, person in session.exec(query)], total


def mail_to(session: Session, mail_id: int) -> tuple[Mail, Person]:
    """Return one mail and its reader. Raises: NotFound."""
    row = session.exec(
        select(Mail, Person).join(Person, col(Person.id) == Mail.person_id).where(Mail.id == mail_id)
    ).first()
    if row is None:
        raise NotFound("mail", id=mail_id)
    return row[0], row[1]
