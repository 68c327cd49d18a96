"""Pages and JSON of sales, statements, the queue and the books, as their people use them."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update
from sqlmodel import Session, col, select

from market.errors import Conflict
from market.money import allocate
from storage import ledger as books
from storage import settlement
from storage.outbox import due
from storage.tables import Auction, BankAccount, Lot, Outbox, PaymentDue, Payout, Sale, StatementLine, Tape
from tests.bank import Paid
from tests.storage.sales import AT, World, world
from tests.web.conftest import Site, Visit
from web import demo_acts
from web.ledger import trace_lines
from web.render import money, utc_now
from web.tasks import TASKS

LATER = AT + timedelta(days=3)


@pytest.fixture
def w(site: Site) -> World:
    """A sale that the tests play through by themselves: neither the server's jobs nor its clock has a hand in it."""
    portal = site.first.portal
    assert portal is not None
    portal.call(site.app.state.jobs.stop)
    made = world(site.db)
    publish(site, made)
    return made


def publish(site: Site, made: World) -> None:
    """Open the lot's next auction, which the server's clock leaves alone."""
    made.publish()
    never = update(Auction).where(col(Auction.id) == made.auction).values(due_at=None)
    site.db.in_transaction(lambda session: session.execute(never))


def run(site: Site, name: str) -> None:
    """Run what waits in the outbox under one name, as the jobs do."""
    rows: list[Outbox] = site.db.read(due, at=AT + timedelta(days=365), limit=100)
    for row in rows:
        if row.task == name:
            TASKS[name](site.app.state.jobs.context, **row.arguments)


def upload(site: Site, operator: Visit, data: bytes, **more: str) -> str:
    answer = operator.post("/statements", more, files={"file": ("s.xml", io.BytesIO(data))})
    assert answer.status_code == 303, answer.text
    run(site, "read_statement")
    return operator.get(answer.headers["location"]).text


def test_the_walk_from_deposit_to_closed_out(site: Site, w: World) -> None:
    operator = site.person("operator")
    buyer = site.person("investor", party_id=w.bidders[0])
    creditor = site.person("asset_manager", party_id=w.creditor)
    first, second = (w.ask(party_id) for party_id in w.bidders[:2])
    text = upload(
        site, operator, w.bank.camt053(Paid(first.amount_minor, first.reference), Paid(second.amount_minor, "gift"))
    )
    assert "Kept" in text
    assert first.reference in buyer.get("/payments").text
    assert w.bank.iban in buyer.get("/payments").text  # who must pay is told the account to pay to
    queue = operator.get("/reconciliation").text
    assert "1 line waits" in queue
    line = queue.split("/reconciliation/", 1)[1].split("/", 1)[0]
    assert operator.post(f"/reconciliation/{line}/match", {"expected": str(second.id)}).status_code == 303
    assert "Nothing waits" in operator.get("/reconciliation").text
    comes = f"Next: number {w.bank.number + 1}, opening balance {money(w.bank.balance_minor, 'CNY')}"
    assert comes in operator.get("/statements").text

    w.play([(w.bidders[0], 1_000_000_00)])
    sale_id = site.db.in_transaction(settlement.settle, w.auction, at=AT + timedelta(days=1))
    due_row: PaymentDue = w.balance_due(sale_id or 0)
    for visit, words in ((buyer, "Payment reference"), (creditor, "What the creditor gets"), (operator, "Operator")):
        page = visit.get(f"/sales/{sale_id}")
        assert page.status_code == 200
        assert "916,000.00" in page.text
        assert words in page.text
        assert f"/sales/{sale_id}" in visit.get("/sales").text
    assert due_row.reference in buyer.get(f"/sales/{sale_id}/invoice").text
    assert site.person("investor").get(f"/sales/{sale_id}").status_code == 404
    assert site.person("investor").api("GET", f"/settlements/{sale_id}").status_code == 404

    text = upload(site, operator, w.bank.mt940(Paid(due_row.amount_minor, due_row.reference)))
    assert "Reference equal" in text
    run(site, "complete")
    assert "every account closed out" in buyer.get(f"/sales/{sale_id}").text
    found = creditor.api("GET", f"/settlements/{sale_id}").json()
    assert (found["status"], found["accounts_price"], found["hammer"]) == ("closed_out", "1000000.00", "1000000.00")
    assert buyer.api("GET", "/payments-due").json()["payments"][0]["status"] == "paid"

    ledger = operator.get("/ledger").text
    assert "Ledger = bank = accounts, as of" in ledger
    assert f"escrow:{sale_id}:CNY" in ledger
    assert operator.get(f"/ledger/accounts/escrow:{sale_id}:CNY").status_code == 200
    assert operator.get("/ledger/entries").status_code == 200
    assert operator.get("/ledger/entries/1").status_code == 200
    assert operator.get("/payouts").status_code == 200
    assert buyer.get("/ledger").status_code == 403
    for kind, subject in (("sale", sale_id), ("loan_account", w.accounts[0]), ("statement_line", 1), ("payout", 1)):
        assert operator.get(f"/trace/{kind}/{subject}").status_code == 200
        cards = operator.api("GET", f"/ledger/trace/{kind}/{subject}").json()["cards"]
        assert cards[0]["kind"] == kind
    cards = operator.api("GET", f"/ledger/trace/loan_account/{w.accounts[0]}").json()["cards"]
    reached = {card["kind"] for card in cards}
    assert reached >= {"posting", "ledger_entry", "sale", "auction_entry", "statement_line", "payment_due"}
    assert any("auction_entry" in text for text in trace_lines(site.db, "loan_account", w.accounts[0]))


def test_a_line_is_split_and_a_decision_taken_back(site: Site, w: World) -> None:
    operator = site.person("operator", name="Mo Operator")
    first, second = (w.ask(party_id) for party_id in w.bidders[:2])
    both = Paid(2 * first.amount_minor - 100, f"{first.reference} {second.reference}", "Both")
    upload(site, operator, w.bank.camt053(both, Paid(700, "who", "Who")))
    queue = operator.get("/reconciliation").text
    for reference in (first.reference, second.reference):
        assert f'value="{reference}"' in queue, "the payments that the line names are filled in"
    line = queue.split("/reconciliation/", 1)[1].split("/", 1)[0]
    shares = {
        "reference-1": first.reference, "amount-1": "84000.00", "reference-2": second.reference, "amount-2": "84000.00",
        "reference-3": "", "amount-3": "",
    }  # fmt: skip
    refused = operator.post(f"/reconciliation/{line}/split", shares)
    assert refused.status_code == 422
    assert "The shares come to CNY 168,000.00; the line has CNY 167,999.00." in refused.text
    assert 'value="84000.00"' in refused.text, "what was typed is still there"
    bad = operator.post(
        f"/reconciliation/{line}/split", shares | {"amount-1": "1e3", "reference-3": "", "amount-3": "5"}
    )
    assert bad.status_code == 422
    assert 'href="#f-amount-1"' in bad.text
    assert operator.post(f"/reconciliation/{line}/split", shares | {"amount-2": "83999.00"}).status_code == 303
    queue = operator.get("/reconciliation").text
    assert "Decided last" in queue
    assert "Mo Operator" in queue
    final = operator.post(f"/reconciliation/{line}/undo", {"reason": "wrong"})
    assert final.status_code == 409
    assert "cannot be taken back" in final.text
    other = queue.split('data-key="r"', 1)[0].rsplit("/reconciliation/", 1)[1].split("/", 1)[0]
    assert operator.post(f"/reconciliation/{other}/not-ours", {"reason": "bank charges"}).status_code == 303
    assert operator.post(f"/reconciliation/{other}/undo", {"reason": ""}).status_code == 422
    back = operator.post(f"/reconciliation/{other}/undo", {"reason": "it is a deposit"})
    assert (back.status_code, back.headers["location"]) == (303, f"/reconciliation?line={other}")
    assert "1 line waits" in operator.get("/reconciliation").text
    assert "最近的处理" in operator.get("/reconciliation?lang=zh").text


def test_a_refused_statement_says_why(site: Site, w: World) -> None:
    operator = site.person("operator")
    data = w.bank.camt053(Paid(100, "x"))
    text = upload(site, operator, data.replace(b"<Amt Ccy='CNY'>1.00</Amt>", b"<Amt Ccy='CNY'>2.00</Amt>"))
    assert "statement_balance" in text
    assert "Opening balance plus entries is not the closing balance." in text
    assert "<td>CNY 1,001.00</td><td>CNY 1,002.00</td>" in text
    assert operator.post("/statements", files={"file": ("", io.BytesIO(b""))}).status_code == 422
    assert "Seen before" not in upload(site, operator, data)
    assert "Seen before" in upload(site, operator, data)


def test_an_account_that_was_sold_names_its_sale(site: Site, w: World) -> None:
    def keep(session: Session) -> None:
        for tape in session.exec(select(Tape)):
            tape.status = "kept"
            session.add(tape)

    site.db.in_transaction(keep)
    creditor = site.person("asset_manager", party_id=w.creditor)
    address = f"/accounts/{w.accounts[0]}"
    assert 'id="sale"' not in creditor.get(address).text
    sale_id = w.sell()
    page = creditor.get(address).text
    assert "Remaining in the creditor's books</dt><dd>CNY 50,000.00" in page
    due = w.balance_due(sale_id)
    w.pay(Paid(due.amount_minor, due.reference), at=LATER)
    w.db.in_transaction(settlement.complete, sale_id, at=LATER)
    page = creditor.get(address).text
    share = money(allocate(1_000_000_00, [50_000_00, 30_000_01, 0, 7])[0], "CNY")
    for words in (
        f'href="/sales/{sale_id}"', f'href="/lots/{w.lot}"', "2026-0001", "Bidder A", "2026, 10:00 (Beijing time)",
        f"Share of the price</dt><dd>{share}", "Remaining in the creditor's books</dt><dd>CNY 0.00",
    ):  # fmt: skip
        assert words in page, words
    trace = f'href="/trace/loan_account/{w.accounts[0]}"'
    assert trace not in page, "the books are the operator's"
    assert trace in site.person("asset_manager", "operator", party_id=w.creditor).get(address).text


def give_time(w: World, sale_id: int, left: timedelta) -> None:
    """Let the time to pay run out `left` from now, whatever the day on which the test runs."""

    def change(session: Session) -> None:
        sale = session.get_one(Sale, sale_id)
        sale.due_at = utc_now() + left - timedelta(days=2)
        sale.plan = {**sale.plan, "default_at": (utc_now() + left).isoformat()}
        session.add(sale)

    w.db.in_transaction(change)


LETTER = "letter of 12 Nov: we shall not pay"


def test_before_the_time_is_over_a_default_needs_the_buyers_letter(site: Site, w: World) -> None:
    sale_id = w.sell()
    give_time(w, sale_id, timedelta(days=5))
    operator, address = site.person("operator"), f"/sales/{sale_id}/default"
    for reason in ("", "said so", " " * 20):
        refused = operator.post(address, {"reason": reason, "confirm": "yes"})
        assert refused.status_code == 422
        assert "refusal in writing" in refused.text
    review = operator.post(address, {"reason": LETTER})
    assert review.status_code == 200
    assert w.sale(sale_id).status == "awaiting_balance", "shown first, done on confirmation"
    for words in (
        "The deposit of CNY 84,000.00 is not returned", "Costs of the sale; Shortfall of the price when sold again",
        "4 accounts go back to the creditor", "may not bid when this lot is auctioned again", LETTER,
    ):  # fmt: skip
        assert words in review.text
    assert operator.post(address, {"reason": LETTER, "confirm": "yes"}).status_code == 303
    assert w.sale(sale_id).status == "defaulted"
    assert LETTER in operator.get(f"/sales/{sale_id}").text
    assert operator.post(address, {"reason": LETTER}).status_code == 303, "done before"
    assert site.person("investor").post(address, {"reason": LETTER}).status_code == 403


def test_after_the_time_is_over_a_default_is_declared_without_a_letter(site: Site, w: World) -> None:
    sale_id = w.sell()
    give_time(w, sale_id, timedelta(seconds=-1))
    operator, address = site.person("operator"), f"/sales/{sale_id}/default"
    assert "The time to pay has run out" in operator.get(f"/sales/{sale_id}").text
    assert "What happens" in operator.post(address, {"reason": ""}).text
    assert w.sale(sale_id).status == "awaiting_balance"
    assert operator.post(address, {"reason": "", "confirm": "yes"}).status_code == 303
    assert w.sale(sale_id).status == "defaulted"


def send_payouts(w: World) -> None:
    """The bank sends all that is owed out."""
    rows = w.db.read(lambda session: session.exec(select(Payout).where(Payout.status == "due")).all())
    w.pay(*(Paid(-one.amount_minor, one.reference, one.name, one.iban) for one in rows), at=LATER)


@pytest.mark.parametrize(("costs", "rest"), [("6000.00", "28,000.00"), ("1000.00", "33,000.00")])
def test_what_became_of_a_deposit_that_is_not_returned(site: Site, w: World, costs: str, rest: str) -> None:
    """spec/rulesets.md 2.1.4: 84,000 on 1,000,000; costs 6,000; sold again at 950,000: 6,000 / 50,000 / 28,000."""
    first = w.sell(1_000_000_00)
    operator = site.person("operator")
    buyer = site.person("investor", party_id=w.bidders[0])
    creditor = site.person("asset_manager", party_id=w.creditor)
    reference = w.balance_due(first).reference
    w.db.in_transaction(settlement.default, first, at=AT + timedelta(days=30))
    answer = operator.post(f"/sales/{first}/costs", {"costs": costs})
    assert answer.headers["location"] == f"/sales/{first}#costs"
    stated = f"{int(costs[:-3]):,}.00"
    page = operator.get(f"/sales/{first}").text
    assert f"Stated: CNY {stated}." in page
    assert page.count(stated) >= 3, "where it is stated, in the timeline, in the use of the deposit"
    for visit in (operator, buyer, creditor):
        page = visit.get(f"/sales/{first}").text
        assert "What became of the deposit" in page
        assert "the lot has not been auctioned again" in page
        assert "Give the reference in the payment" not in page
        assert "What the creditor gets" not in page
        assert ">Proceeds<" not in page
    invoice = buyer.get(f"/sales/{first}/invoice").text
    assert "Not to be paid any more" in invoice
    assert "and give the reference" not in invoice
    assert f"/lots/{w.lot}/edit?step=terms" in creditor.get(f"/sales/{first}").text
    assert f"/lots/{w.lot}/edit?step=terms" not in buyer.get(f"/sales/{first}").text

    publish(site, w)
    assert "auction number 2" in creditor.get(f"/sales/{first}").text
    second = w.sell(950_000_00, winner=1, others=(2,))
    page = creditor.get(f"/sales/{first}").text
    assert "that price is paid" in page
    assert f"/sales/{second}" in page
    assert "The creditor has got of it</dt><dd>CNY 0.00" in page
    due = w.balance_due(second)
    w.pay(Paid(due.amount_minor, due.reference), at=LATER)
    w.db.in_transaction(settlement.complete, second, at=LATER)
    page = creditor.get(f"/sales/{first}").text
    table = page.split('id="use"', 1)[1].split("</table>", 1)[0]
    figures = [one.split("<", 1)[0] for one in table.split('<td class="n">')[1:]]
    assert figures == [stated, "50,000.00", rest, "84,000.00"]
    assert "for the debtor's debts" in table
    got = 50_000_00 + int(rest.replace(",", "").replace(".", ""))
    assert w.payouts()[f"forfeiture:{first}"] == got
    assert f"The creditor has got of it</dt><dd>CNY {got // 100:,}.00" in page
    assert "sold again at CNY 950,000.00" in page
    assert "不予退还的保证金" in creditor.get(f"/sales/{first}?lang=zh", follow_redirects=True).text
    assert reference  # the page of a defaulted sale asks nobody for it any more

    send_payouts(w)
    left = {one.code: one.balance_minor for one in w.db.read(books.trial_balance) if one.balance_minor}
    assert {code.split(":")[0] for code in left} - {"own"} == {"bank", "sale_costs"}, "own: what the bank began with"
    assert left["sale_costs:CNY"] == -int(costs.replace(".", ""))
    assert w.agrees()


def test_one_zone_on_every_page_of_a_sale(site: Site, w: World) -> None:
    """The lot's zone, whatever the calendar of its currency."""

    def move(session: Session) -> None:
        lot = session.get_one(Lot, w.lot)
        lot.terms = {**lot.terms, "zone": "America/New_York"}
        session.add(lot)

    w.db.in_transaction(move)
    sale_id = w.sell()
    buyer = site.person("investor", party_id=w.bidders[0])
    for address in (f"/sales/{sale_id}", f"/sales/{sale_id}/invoice", "/sales", "/payments"):
        page = buyer.get(address).text
        assert "New York time" in page, address
        assert "Beijing time" not in page.split("<footer", 1)[0], address


def test_every_page_in_chinese(site: Site, w: World) -> None:
    w.sell()
    w.pay(Paid(12_34, "?", "Somebody"), Paid(-5_00, "charges"))
    operator = site.person("operator")
    for address in (
        "/sales", "/sales/1", "/sales/1/invoice", "/payments", "/payouts", "/statements", "/statements/1",
        "/reconciliation", "/ledger", "/ledger/entries", "/ledger/entries/1", "/trace/sale/1",
    ):  # fmt: skip
        answer = operator.get(address + "?lang=zh", follow_redirects=True)
        assert answer.status_code == 200, address
        assert 'lang="zh-Hans"' in answer.text
    assert operator.post("/reconciliation/3/not-ours", {"reason": "手续费"}).status_code == 303
    assert operator.post("/reconciliation/4/return").status_code in (303, 409)
    assert w.agrees()


def test_a_statement_pays_for_a_party_of_ones_own(site: Site, w: World) -> None:
    operator = site.person("operator")
    asked = w.ask(w.bidders[0])
    named = update(BankAccount).values(name=f"{demo_acts.CLIENTS_MONEY} CNY")
    site.db.in_transaction(lambda session: session.execute(named))
    with pytest.raises(Conflict, match="reference_unknown"):
        site.db.read(demo_acts.paying_statement, "CL-NONE", at=AT)
    _, part = site.db.read(demo_acts.paying_statement, asked.reference, "1.00", at=AT)
    assert "Kept" in upload(site, operator, part)
    _, rest = site.db.read(demo_acts.paying_statement, asked.reference, at=AT)
    assert "Kept" in upload(site, operator, rest)
    assert site.db.read(lambda session: session.get_one(PaymentDue, asked.id).status) == "paid"


def test_the_bank_takes_a_balance_back(site: Site, w: World) -> None:
    """The sale says why it is not closed out; the operator takes the line back; after the close-out it is a claim."""
    operator = site.person("operator")
    sale_id = w.sell()
    owed = w.balance_due(sale_id)
    paid = Paid(owed.amount_minor, owed.reference, "Bidder A", "NL01")
    back = Paid(-owed.amount_minor, owed.reference, "Bidder A", "NL01")
    w.pay(paid, at=LATER)
    w.pay(back, at=LATER)
    run(site, "complete")
    assert "Paid in full, but not closed out yet" in operator.get(f"/sales/{sale_id}").text
    page = operator.get("/reconciliation").text
    assert "Takes back line 1 of statement" in page
    assert "Reference equal" in page

    def lines(session: Session) -> tuple[int, int]:
        query = select(StatementLine).where(
            col(StatementLine.amount_minor).in_((owed.amount_minor, -owed.amount_minor))
        )
        first, second = session.exec(query.order_by(col(StatementLine.id))).all()
        return first.id, second.id

    first, second = site.db.read(lines)
    taken = operator.post(f"/reconciliation/{second}/take-back", {"first": str(first)})
    assert taken.status_code == 303
    page = operator.get(f"/sales/{sale_id}").text
    assert "Payment taken back by the bank" in page
    assert "Waiting for the balance" in page
    assert "Takes another line back" in operator.get("/reconciliation").text
    w.pay(paid, at=LATER)
    run(site, "complete")
    assert w.sale(sale_id).status == "closed_out"
    w.pay(replace(back, is_reversal=True), at=LATER)
    assert "Closed out, but the bank took" in operator.get(f"/sales/{sale_id}").text
    assert "but its accounts are with the buyer" in operator.get("/home").text
    assert "taken back by" in operator.get(f"/trace/statement_line/{first}").text
