"""A small marketplace for tests of lots and rooms: a creditor with a vehicle, an operator, investors, an auction."""

from __future__ import annotations

import io
import time
from datetime import UTC, datetime, timedelta
from typing import Any

from PIL import Image
from sqlmodel import select

from storage import participations
from storage.tables import Auction, Lot, Participation, PaymentDue
from tests.servers import PATIENCE_S
from tests.web.conftest import Site, Visit

VIN = "1HGCM82633A004352"  # its check digit holds
DRAFT = {"title_zh": "2019 款轿车", "title_en": "Sedan of 2019", "text_zh": "车况良好。", "text_en": "In good order.",
         "place": "杭州 Hangzhou"}  # fmt: skip
ITEM = {
    "kind": "vehicle", "title_zh": "2019 款轿车", "title_en": "Sedan of 2019", "place": "杭州", "currency": "CNY",
    "appraisal": "1000000", "appraisal_on": "2026-10-01", "vin": VIN, "make": "Honda", "model": "Accord",
    "model_year": "2003", "odometer_km": "82000", "body": "sedan", "fuel": "petrol", "color": "银", "keys": "2",
    "runs": "on", "liens": "1; Bank of Hangzhou; 200000.00",
}  # fmt: skip


def photograph(width: int = 900, height: int = 600, kind: str = "JPEG") -> bytes:
    """A picture with a place in its EXIF."""
    image = Image.new("RGB", (width, height), (120, 140, 160))
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    out = io.BytesIO()
    image.save(out, kind, exif=exif)
    return out.getvalue()


def terms(
    *, opens: timedelta = timedelta(seconds=-1), lasts: timedelta = timedelta(hours=2), **more: str
) -> dict[str, str]:
    """Terms as the form has them; `opens` from now."""
    opens_at = datetime.now(UTC) + opens
    return {
        "ruleset": "english-proxy-soft-close", "opening": "840000", "step": "5000", "reserve": "none",
        "deposit": "84000", "opens_at": opens_at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "closes_at": (opens_at + lasts).isoformat(timespec="seconds").replace("+00:00", "Z"), "zone": "Asia/Shanghai",
        "balance_due_days": "10", "premium": "1.5", "commission": "2", "appraisal": "1000000",
        "appraisal_on": "2026-10-01", **more,
    }  # fmt: skip


class World:
    """The people, and what they have made."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.creditor = site.person("asset_manager", name="First Bank")
        self.operator = site.person("operator", name="Platform")

    def item(self, pictures: int = 0, **more: str) -> int:
        """A vehicle with photographs; return its id."""
        answer = self.creditor.post("/collateral", ITEM | more)
        assert answer.status_code == 303, answer.text
        item_id = int(answer.headers["location"].rsplit("/", 1)[1])
        for number in range(pictures):
            files = {"picture": ("a.jpg", photograph(900 + number), "image/jpeg")}
            answer = self.creditor.post(f"/collateral/{item_id}/pictures", files=files)
            assert answer.status_code == 303, answer.text
        return item_id

    def submitted(self, item_id: int | None = None, **more: Any) -> int:
        """A lot that waits for the operator; return its id."""
        item_id = item_id or self.item()
        answer = self.creditor.post("/lots", {"kind": "vehicle", "content_id": item_id, **DRAFT})
        assert answer.status_code == 303, answer.text
        lot_id = int(answer.headers["location"].split("/")[2])
        for step, values in (("terms", terms(**more)), ("texts", DRAFT), ("submit", {})):
            answer = self.creditor.post(f"/lots/{lot_id}/edit/{step}", values)
            assert answer.status_code == 303, answer.text
        return lot_id

    def published(self, item_id: int | None = None, **more: Any) -> tuple[int, int]:
        """A published lot and its auction."""
        more.setdefault("opens", timedelta(seconds=1.2))
        lot_id = self.submitted(item_id, **more)
        answer = self.operator.post(f"/lots/queue/{lot_id}/publish")
        assert answer.status_code == 303, answer.text
        auction_id = self.site.db.read(
            lambda session: session.exec(select(Auction.id).where(Auction.lot_id == lot_id)).one()
        )
        return lot_id, auction_id

    def bidder(self, auction_id: int, *, limit: str = "", name: str = "", admit: bool = True) -> Visit:
        """An investor who asked, was let in and paid; the deposit's arrival is put straight to the journal's door."""
        investor = self.site.person("investor", name=name)
        lot = self.site.db.read(
            lambda session: session.exec(select(Lot).join(Auction).where(Auction.id == auction_id)).one()
        )
        page = investor.get(f"/lots/{lot.id}").text
        agreement = page.split('name="agreement" value="', 1)[1].split('"', 1)[0]
        answer = investor.post(
            f"/auctions/{auction_id}/participations", {"agreed": "on", "agreement": agreement, "limit": limit}
        )
        assert answer.status_code == 303, answer.text
        if admit:
            self.admit(auction_id, investor)
        return investor

    def asked(self, auction_id: int, investor: Visit) -> Participation:
        found = self.site.db.read(participations.participation, auction_id, investor.party_id)
        assert found is not None
        return found

    def admit(self, auction_id: int, investor: Visit, **more: str) -> None:
        """Let a party in and have its deposit arrive."""
        asked = self.asked(auction_id, investor)
        assert self.operator.post(f"/participations/{asked.id}/approve", more).status_code == 303
        self.pay(auction_id, investor)
        self.until(lambda: self.asked(auction_id, investor).bidder is not None)

    def pay(self, auction_id: int, investor: Visit) -> None:
        """The deposit is there: what the reconciliation leaves behind."""
        from storage.settlement import deposit_arrived

        def arrive(session: Any) -> None:
            due = session.exec(
                select(PaymentDue).where(PaymentDue.auction_id == auction_id, PaymentDue.party_id == investor.party_id)
            ).one()
            due.status, due.paid_minor = "paid", due.amount_minor
            session.add(due)
            deposit_arrived(session, due, at=datetime.now(UTC))

        self.site.db.in_transaction(arrive)
        self.site.app.state.poke()

    def until(self, holds: Any) -> None:
        """Wait for what a task does."""
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, "it did not happen in time"
            time.sleep(0.02)

    def opened(self, auction_id: int) -> None:
        """Wait for the opening."""
        self.until(lambda: self.site.db.read(lambda session: session.get_one(Auction, auction_id).phase) == "open")
