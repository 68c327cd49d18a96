"""Made-up data for the demonstration: parties, loan tapes, vehicles, property, bank statements.

Everything comes from a seeded `Random`: the same seed, the same data.  Every person and company is
invented, and says so in its name; nothing is copied from real records.  Nothing here reads or writes a
database: `web/demo.py` takes what it makes through the ordinary doors.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from random import Random
from xml.sax.saxutils import escape

from market.collateral import vin_check_digit
from market.lots import LotDraft
from market.money import amount_text
from web import demo_pictures

# --- parties ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DemoPerson:
    """Somebody of a party; `email` is under example.com, which is nobody's (RFC 2606)."""

    name: str
    email: str
    roles: tuple[str, ...]
    language: str = ""


@dataclass(frozen=True, slots=True)
class DemoParty:
    """An invented organisation or person. `purse`: what an investor bids compared with others, in percent."""

    key: str
    name: str
    kind: str
    country: str
    people: tuple[DemoPerson, ...]
    purse: int = 100


MADE_UP = "Made up for the demonstration."  # in the text of every lot of ours: a visitor's own is left to the visitor

PLATFORM = DemoParty(
    "platform", "Clearlot Demo Exchange 清算演示交易所", "organisation", "CN",
    (
        DemoPerson("Wen Operator 文（演示）", "operator@example.com", ("operator",)),
        DemoPerson("Ruo Second 若（演示）", "operator2@example.com", ("operator", "platform")),
    ),
)  # fmt: skip

CREDITORS = (
    DemoParty(
        "bank", "Lanting Demo Bank 岚汀演示银行", "organisation", "CN",
        (DemoPerson("Su Banker 苏（演示）", "manager@example.com", ("asset_manager",)),),
    ),
    DemoParty(
        "lender", "Brightmoor Demo Consumer Lending", "organisation", "US",
        (DemoPerson("Iris Lender (demo)", "lender@example.com", ("asset_manager",), "en"),),
    ),
    DemoParty(
        "amc", "Yunhe Demo Asset Management 云禾演示资产管理", "organisation", "CN",
        (DemoPerson("He Manager 禾（演示）", "amc@example.com", ("asset_manager",)),),
    ),
)  # fmt: skip

# The last two are a person and a company that now and then does not pay.
INVESTORS = tuple(
    DemoParty(key, name, kind, country, (DemoPerson(person, f"{key}@example.com", ("investor",)),), purse)
    for key, name, kind, country, person, purse in (
        ("investor", "Heron Point Demo Capital 鹭岬演示资本", "organisation", "CN", "An Investor 安（演示）", 100),
        ("quartz", "Quartz and Fen Demo Partners 石英芬演示合伙", "organisation", "SG", "Qi Partner 祁（演示）", 104),
        ("tarn", "Tarnwood Demo Recovery", "organisation", "GB", "Tess Tarn (demo)", 97),
        ("mulan", "Mulan Creek Demo Assets 木兰溪演示资产", "organisation", "CN", "Mu Creek 穆（演示）", 106),
        ("kestrel", "Kestrel Quay Demo Motors 隼港演示车行", "organisation", "CN", "Sun Quay 隼（演示）", 101),
        ("ninebridge", "Nine Bridges Demo Homes 九桥演示置业", "organisation", "CN", "Jiu Bridge 九（演示）", 103),
        ("saltmarsh", "Saltmarsh Demo Fund", "organisation", "US", "Sal Marsh (demo)", 95),
        ("lark", "Lark Ling 凌（演示个人）", "person", "CN", "Lark Ling 凌（演示）", 92),
        ("feather", "Featherlight Demo Ventures 轻羽演示投资", "organisation", "CN", "Yu Feather 羽（演示）", 99),
    )
)
NEVER_SURE = "feather"  # wins now and then, and then does not pay


def bank_number(random: Random) -> str:
    """A bank account number of 19 digits that begins with 99999: no bank has that prefix."""
    return "99999" + "".join(random.choices("0123456789", k=14))


# --- loan tapes ---------------------------------------------------------------------------------

# The columns of a consumer lender's tape that the market reads, under the names that LendingClub's
# public files made common; the layout is a fact, the rows are ours.
TAPE_COLUMNS = (
    "row_id", "state", "annual_income", "debt_to_income", "loan_purpose", "application_type", "loan_amount", "term",
    "interest_rate", "installment", "grade", "sub_grade", "issue_month", "loan_status", "balance", "paid_total",
    "paid_principal", "paid_interest", "paid_late_fees",
)  # fmt: skip
PURPOSES = (
    ("debt_consolidation", 46), ("credit_card", 22), ("home_improvement", 9), ("other", 9), ("car", 4),
    ("major_purchase", 4), ("medical", 3), ("small_business", 3),
)  # fmt: skip
GRADES = (("A", 12, 6.6), ("B", 26, 10.0), ("C", 29, 13.9), ("D", 20, 18.4), ("E", 9, 23.5), ("F", 4, 28.8))
STATES_US = (
    ("CA", 14),
    ("TX", 9),
    ("NY", 8),
    ("FL", 8),
    ("IL", 4),
    ("NJ", 4),
    ("GA", 4),
    ("OH", 4),
    ("PA", 4),
    ("WA", 3),
)
STATES_CN = (
    ("GD", 13),
    ("ZJ", 11),
    ("JS", 10),
    ("SC", 9),
    ("SD", 7),
    ("HB", 6),
    ("FJ", 5),
    ("CQ", 5),
    ("HN", 5),
    ("SN", 4),
)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
STATUSES = (
    ("Current", 22), ("In Grace Period", 6), ("Late (16-30 days)", 16), ("Late (31-120 days)", 52), ("Charged Off", 4),
)  # fmt: skip


def tape_csv(random: Random, *, rows: int, prefix: str, year: int) -> bytes:
    """A tape of a lender's overdue book as CSV, UTF-8: `rows` loans, mostly late, amounts to the cent.

    Every row adds up as a lender's books do: paid_total is principal, interest and late fees together, and
    the balance is what was lent less the principal repaid (nothing, once charged off).  `year`
    is the year of origination.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(TAPE_COLUMNS)
    for number in range(1, rows + 1):
        writer.writerow(_loan(random, f"{prefix}-{number:05d}", year))
    return out.getvalue().encode()


def _loan(random: Random, loan_id: str, year: int) -> list[str]:
    grade, _, base = random.choices(GRADES, [weight for _, weight, _ in GRADES])[0]
    sub = random.randint(1, 5)
    rate = Decimal(f"{base + 0.7 * (sub - 3) + random.uniform(-0.2, 0.2):.2f}")
    term = random.choices((36, 60), (7, 3))[0]
    amount = Decimal(min(40_000, max(1_000, round(random.lognormvariate(9.4, 0.68) / 25) * 25)))
    monthly = rate / 1200
    instalment = (amount * monthly / (1 - (1 + monthly) ** -term)).quantize(Decimal("0.01"))
    status = _drawn(random, STATUSES)
    cents = Decimal("0.01")
    balance, interest, principal = amount, Decimal(0), Decimal(0)
    for _ in range(random.randint(1, 14)):  # months that were paid
        due = (balance * monthly).quantize(cents)
        interest, principal, balance = interest + due, principal + instalment - due, balance - instalment + due
    late = status.startswith("Late")
    fees = (instalment / 20).quantize(cents) if late and random.random() < 0.4 else Decimal(0)
    if status == "Charged Off":
        balance = Decimal(0)
    income = round(random.lognormvariate(11.0, 0.5) / 500) * 500
    month = random.choice(_MONTHS)
    return [
        loan_id, _drawn(random, STATES_US), str(income), f"{random.uniform(2, 38):.2f}", _drawn(random, PURPOSES),
        random.choices(("individual", "joint"), (85, 15))[0], str(amount), str(term), str(rate), str(instalment), grade,
        f"{grade}{sub}", f"{month}-{year % 100:02d}", status, str(balance), str(principal + interest + fees),
        str(principal), str(interest), str(fees),
    ]  # fmt: skip


BOOK_COLUMNS = (
    "loan_id", "borrower_id", "currency", "principal", "interest_due", "fees_due", "legal_balance", "dpd", "product",
    "region", "rate_percent", "originated_on", "loan_amount", "term_months", "legal_stage", "secured", "guarantor",
    "five_tier_class",
)  # fmt: skip
_PRODUCTS = (
    ("credit card", 34), ("consumer loan", 33), ("small business loan", 18), ("car loan", 9),
    ("home improvement loan", 6),
)  # fmt: skip
_DAYS_PAST_DUE = ((1, 30, 6), (31, 90, 16), (91, 180, 22), (181, 360, 30), (361, 900, 20), (901, 1_900, 6))
_LEGAL_STAGES = (
    ("not sued", 52),
    ("in suit", 12),
    ("judged", 15),
    ("in enforcement", 11),
    ("terminated enforcement", 10),
)


def book_csv(random: Random, *, rows: int, prefix: str, cutoff_on: date) -> bytes:
    """A Chinese creditor's overdue book as CSV in Clearlot's own layout: yuan, as it stands on the cut-off day.

    The legal balance of each row is its principal, interest and fees; every tenth borrower has two accounts.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(BOOK_COLUMNS)
    borrower = 0
    for number in range(1, rows + 1):
        borrower += 0 if number > 1 and random.random() < 0.1 else 1
        product = _drawn(random, _PRODUCTS)
        first, last, _ = random.choices(_DAYS_PAST_DUE, [weight for *_, weight in _DAYS_PAST_DUE])[0]
        dpd = random.randint(first, last)
        lent = max(2_000, round(random.lognormvariate(10.6 if "business" in product else 9.9, 0.8) / 100) * 100)
        rate_bp = random.randint(435, 1_800)
        principal = lent * 100 * random.randint(25, 98) // 100
        interest = principal * rate_bp * dpd // 10_000 // 365
        fees = principal * random.choice((0, 0, 1, 2)) // 100
        stage = _drawn(random, _LEGAL_STAGES) if dpd > 120 else "not sued"
        tier = "loss" if dpd > 360 else "doubtful" if dpd > 180 else "substandard" if dpd > 90 else "special mention"
        amounts = [amount_text(amount, "CNY") for amount in (principal, interest, fees, principal + interest + fees)]
        originated_on = cutoff_on - timedelta(days=dpd + random.randint(90, 1_400))
        writer.writerow([
            f"{prefix}-{number:05d}", f"{prefix}-B{borrower:05d}", "CNY", *amounts, dpd, product,
            _drawn(random, STATES_CN), f"{rate_bp // 100}.{rate_bp % 100:02d}", originated_on, f"{lent}.00",
            random.choice((12, 24, 36, 36, 60)), stage, random.choices(("no", "yes"), (9, 1))[0],
            random.choices(("no", "yes"), (8, 2))[0], tier,
        ])  # fmt: skip
    return out.getvalue().encode()


def _drawn(random: Random, choices: Sequence[tuple[str, int]]) -> str:
    return random.choices([name for name, _ in choices], [weight for _, weight in choices])[0]


# --- collateral ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DemoItem:
    """A vehicle or a property: the form that its creditor fills in (market.collateral.read_item) and its looks.

    `drawn`: what `pictures` needs: body, colour and odometer of a vehicle; kind, area and floors of a property.
    """

    form: dict[str, str]
    text_en: str
    text_zh: str
    drawn: tuple[str, str, int] | tuple[str, int, int]
    seed: int

    def draft(self, item_id: int) -> LotDraft:
        """The description of a lot that sells this item, once it is entered as `item_id`."""
        form = self.form
        return LotDraft(
            form["kind"], item_id, form["title_en"], form["title_zh"], self.text_en, self.text_zh, form["place"]
        )


def pictures(item: DemoItem) -> list[demo_pictures.Drawing]:
    """Draw the item: five pictures of a vehicle, four of a property; about 0.2 s."""
    random = Random(item.seed)
    what, second, third = item.drawn
    if isinstance(second, str):
        return demo_pictures.vehicle(random, body=what, colour=second, odometer_km=third)
    return demo_pictures.property_(random, kind=what, area_m2=second, floors=third)


_MAKES = (
    ("Veldan", "维尔丹"), ("Osmira", "欧思弥"), ("Kestor", "凯思拓"), ("Lumeo", "流梦"),
    ("Bravik", "布拉微"), ("Qingju", "青驹"),
)  # fmt: skip
_BODIES = {
    "sedan": ("saloon", "轿车", 128_000), "suv": ("SUV", "越野车", 176_000), "van": ("van", "厢式车", 142_000),
    "pickup": ("pickup", "皮卡", 118_000), "other": ("hatchback", "两厢车", 94_000),
}  # fmt: skip
_COLOURS = {
    "white": "白色", "silver": "银色", "black": "黑色", "blue": "蓝色", "red": "红色", "green": "绿色", "grey": "灰色",
    "gold": "金色",
}  # fmt: skip
_GRADES = (("5", "as new", "准新"), ("4", "good", "良好"), ("3", "average", "一般"), ("2", "worn", "较旧"))
_CITIES = (
    ("Chengdu", "成都市"), ("Hangzhou", "杭州市"), ("Suzhou", "苏州市"), ("Xiamen", "厦门市"), ("Wuhan", "武汉市"),
    ("Chongqing", "重庆市"), ("Qingdao", "青岛市"), ("Kunming", "昆明市"),
)  # fmt: skip
_STREETS = (
    ("Wanghe Demo Road", "望鹤演示路"), ("Liushi Demo Street", "柳市演示街"), ("Ninth Canal Demo Lane", "九渠演示巷"),
    ("Old Kiln Demo Road", "旧窑演示路"), ("Reed Bank Demo Street", "苇岸演示街"),
    ("Plum Terrace Demo Road", "梅台演示路"),
)  # fmt: skip
_FIRST_YEAR = 2016  # of a vehicle's model; the code of position 10 is ambiguous only over thirty years
_YEAR_CODES = "GHJKLMNPRSTV"  # 2016 to 2027 (ISO 3779)
_VIN_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ0123456789"


def vin(random: Random, *, model_year: int) -> str:
    """A vehicle identification number of no maker (LZ0 is not assigned), whose check digit and model year are right."""
    head = "LZ0" + "".join(random.choices(_VIN_LETTERS, k=5))
    tail = _YEAR_CODES[model_year - _FIRST_YEAR] + random.choice("ABCDEFGH") + f"{random.randint(1, 999_999):06d}"
    return head + vin_check_digit(head + "0" + tail) + tail


def vehicle(random: Random, *, on: date) -> DemoItem:
    """An invented vehicle in yuan. `on`: the day of its appraisal."""
    make_en, make_zh = random.choice(_MAKES)
    body = random.choice(tuple(_BODIES))
    body_en, body_zh, new_price = _BODIES[body]
    year = random.randint(_FIRST_YEAR + 1, on.year - 1)
    age = on.year - year
    model = f"{random.choice('ABCEGKMRSTX')}{random.choice((2, 3, 5, 6, 7, 9))}0"
    odometer_km = max(3_000, round(age * random.gauss(15_500, 4_000)))
    grade, grade_en, grade_zh = random.choice(_GRADES)
    price = new_price * random.uniform(0.9, 1.5) * 0.87**age * (0.82 + 0.05 * int(grade))
    colour = random.choice(tuple(_COLOURS))
    city_en, city_zh = random.choice(_CITIES)
    number = vin(random, model_year=year)
    runs = grade != "2" or random.random() < 0.5
    form = {
        "kind": "vehicle",
        "currency": "CNY",
        "title_en": f"{make_en} {model} {body_en}, {year}, {odometer_km:,} km",
        "title_zh": f"{make_zh} {model} {body_zh}，{year}年，{odometer_km / 10_000:.1f}万公里",
        "place": f"{city_en} {city_zh}",
        "appraisal": f"{max(12_000, round(price / 500) * 500)}.00",
        "appraisal_on": on.isoformat(),
        "vin": number,
        "make": f"{make_en} {make_zh}",
        "model": model,
        "model_year": str(year),
        "odometer_km": str(odometer_km),
        "body": body,
        "fuel": random.choices(("petrol", "diesel", "hybrid", "electric"), (60, 10, 15, 15))[0],
        "color": f"{colour} {_COLOURS[colour]}",
        "keys": str(random.choice((1, 2, 2))),
        "liens": "",
    } | ({"runs": "on"} if runs else {})
    drawn = "hatchback" if body == "other" else body, colour, odometer_km
    text_en = (
        f"Seized {body_en} of {year}, condition grade {grade} of 5 ({grade_en}), odometer as read {odometer_km:,} km. "
        f"{'Starts and drives.' if runs else 'Does not start; collection by transporter.'} {MADE_UP}"
    )
    text_zh = (
        f"查封{body_zh}，{year}年，车况{grade}级（共5级，{grade_zh}），表显里程{odometer_km:,}公里。"
        f"{'可正常启动行驶。' if runs else '无法启动，须拖运提车。'}本标的为演示虚构。"
    )
    return DemoItem(form, text_en, text_zh, drawn, random.getrandbits(32))


_USES = {
    # kind: (use, English, Chinese, least and most square metres, yuan a square metre)
    "flat": ("residential", "Flat", "住宅", 58, 142, 11_500),
    "house": ("residential", "House with yard", "独栋住宅", 140, 320, 13_800),
    "shop": ("commercial", "Shop", "商铺", 45, 260, 17_500),
    "warehouse": ("industrial", "Warehouse", "仓储用房", 600, 2_800, 3_100),
}


def property_(random: Random, *, on: date) -> DemoItem:
    """An invented property in yuan. `on`: the day of its appraisal."""
    kind = random.choices(tuple(_USES), (5, 2, 2, 1))[0]
    use, kind_en, kind_zh, least, most, price_m2 = _USES[kind]
    area_m2 = random.randint(least, most)
    (city_en, city_zh), (street_en, street_zh) = random.choice(_CITIES), random.choice(_STREETS)
    number, floors = random.randint(2, 260), random.randint(6, 18) if kind == "flat" else 2
    built = random.randint(1998, 2020)
    occupancy = random.choices(("vacant", "owner", "let", "unknown"), (5, 2, 2, 1))[0]
    lease = (on + timedelta(days=random.randint(120, 900))).isoformat() if occupancy == "let" else ""
    room = f", flat {random.randint(2, floors)}0{random.randint(1, 6)}" if kind == "flat" else ""
    price = area_m2 * price_m2 * random.uniform(0.75, 1.4) * (1 - 0.006 * (on.year - built))
    appraisal = round(price / 1_000) * 1_000
    lien = f"1; Lanting Demo Bank 岚汀演示银行; {appraisal * random.randint(50, 90) // 100}.00"
    form = {
        "kind": "property",
        "currency": "CNY",
        "title_en": f"{kind_en}, {area_m2} m², {number} {street_en}, {city_en}",
        "title_zh": f"{city_zh}{street_zh}{number}号{kind_zh}，{area_m2}平方米",
        "place": f"{city_en} {city_zh}",
        "appraisal": f"{appraisal}.00",
        "appraisal_on": on.isoformat(),
        "address": f"{number} {street_en}{room}, {city_en} {city_zh}{street_zh}{number}号",
        "use": use,
        "area_m2": f"{area_m2}.{random.randint(0, 99):02d}",
        "built_year": str(built),
        "title_no": f"DEMO-{random.randint(2005, 2022)}-{random.randint(1, 999_999):06d}",
        "occupancy": occupancy,
        "lease_until_on": lease,
        "encumbrances": "Mortgage of the first rank, released on sale. 第一顺位抵押权，成交后涂销。",
        "liens": lien,
    }
    state_en, state_zh = _OCCUPANCY[occupancy]
    text_en = (
        f"{kind_en} built in {built}, {area_m2} m², {state_en}. Sold as it stands; fees of transfer are borne "
        f"by each side as the law says. {MADE_UP}"
    )
    text_zh = (
        f"{kind_zh}，建成于{built}年，{area_m2}平方米，{state_zh}。按现状出售，过户税费由双方依法各自承担。"
        "本标的为演示虚构。"
    )
    return DemoItem(form, text_en, text_zh, (kind, area_m2, floors), random.getrandbits(32))


_OCCUPANCY = {
    "vacant": ("vacant", "空置"), "owner": ("lived in by the owner", "所有权人自住"),
    "let": ("let, the lease stays", "已出租，租约继续有效"), "unknown": ("occupancy not known", "占用情况不明"),
}  # fmt: skip


# --- bank statements ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Movement:
    """One line of a statement. `amount_minor`: positive came in, negative went out; `text`: what the payer wrote."""

    amount_minor: int
    text: str
    other_name: str
    other_account: str
    bank_reference: str
    end_to_end_id: str = ""


@dataclass(frozen=True, slots=True)
class StatementPaper:
    """What a bank states of one day: number, opening balance and movements; the closing balance follows."""

    account: str
    currency: str
    number: int
    on: date
    opening_minor: int
    movements: tuple[Movement, ...]

    @property
    def closing_minor(self) -> int:
        return self.opening_minor + sum(movement.amount_minor for movement in self.movements)


def camt053(paper: StatementPaper, *, at: datetime) -> bytes:
    """The statement as ISO 20022 camt.053.001.02; `at`: when the bank made it."""
    entries = "".join(_camt_entry(paper, movement) for movement in paper.movements)
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02"><BkToCstmrStmt>'
        f"<GrpHdr><MsgId>DEMO-{paper.account[-6:]}-{paper.number}</MsgId>"
        f"<CreDtTm>{at:%Y-%m-%dT%H:%M:%S}Z</CreDtTm></GrpHdr>"
        f"<Stmt><Id>{paper.number}</Id><ElctrncSeqNb>{paper.number}</ElctrncSeqNb>"
        f"<CreDtTm>{at:%Y-%m-%dT%H:%M:%S}Z</CreDtTm>"
        f"<FrToDt><FrDtTm>{paper.on}T00:00:00</FrDtTm><ToDtTm>{paper.on}T23:59:59</ToDtTm></FrToDt>"
        f"<Acct><Id><Othr><Id>{paper.account}</Id></Othr></Id><Ccy>{paper.currency}</Ccy></Acct>"
        f"{_camt_balance(paper, 'OPBD', paper.opening_minor)}{_camt_balance(paper, 'CLBD', paper.closing_minor)}"
        f"{entries}</Stmt></BkToCstmrStmt></Document>\n"
    ).encode()


def _camt_amount(paper: StatementPaper, amount_minor: int) -> str:
    side = "CRDT" if amount_minor >= 0 else "DBIT"
    text = amount_text(abs(amount_minor), paper.currency)
    return f'<Amt Ccy="{paper.currency}">{text}</Amt><CdtDbtInd>{side}</CdtDbtInd>'


def _camt_balance(paper: StatementPaper, code: str, amount_minor: int) -> str:
    amount = _camt_amount(paper, amount_minor)
    return f"<Bal><Tp><CdOrPrtry><Cd>{code}</Cd></CdOrPrtry></Tp>{amount}<Dt><Dt>{paper.on}</Dt></Dt></Bal>"


def _camt_entry(paper: StatementPaper, movement: Movement) -> str:
    side = "Dbtr" if movement.amount_minor >= 0 else "Cdtr"
    end_to_end = escape(movement.end_to_end_id or "NOTPROVIDED")
    return (
        f"<Ntry>{_camt_amount(paper, movement.amount_minor)}<Sts>BOOK</Sts>"
        f"<BookgDt><Dt>{paper.on}</Dt></BookgDt><ValDt><Dt>{paper.on}</Dt></ValDt>"
        f"<AcctSvcrRef>{escape(movement.bank_reference)}</AcctSvcrRef>"
        "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>RCDT</Cd><SubFmlyCd>ESCT</SubFmlyCd></Fmly></Domn></BkTxCd>"
        f"<NtryDtls><TxDtls><Refs><AcctSvcrRef>{escape(movement.bank_reference)}</AcctSvcrRef>"
        f"<EndToEndId>{end_to_end}</EndToEndId></Refs>"
        f"<RltdPties><{side}><Nm>{escape(movement.other_name)}</Nm></{side}><{side}Acct><Id><Othr>"
        f"<Id>{movement.other_account}</Id></Othr></Id></{side}Acct></RltdPties>"
        f"<RmtInf><Ustrd>{escape(movement.text)}</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"
    )


def mt940(paper: StatementPaper) -> bytes:
    """The statement as SWIFT MT940 with structured :86: fields; letters that SWIFT does not have are left out."""
    lines = [
        f":20:DEMO{paper.number:08d}", f":25:{paper.account}", f":28C:{paper.number:05d}/001",
        f":60F:{_mt_balance(paper, paper.opening_minor)}",
    ]  # fmt: skip
    for movement in paper.movements:
        side = "C" if movement.amount_minor >= 0 else "D"
        amount = amount_text(abs(movement.amount_minor), paper.currency).replace(".", ",")
        end_to_end = (movement.end_to_end_id or "NONREF")[:16]
        lines.append(
            f":61:{paper.on:%y%m%d}{paper.on:%m%d}{side}{amount}NTRF{end_to_end}//{movement.bank_reference[:16]}"
        )
        name = _swift(movement.other_name)
        lines += [f":86:166?20{_swift(movement.text)[:27]}", f"?31{movement.other_account}?32{name[:27]}"]
    lines.append(f":62F:{_mt_balance(paper, paper.closing_minor)}")
    return ("\r\n".join([*lines, "-", ""])).encode("ascii")


def _mt_balance(paper: StatementPaper, amount_minor: int) -> str:
    side = "C" if amount_minor >= 0 else "D"
    amount = amount_text(abs(amount_minor), paper.currency).replace(".", ",")
    return f"{side}{paper.on:%y%m%d}{paper.currency}{amount}"


def _swift(text: str) -> str:
    allowed = "".join(c if c.isascii() and (c.isalnum() or c in " /-?:().,'+") else " " for c in text)
    return " ".join(allowed.replace("?", " ").split())
