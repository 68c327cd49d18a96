"""From codes to sentences: what a refusal, a fault or an error says to a person, in both languages.

A code is stable; its sentence is not.  Facts come as the rings keep them and are written here:
`minimum_minor` (with `currency`) becomes `%(minimum)s` as money, `closed_at` or `closed_at_ms` becomes
`%(closed)s` as a time with milliseconds, `rate_bp` becomes `%(rate)s`.  Every code that the code base
raises has a line here (`tests/web/test_words.py`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime

from web.render import ABSENT, N_, _, _gettext, instant_text, money, share

SENTENCES: dict[str, str] = {
    # --- requests
    "bad_input": N_("What was sent cannot be taken. Nothing was changed."),
    "not_found": N_("There is nothing at this address, or it is not open to you."),
    "not_allowed": N_("Your role does not allow this. Nothing was changed."),
    "method": N_("This address does not take that kind of request."),
    "too_large": N_("What was sent is larger than allowed here. Nothing was changed."),
    "internal": N_("Something failed on our side. What was accepted before is safe. Try again, or report the code."),
    "unavailable": N_("The database does not answer, so nothing is accepted now. Try again in a moment."),
    "sign_in_first": N_("Sign in to go on."),
    "csrf": N_("This form was open for too long, or did not come from our page. Nothing was changed. Send it again."),
    "origin": N_("The request did not come from our own pages. Nothing was changed."),
    "host": N_("This server does not answer under that name."),
    "too_many_requests": N_("Too many requests. Go on in %(seconds)s seconds."),
    "key_unknown": N_("The API key is not known, or was revoked."),
    "scope_missing": N_("The API key does not have the scope %(scope)s."),
    "json": N_("One JSON object in UTF-8 was expected."),
    "required": N_("This is needed."),
    "unknown_field": N_("This field is not known here."),
    "duplicate_field": N_("This field was given twice."),
    "type": N_("Expected %(expected)s."),
    "too_long": N_("Expected %(expected)s."),
    "choice": N_("Expected one of: %(expected)s."),
    "amount_format": N_("Enter digits only, at most two decimals, for example 1310000.50."),
    "currency_unknown": N_("The currency is not known here; use its ISO code, for example CNY."),
    # --- parties
    "sign_in_failed": N_("Name or password is not right. Try again."),
    "sign_in_slowed": N_("Too many tries. Try again in %(seconds)s seconds."),
    "link_used": N_("This sign-in link was used already, or is too old."),
    "email_format": N_("Enter a mail address, for example li.wei@example.com."),
    "email_taken": N_("This address cannot be used. Sign in with it, or use another."),
    "name_taken": N_("A party of this name, or one that looks the same, is registered already."),
    "name_format": N_("Use 2 to 120 characters, without control or invisible ones."),
    "password_short": N_("Use at least 12 characters."),
    "password_long": N_("Use at most 200 characters."),
    "password_known": N_("The password contains your name or address. Use another."),
    "password_wrong": N_("The present password is not right."),
    "passwords_differ": N_("The two passwords differ."),
    "iban_format": N_("Enter an account number of 8 to 34 letters and digits."),
    "country_format": N_("Enter the two letters of the country, for example CN."),
    "declaration_missing": N_("This declaration is needed to go on."),
    "party_status": N_("The party is %(status)s; this can no longer be decided."),
    "reason_missing": N_("Give the reason; the party will read it."),
    "too_many_keys": N_("At most %(limit)s keys can be active. Revoke one first."),
}


def say(code: str, facts: Mapping[str, object] | None = None) -> str:
    """The sentence of `code` with its `facts`, in the language that is spoken now; an unknown code says itself."""
    sentence = SENTENCES.get(code)
    if sentence is None:
        return _("This was refused (%(code)s).", code=code)
    return _gettext(sentence) % _Facts(written(facts or {}))


def written(facts: Mapping[str, object]) -> dict[str, str]:
    """Facts as people read them; money by `currency` (CNY, where none is given)."""
    currency = str(facts.get("currency", "CNY"))
    words: dict[str, str] = {}
    for name, value in facts.items():
        if name.endswith("_minor") and (value is None or isinstance(value, int)):
            words[name.removesuffix("_minor")] = money(value, currency, whole=True)
        elif name.endswith("_at") and isinstance(value, datetime):
            words[name.removesuffix("_at")] = instant_text(value, "time")
        elif name.endswith("_at_ms") and isinstance(value, int):
            words[name.removesuffix("_at_ms")] = instant_text(datetime.fromtimestamp(value / 1000, UTC), "time")
        elif name.endswith("_bp") and isinstance(value, int):
            words[name.removesuffix("_bp")] = share(value)
        else:
            words[name] = ABSENT if value is None else str(value)
    return words


class _Facts(dict[str, str]):
    def __missing__(self, name: str) -> str:
        return ABSENT  # an error's own sentence must not fail for want of a fact


# --- states: the meaning (a chip's colour and icon) and the word --------------------------------------

STATES: dict[str, tuple[str, str]] = {
    # parties
    "registered": ("waiting", N_("Waiting for admission")),
    "admitted": ("paid", N_("Admitted")),
    "refused": ("overdue", N_("Refused")),
    "suspended": ("disputed", N_("Suspended")),
    # tapes and files
    "received": ("waiting", N_("Received")),
    "reading": ("info", N_("Being read")),
    "needs_mapping": ("closing", N_("Needs a mapping")),
    "faulty": ("overdue", N_("Faulty, not kept")),
    "kept": ("paid", N_("Kept")),
    "repeated": ("waiting", N_("Seen before")),
    # overdue accounts
    "overdue": ("overdue", N_("Overdue")),
    "listed": ("info", N_("Listed")),
    "under_contract": ("closing", N_("Under contract")),
    "closed_out": ("paid", N_("Closed out")),
    "repaid": ("paid", N_("Repaid")),
    # lots
    "draft": ("waiting", N_("Draft")),
    "submitted": ("waiting", N_("Waiting for approval")),
    "approved": ("info", N_("Approved")),
    "published": ("info", N_("Published")),
    "live": ("lead", N_("Live")),
    "sold": ("paid", N_("Sold")),
    "unsold": ("waiting", N_("Unsold")),
    "settled": ("paid", N_("Settled")),
    "withdrawn": ("disputed", N_("Withdrawn")),
    # auctions
    "upcoming": ("waiting", N_("Upcoming")),
    "open": ("lead", N_("Open")),
    "paused": ("disputed", N_("Paused")),
    "closed": ("waiting", N_("Closed")),
    "reserve_not_met": ("waiting", N_("Reserve not met")),
    # participation
    "requested": ("waiting", N_("Asked to take part")),
    "awaiting_deposit": ("closing", N_("Waiting for the deposit")),
    "released": ("waiting", N_("Deposit released")),
    "forfeited": ("overdue", N_("Deposit forfeited")),
    "bought": ("paid", N_("Bought")),
    # sales and payments
    "awaiting_balance": ("closing", N_("Waiting for the balance")),
    "paid": ("paid", N_("Paid")),
    "late": ("overdue", N_("Late")),
    "defaulted": ("overdue", N_("Defaulted")),
    "cancelled": ("waiting", N_("Cancelled")),
    "due": ("closing", N_("Due")),
    "sent": ("paid", N_("Sent")),
    # statement lines
    "waiting": ("waiting", N_("Waiting for a person")),
    "matched": ("paid", N_("Matched")),
    "returned": ("waiting", N_("Returned")),
    "not_ours": ("waiting", N_("Not ours")),
}


def state(status: str) -> tuple[str, str]:
    """The meaning and the word of a state; one that has none is shown as it is."""
    meaning, words = STATES.get(status, ("waiting", status))
    return meaning, _gettext(words)


ROLE_NAMES: dict[str, str] = {
    "asset_manager": N_("Asset manager"),
    "investor": N_("Investor"),
    "operator": N_("Operator"),
    "platform": N_("Platform"),
    "servicer": N_("Servicer"),
    "debtor": N_("Debtor"),
}

# At most five links for each role; guests see the market.
LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    "asset_manager": (
        ("/home", N_("Home")), ("/tapes", N_("Tapes")), ("/portfolios", N_("Portfolios")), ("/lots", N_("Lots")),
        ("/sales", N_("Sales")),
    ),
    "investor": (
        ("/home", N_("Home")), ("/lots", N_("Lots")), ("/bids", N_("Bids and deposits")), ("/sales", N_("Purchases")),
    ),
    "operator": (
        ("/home", N_("Home")), ("/parties", N_("Parties")), ("/lots", N_("Lots")),
        ("/reconciliation", N_("Reconciliation")), ("/ledger", N_("Ledger")),
    ),
    "": (("/lots", N_("Lots")), ("/rules", N_("Rules in words")), ("/verify", N_("Verify a journal"))),
}  # fmt: skip


def role_name(role: str) -> str:
    """What a role is called."""
    return _gettext(ROLE_NAMES.get(role, role))


def main_role(roles: Collection[str]) -> str:
    """The role whose home and links a person sees; "" for none."""
    return next((role for role in ("operator", "asset_manager", "investor") if role in roles), "")


def links(roles: Collection[str]) -> list[tuple[str, str]]:
    """The header's links for somebody with these roles."""
    return [(address, _gettext(words)) for address, words in LINKS[main_role(roles)]]
