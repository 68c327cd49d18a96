"""Pages and JSON of sales, statements, the queue and the books, as their people use them."""

from __future__ import annotations

import io
from datetime import timedelta

import pytest

from storage import settlement
from storage.outbox import due
from storage.tables import Outbox, PaymentDue
from tests.bank import Paid
from tests.storage.sales import AT, World, world
from tests.web.conftest import Site, Visit
from web.ledger import trace_lines
from web.tasks import TASKS

LATER = AT + timedelta(days=3)


@pytest.fixture
def w(site: Site) -> World:
    made = world(site.db)
    made.publish()
    return made


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
    assert "The shares come to 168000.00; the line has 167999.00." in refused.text
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
    assert operator.post("/statements", files={"file": ("", io.BytesIO(b""))}).status_code == 422
    assert "Seen before" not in upload(site, operator, data)
    assert "Seen before" in upload(site, operator, data)


def test_an_operator_declares_a_default(site: Site, w: World) -> None:
    sale_id = w.sell()
    operator = site.person("operator")
    assert operator.post(f"/sales/{sale_id}/default", {"reason": ""}).status_code == 422
    assert operator.post(f"/sales/{sale_id}/costs", {"costs": "6000.00"}).status_code == 303
    assert operator.post(f"/sales/{sale_id}/default", {"reason": "said so"}).status_code == 303
    assert w.sale(sale_id).status == "defaulted"
    assert "said so" in operator.get(f"/sales/{sale_id}").text
    assert site.person("investor").post(f"/sales/{sale_id}/default", {"reason": "x"}).status_code == 403


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
