"""Items of collateral and their photographs: kept for their creditor, shown to all once they are published in a lot."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, exists, or_
from sqlmodel import Session, col, func, select

from market.collateral import PICTURES, Item
from market.errors import BadInput, Conflict, Fault, NotFound
from market.lots import BOUND, Status
from storage.tables import AuditTrail, Collateral, LoanAccount, Lot, Picture, Tape


@dataclass(frozen=True, slots=True)
class ItemRow:
    """An item as lists show it."""

    item: Collateral
    cover: int | None  # picture
    pictures: int
    lot_id: int | None  # the newest lot that it is in


def create_item(session: Session, creditor_id: int, item: Item, *, loan_id: str, person_id: int, at: datetime) -> int:
    """Keep a new item and return its id. `loan_id`: the creditor's number of the account that it secures, or ""."""
    account_id = _account(session, creditor_id, loan_id)
    row = Collateral(creditor_id=creditor_id, account_id=account_id, created_at=at, **_columns(item))
    session.add(row)
    session.flush()
    session.add(_trail(row, "collateral.create", person_id, at))
    return row.id


def edit_item(
    session: Session, creditor_id: int, collateral_id: int, item: Item, *, loan_id: str, person_id: int, at: datetime
) -> None:
    """Change an item that no submitted lot holds. Raises Conflict `collateral_bound` otherwise."""
    row = _own(session, creditor_id, collateral_id)
    _must_be_free(session, row)
    for name, value in _columns(item).items():
        setattr(row, name, value)
    row.account_id = _account(session, creditor_id, loan_id)
    session.add(row)
    session.add(_trail(row, "collateral.edit", person_id, at))


def items(session: Session, creditor_id: int, *, limit: int = 200) -> list[ItemRow]:
    """Return the creditor's items, newest first."""
    cover = (
        select(Picture.id)
        .where(Picture.collateral_id == Collateral.id)
        .order_by(col(Picture.position))
        .limit(1)
        .correlate(Collateral)
        .scalar_subquery()
    )
    count = select(func.count(col(Picture.id))).where(Picture.collateral_id == Collateral.id)
    lot = select(func.max(Lot.id)).where(Lot.collateral_id == Collateral.id, Lot.status != Status.WITHDRAWN)
    rows = session.exec(
        select(Collateral, cover, count.scalar_subquery(), lot.scalar_subquery())
        .where(Collateral.creditor_id == creditor_id)
        .order_by(col(Collateral.id).desc())
        .limit(limit)
    )
    return [ItemRow(*row) for row in rows]


def item(session: Session, creditor_id: int, collateral_id: int) -> tuple[Collateral, list[Picture], str]:
    """Return an item of this creditor with its pictures in order, and the creditor's number of its account."""
    row = session.exec(
        select(Collateral).where(Collateral.id == collateral_id, Collateral.creditor_id == creditor_id)
    ).first()
    if row is None:
        raise NotFound("collateral")
    account = session.get(LoanAccount, row.account_id) if row.account_id else None
    return row, pictures(session, collateral_id), account.loan_id if account else ""


def pictures(session: Session, collateral_id: int) -> list[Picture]:
    """Return the pictures of an item, in order."""
    found = select(Picture).where(Picture.collateral_id == collateral_id).order_by(col(Picture.position))
    return list(session.exec(found))


def add_picture(
    session: Session,
    creditor_id: int,
    collateral_id: int,
    *,
    digest: str,
    thumbnail_digest: str,
    size: tuple[int, int],
    captions: tuple[str, str],
    person_id: int,
    at: datetime,
) -> int:
    """Put a photograph, already in the object store, behind the others; return its id. `captions`: zh, en."""
    row = _own(session, creditor_id, collateral_id)
    _must_be_free(session, row)
    there = pictures(session, collateral_id)
    if len(there) >= PICTURES:
        raise BadInput([Fault("too_many", "picture", str(len(there) + 1), f"at most {PICTURES} pictures")])
    if any(one.digest == digest for one in there):
        raise Conflict("picture_repeated")
    picture = Picture(
        collateral_id=collateral_id,
        position=max((one.position for one in there), default=0) + 1,
        digest=digest,
        thumbnail_digest=thumbnail_digest,
        width=size[0],
        height=size[1],
        caption_zh=captions[0],
        caption_en=captions[1],
        created_at=at,
    )
    session.add(picture)
    session.add(_trail(row, "collateral.picture", person_id, at))
    session.flush()
    return picture.id


def arrange_picture(
    session: Session, creditor_id: int, collateral_id: int, picture_id: int, move: str, *, person_id: int, at: datetime
) -> None:
    """Make a picture the first one, or remove it (`move`: first | remove)."""
    row = _own(session, creditor_id, collateral_id)
    _must_be_free(session, row)
    there = pictures(session, collateral_id)
    chosen = next((one for one in there if one.id == picture_id), None)
    if chosen is None:
        raise NotFound("picture")
    if move == "remove":
        session.delete(chosen)
    else:
        chosen.position = there[0].position - 1
        session.add(chosen)
    session.add(_trail(row, f"collateral.picture_{move}", person_id, at))


def picture_to_show(session: Session, picture_id: int, *, party_id: int | None, is_operator: bool) -> Picture:
    """Return a picture that this viewer may see: the creditor and the operator always, all others once it is published.

    Raises: NotFound, for one that does not exist or is not published, alike.
    """
    published = exists().where(col(Lot.collateral_id) == Collateral.id, col(Lot.published_at).is_not(None))
    rights: list[ColumnElement[bool]] = [published]
    if party_id is not None:
        rights.append(col(Collateral.creditor_id) == party_id)
    if is_operator:
        submitted = exists().where(col(Lot.collateral_id) == Collateral.id, col(Lot.submitted_at).is_not(None))
        rights.append(submitted)
    found = session.exec(
        select(Picture)
        .join(Collateral, col(Collateral.id) == Picture.collateral_id)
        .where(Picture.id == picture_id, or_(*rights))
    ).first()
    if found is None:
        raise NotFound("picture")
    return found


def _columns(item: Item) -> dict[str, Any]:
    return {
        "kind": item.kind.value,
        "title_en": item.title_en,
        "title_zh": item.title_zh,
        "place": item.place,
        "currency": item.currency,
        "appraisal_minor": item.appraisal_minor,
        "appraisal_on": item.appraisal_on,
        "facts": item.kept_facts(),
    }


def _account(session: Session, creditor_id: int, loan_id: str) -> int | None:
    if not loan_id:
        return None
    found = session.exec(
        select(LoanAccount.id)
        .join(Tape, col(Tape.id) == LoanAccount.tape_id)
        .where(Tape.status == "kept")  # accounts of a tape that is still being written do not exist yet
        .where(LoanAccount.creditor_id == creditor_id, LoanAccount.loan_id == loan_id, LoanAccount.status == "overdue")
        .order_by(col(LoanAccount.id).desc())
    ).first()
    if found is None:
        raise BadInput(
            [Fault("account_unknown", "loan_id", loan_id[:80], "the number of one of your overdue accounts")]
        )
    return found


def _own(session: Session, creditor_id: int, collateral_id: int) -> Collateral:
    found = session.exec(
        select(Collateral)
        .where(Collateral.id == collateral_id, Collateral.creditor_id == creditor_id)
        .with_for_update()
    ).first()
    if found is None:
        raise NotFound("collateral")
    return found


def _must_be_free(session: Session, row: Collateral) -> None:
    bound = select(Lot.reference).where(Lot.collateral_id == row.id, col(Lot.status).in_(BOUND))
    if reference := session.exec(bound).first():
        raise Conflict("collateral_bound", lot=reference)


def _trail(row: Collateral, action: str, person_id: int, at: datetime) -> AuditTrail:
    return AuditTrail(at=at, person_id=person_id, action=action, subject="collateral", subject_id=row.id)
