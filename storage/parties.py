"""Parties and people: registering, admitting, signing in and out, keys."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, func, update
from sqlmodel import Session, col, select

from market.errors import BadInput, Conflict, Fault, NotFound
from market.parties import MAX_KEYS, MOVES, Registration, name_key
from storage import notices
from storage.tables import ApiKey, AuditTrail, Mail, Party, Person, SignIn, SignInFailure, SignInLink

IDLE = timedelta(hours=12)  # a session that nobody used for so long is over
LONGEST = timedelta(days=7)  # and one so old, too
TOUCH_EVERY = timedelta(minutes=5)  # `seen_at` is written at most so often
HANDOVER = timedelta(minutes=2)  # an old number goes on so long, for what the browser sent before it had the new one


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who a session or key belongs to, and what it may do now."""

    person_id: int
    party_id: int
    name: str
    party_name: str
    party_status: str
    roles: frozenset[str]  # none, until the party is admitted
    language: str
    csrf: str
    scopes: frozenset[str] | None  # None: a session, which may do all that its roles may
    stale: bool = False  # `touch` is due
    renew: bool = False  # rights rose since: a new number is due (`renew_sign_in`)
    unread: int = 0  # notices


@dataclass(frozen=True, slots=True)
class Credentials:
    person_id: int
    password_hash: str


def note(
    session: Session, person_id: int | None, action: str, subject: str, subject_id: int,
    facts: Mapping[str, Any] | None = None, *, at: datetime,
) -> None:  # fmt: skip
    """Put on record who did what, to which thing, when and why."""
    session.add(
        AuditTrail(
            at=at, person_id=person_id, action=action, subject=subject, subject_id=subject_id, facts=dict(facts or {})
        )
    )


# --- sessions ------------------------------------------------------------------------------------


def signed_in(session: Session, token_hash: str, *, at: datetime) -> SignedIn | None:
    """Return whose session this is; None: there is none, it ran out, or the person is locked."""
    unread = select(func.count()).where(Mail.person_id == Person.id, col(Mail.read_at).is_(None)).scalar_subquery()
    row = session.exec(
        select(SignIn, Person, Party, unread)
        .join(Person, col(Person.id) == SignIn.person_id)
        .join(Party, col(Party.id) == Person.party_id)
        .where(SignIn.token_hash == token_hash, *_open(at))
    ).first()
    if row is None or row[1].locked:
        return None
    found, _person, party, _unread = row
    stale = found.seen_at < at - TOUCH_EVERY
    rose = party.status == "admitted" and party.decided_at is not None and found.created_at < party.decided_at
    renew = rose and found.expires_at > at + HANDOVER
    return _signed_in(row[1], party, csrf=found.csrf, scopes=None, stale=stale, renew=renew, unread=row[3])


def _open(at: datetime) -> tuple[Any, ...]:
    """A session that still opens something."""
    return SignIn.ended == "", SignIn.expires_at > at, SignIn.seen_at > at - IDLE


def _signed_in(
    person: Person, party: Party, *, csrf: str, scopes: frozenset[str] | None, stale: bool = False, renew: bool = False,
    unread: int = 0,
) -> SignedIn:  # fmt: skip
    roles = frozenset(person.roles) if party.status == "admitted" else frozenset[str]()
    return SignedIn(
        person.id, party.id, person.name, party.name, party.status, roles, person.language, csrf, scopes, stale,
        renew, unread,
    )  # fmt: skip


def renew_sign_in(session: Session, token_hash: str, *, new_token_hash: str, at: datetime) -> bool:
    """Go on with a session under a new number, because rights rose; return False, when another request just did.

    Its forms stay good (the CSRF token goes along), and its end stays where it was.
    """
    old = session.exec(select(SignIn).where(SignIn.token_hash == token_hash).with_for_update()).first()
    if old is None or old.ended or old.expires_at <= at + HANDOVER:
        return False
    session.add(
        SignIn(
            token_hash=new_token_hash, person_id=old.person_id, csrf=old.csrf, created_at=at, seen_at=at,
            expires_at=old.expires_at,
        )
    )  # fmt: skip
    old.expires_at = at + HANDOVER
    session.add(old)
    return True


def why_ended(session: Session, token_hash: str, *, at: datetime) -> tuple[str, str]:
    """Why a browser's session is over: suspended | password | elsewhere | idle | old, and the decision's words.

    Empty: the session is open, or its row is gone (signed out, or forgotten).
    """
    row = session.exec(
        select(SignIn, Party)
        .join(Person, col(Person.id) == SignIn.person_id)
        .join(Party, col(Party.id) == Person.party_id)
        .where(SignIn.token_hash == token_hash)
    ).first()
    if row is None:
        return "", ""
    found, party = row
    if found.ended:
        return found.ended, party.decision if found.ended == party.status else ""
    if found.seen_at <= at - IDLE:
        return "idle", ""
    return ("old", "") if found.expires_at <= at else ("", "")


def touch(session: Session, token_hash: str, *, at: datetime) -> None:
    """Note that a session is in use."""
    if row := session.get(SignIn, token_hash):
        row.seen_at = at
        session.add(row)


def credentials(session: Session, email: str) -> Credentials | None:
    """Return what a password is checked against; None: no such person, or one who has no password."""
    person = session.exec(select(Person).where(Person.email_key == name_key(email))).first()
    if person is None or person.locked or not person.password_hash:
        return None
    return Credentials(person.id, person.password_hash)


def open_sign_in(
    session: Session, person_id: int, *, token_hash: str, csrf: str, old_token_hash: str | None, at: datetime
) -> None:
    """Begin a session under a new token; the one that the browser came with ends."""
    if old_token_hash is not None:
        end_sign_in(session, old_token_hash)
    session.exec(delete(SignIn).where(col(SignIn.expires_at) <= at - LONGEST))
    session.add(
        SignIn(
            token_hash=token_hash, person_id=person_id, csrf=csrf, created_at=at, seen_at=at, expires_at=at + LONGEST
        )
    )
    note(session, person_id, "person.sign_in", "person", person_id, at=at)


def end_sign_in(session: Session, token_hash: str) -> None:
    """End one session."""
    session.exec(delete(SignIn).where(col(SignIn.token_hash) == token_hash))


def end_sign_ins(session: Session, person_ids: Collection[int], *, why: str, but: str | None = None) -> list[str]:
    """End every session of these people, except `but`; return the hashes of their tokens, so that sockets end too.

    `why` (SignIn.ended) is what the sign-in page tells the browser that comes with such a session.
    """
    where = [col(SignIn.person_id).in_(person_ids), col(SignIn.token_hash) != (but or ""), col(SignIn.ended) == ""]
    ended = list(session.exec(select(SignIn.token_hash).where(*where)))
    session.execute(update(SignIn).where(*where).values(ended=why))
    return ended


def sign_ins(session: Session, person_id: int, *, at: datetime) -> list[SignIn]:
    """A person's open sessions, the newest first."""
    return list(
        session.exec(
            select(SignIn).where(SignIn.person_id == person_id, *_open(at)).order_by(col(SignIn.seen_at).desc())
        )
    )


def still_valid(session: Session, keys: Collection[str], *, at: datetime) -> dict[str, bool]:
    """Look again at many sessions (token hashes) and API keys (`key:` and the prefix) at once.

    Returns: those that are still open, and whether their party is (still) admitted, so that it may bid.
    """
    prefixes = [key[4:] for key in keys if key.startswith("key:")]
    sessions = session.exec(
        select(SignIn.token_hash, Party.status)
        .join(Person, col(Person.id) == SignIn.person_id)
        .join(Party, col(Party.id) == Person.party_id)
        .where(
            col(SignIn.token_hash).in_(keys), *_open(at), col(Person.locked).is_(False),
        )
    )  # fmt: skip
    valid = {token_hash: status == "admitted" for token_hash, status in sessions}
    if prefixes:
        owned = session.exec(
            select(ApiKey.prefix, Party.status)
            .join(Person, col(Person.id) == ApiKey.person_id)
            .join(Party, col(Party.id) == Person.party_id)
            .where(col(ApiKey.prefix).in_(prefixes), col(ApiKey.revoked_at).is_(None), col(Person.locked).is_(False))
        )
        valid |= {f"key:{prefix}": status == "admitted" for prefix, status in owned}
    return valid


# --- tries that failed ---------------------------------------------------------------------------


def failures(session: Session, keys: Sequence[str], *, since: datetime) -> list[tuple[int, datetime | None]]:
    """For each key: how many tries failed since then, and when the last one did."""
    found = session.exec(
        select(SignInFailure.key, func.count(), func.max(SignInFailure.at))
        .where(col(SignInFailure.key).in_(keys), SignInFailure.at > since)
        .group_by(SignInFailure.key)
    ).all()
    by_key = {key: (count, last) for key, count, last in found}
    return [by_key.get(key, (0, None)) for key in keys]


def note_failures(session: Session, keys: Sequence[str], *, at: datetime, keep_since: datetime) -> None:
    """Note a failed try under each key; forget old ones."""
    session.exec(delete(SignInFailure).where(col(SignInFailure.at) <= keep_since))
    session.add_all(SignInFailure(key=key, at=at) for key in keys)


def forget_failures(session: Session, key: str) -> None:
    """A try that was right clears its account and address, not the address alone."""
    session.exec(delete(SignInFailure).where(col(SignInFailure.key) == key))


# --- one-time links (demo mode) ------------------------------------------------------------------


def use_link(session: Session, person_id: int, *, token_hash: str, at: datetime) -> None:
    """Note that a link was used, which can be done once.

    Raises: Conflict `link_used`.
    """
    if session.get(SignInLink, token_hash) is not None:
        raise Conflict("link_used")
    session.add(SignInLink(token_hash=token_hash, person_id=person_id, expires_at=at, used_at=at))


@dataclass(frozen=True, slots=True)
class DemoPerson:
    person_id: int
    name: str
    email: str
    party: str
    roles: tuple[str, ...]


def demo_people(session: Session, *, limit: int = 12) -> list[DemoPerson]:
    """Whom the first page offers to sign in as: admitted people without a password."""
    rows = session.exec(
        select(Person, Party)
        .join(Party, col(Party.id) == Person.party_id)
        .where(Party.status == "admitted", Person.password_hash == "", col(Person.locked).is_(False))
        .order_by(col(Person.id))
        .limit(limit)
    )
    return [DemoPerson(p.id, p.name, p.email, party.name, tuple(p.roles)) for p, party in rows]


# --- keys ----------------------------------------------------------------------------------------


def key_owner(session: Session, prefix: str, secret_hash: str) -> SignedIn | None:
    """Return whose API key this is; None: unknown, revoked, or the person is locked."""
    row = session.exec(
        select(ApiKey, Person, Party)
        .join(Person, col(Person.id) == ApiKey.person_id)
        .join(Party, col(Party.id) == Person.party_id)
        .where(ApiKey.prefix == prefix, ApiKey.secret_hash == secret_hash, col(ApiKey.revoked_at).is_(None))
    ).first()
    if row is None or row[1].locked:
        return None
    return _signed_in(row[1], row[2], csrf="", scopes=frozenset(row[0].scopes))


def use_key(session: Session, prefix: str, *, at: datetime) -> None:
    """Note that a key is in use."""
    if row := session.exec(select(ApiKey).where(ApiKey.prefix == prefix)).first():
        row.used_at = at
        session.add(row)


def keys(session: Session, person_id: int) -> list[ApiKey]:
    """A person's keys, active ones first, then the newest."""
    found = session.exec(select(ApiKey).where(ApiKey.person_id == person_id).order_by(col(ApiKey.id).desc()))
    return sorted(found, key=lambda key: key.revoked_at is not None)


def make_key(
    session: Session, person_id: int, *, name: str, scopes: Sequence[str], prefix: str, secret_hash: str, at: datetime
) -> int:
    """Keep a new key; its secret was shown once and only its hash is kept.

    Raises: Conflict `too_many_keys`.
    """
    active = select(func.count()).where(ApiKey.person_id == person_id, col(ApiKey.revoked_at).is_(None))
    if session.exec(active).one() >= MAX_KEYS:
        raise Conflict("too_many_keys", limit=MAX_KEYS)
    key = ApiKey(
        person_id=person_id, name=name, prefix=prefix, secret_hash=secret_hash, scopes=list(scopes), created_at=at
    )
    session.add(key)
    session.flush()
    note(session, person_id, "key.make", "key", key.id, {"name": name, "scopes": list(scopes)}, at=at)
    return key.id


def revoke_key(session: Session, person_id: int, key_id: int, *, at: datetime) -> str:
    """Revoke one of a person's own keys; return its prefix."""
    key = session.exec(select(ApiKey).where(ApiKey.id == key_id, ApiKey.person_id == person_id)).first()
    if key is None:
        raise NotFound("key")
    if key.revoked_at is None:
        key.revoked_at = at
        session.add(key)
        note(session, person_id, "key.revoke", "key", key.id, at=at)
    return key.prefix


# --- parties -------------------------------------------------------------------------------------


def register(session: Session, asked: Registration, *, password_hash: str, at: datetime) -> int:
    """Keep a party and its first person, waiting for admission; return the person's id.

    Raises: BadInput `name_taken`, `email_taken`.
    """
    faults = []
    if session.exec(select(Party.id).where(Party.name_key == name_key(asked.party_name))).first() is not None:
        faults.append(Fault("name_taken", "party_name", asked.party_name, "a name that no other party has"))
    if session.exec(select(Person.id).where(Person.email_key == name_key(asked.email))).first() is not None:
        faults.append(Fault("email_taken", "email", asked.email, "an address that is not in use"))
    if faults:
        raise BadInput(faults)
    party = Party(
        kind=asked.kind, name=asked.party_name, name_key=name_key(asked.party_name), country=asked.country,
        iban=asked.iban, created_at=at,
    )  # fmt: skip
    session.add(party)
    session.flush()
    person = Person(
        party_id=party.id, email=asked.email, email_key=name_key(asked.email), name=asked.person_name,
        password_hash=password_hash, roles=[asked.role], language=asked.language, created_at=at,
    )  # fmt: skip
    session.add(person)
    session.flush()
    note(session, person.id, "party.register", "party", party.id, {"role": asked.role}, at=at)
    return person.id


@dataclass(frozen=True, slots=True)
class PartyLine:
    """A party as the operator's lists show it."""

    id: int
    name: str
    kind: str
    country: str
    status: str
    roles: tuple[str, ...]
    people: int
    created_at: datetime


def parties(session: Session, *, status: str = "", after: int = 0, limit: int = 50) -> tuple[list[PartyLine], int]:
    """Parties in the order of registration after the id `after`, and how many there are in all.

    `status`: only those; the longest waiting come first.
    """
    wanted = select(Party).where(Party.id > after).order_by(col(Party.id)).limit(limit)
    total = select(func.count()).select_from(Party)
    if status:
        wanted, total = wanted.where(Party.status == status), total.where(Party.status == status)
    found = list(session.exec(wanted))
    people = session.exec(select(Person).where(col(Person.party_id).in_([party.id for party in found]))).all()
    lines = []
    for party in found:
        own = [person for person in people if person.party_id == party.id]
        roles = tuple(sorted({role for person in own for role in person.roles}))
        lines.append(
            PartyLine(party.id, party.name, party.kind, party.country, party.status, roles, len(own), party.created_at)
        )
    return lines, session.exec(total).one()


def party(session: Session, party_id: int) -> tuple[Party, list[Person], list[AuditTrail]]:
    """One party, its people, and what was done with it, newest first (for the operator)."""
    found = session.get(Party, party_id)
    if found is None:
        raise NotFound("party")
    people = list(session.exec(select(Person).where(Person.party_id == party_id).order_by(col(Person.id))))
    trail = session.exec(
        select(AuditTrail)
        .where(AuditTrail.subject == "party", AuditTrail.subject_id == party_id)
        .order_by(col(AuditTrail.id).desc())
        .limit(50)
    )
    return found, people, list(trail)


def decide(session: Session, party_id: int, *, status: str, reason: str, person_id: int, at: datetime) -> list[str]:
    """Admit, refuse, suspend or re-admit a party (`market/parties.MOVES`).

    Where rights rise, its people go on, each under a new number from his next page on (`renew_sign_in`); where they
    fall, the sessions end, and the sign-in page says why. Returns the hashes of the tokens of those that ended.
    Raises: NotFound; Conflict `party_status`, when the party's state does not allow it.
    """
    found = session.exec(select(Party).where(Party.id == party_id).with_for_update()).first()
    if found is None:
        raise NotFound("party")
    if status not in MOVES[found.status]:
        raise Conflict("party_status", status=found.status)
    before = found.status
    found.status, found.decision, found.decided_by, found.decided_at = status, reason, person_id, at
    session.add(found)
    note(session, person_id, f"party.{status}", "party", party_id, {"reason": reason}, at=at)
    facts = {"party": found.name, "reason": reason}
    notices.put(session, f"party_{status}", f"{party_id}:{at.isoformat()}", facts, party_id=party_id, at=at)
    if before != "admitted":  # it could do nothing, so there is nothing to take away
        return []
    return end_sign_ins(session, list(session.exec(select(Person.id).where(Person.party_id == party_id))), why=status)


def person(session: Session, person_id: int) -> Person:
    """One person."""
    found = session.get(Person, person_id)
    if found is None:
        raise NotFound("person")
    return found


def set_language(session: Session, person_id: int, language: str) -> None:
    """Keep the language that a person reads."""
    found = person(session, person_id)
    found.language = language
    session.add(found)


def set_password(session: Session, person_id: int, password_hash: str, *, but: str, at: datetime) -> list[str]:
    """Keep a new password; every other session of the person ends; return their tokens' hashes."""
    found = person(session, person_id)
    found.password_hash = password_hash
    session.add(found)
    note(session, person_id, "person.password", "person", person_id, at=at)
    return end_sign_ins(session, [person_id], why="password", but=but)
