"""Organisations and people: how one registers, what a party's states are, and what its names may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from market.inputs import Reader, text_of

ROLES = ("asset_manager", "investor", "operator", "platform", "servicer", "debtor")
OPEN_ROLES = ("investor", "asset_manager")  # that one may register for; operators are made by operators
SCOPES = ("read", "write", "bid")
MAX_KEYS = 20  # active keys of one person
PASSWORD_LEAST, PASSWORD_MOST = 12, 200  # characters
DECLARATIONS = ("authority", "funds", "terms")

# registered -> admitted or refused; an admitted party may be suspended, and be admitted again.
MOVES: dict[str, frozenset[str]] = {
    "registered": frozenset({"admitted", "refused"}),
    "refused": frozenset({"admitted"}),
    "admitted": frozenset({"suspended"}),
    "suspended": frozenset({"admitted"}),
}

_EMAIL = re.compile(r"[^\s@]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})+", re.ASCII)
_COUNTRY = re.compile(r"[A-Z]{2}", re.ASCII)


# Cyrillic and Greek letters that look like Latin ones, small or large (Unicode TR 39, the alphabets that are in use).
_LOOKALIKES = str.maketrans("авекмнорстухіјѕԁһԛԝαβεζηικμνορτυχ", "abekmhopctyxijsdhqwabezhikmnoptyx")


def name_key(name: str) -> str:
    """What two names are compared by: NFKC, case folded, lookalikes as one, single blanks (bad input 6)."""
    return " ".join(unicodedata.normalize("NFKC", name).casefold().translate(_LOOKALIKES).split())


@dataclass(frozen=True, slots=True)
class Registration:
    """A party and its first person, as they asked to be let in."""

    kind: str
    party_name: str
    country: str
    iban: str
    role: str
    person_name: str
    email: str
    language: str


def read_registration(values: Mapping[str, object], *, language: str) -> tuple[Registration, str]:
    """Read the form; return what was asked for, and the password.

    Raises: BadInput with every fault.
    """
    form = Reader(values)
    kind = form.choice("kind", ("organisation", "person"))
    party_name = form.line("party_name", most=120, least=2)
    country = form.raw("country") or "CN"
    if not _COUNTRY.fullmatch(country):
        form.fault("country_format", "country", country, "two letters, for example CN")
    iban = form.account("iban")
    role = form.choice("role", OPEN_ROLES)
    person_name = form.line("person_name", most=120, least=2)
    email = form.raw("email")
    if len(email) > 254 or not _EMAIL.fullmatch(email):
        form.fault("email_format", "email", email, "a mail address")
    password = text_of(values, "password")
    check_password(form, password, (email.partition("@")[0], person_name))
    for declaration in DECLARATIONS:
        if not form.ticked(declaration):
            form.fault("declaration_missing", declaration, "", "yes")
    form.done()
    return Registration(kind, party_name, country, iban, role, person_name, email, language), password


def check_password(form: Reader, password: str, known: tuple[str, ...], *, field: str = "password") -> None:
    """Length is what counts (NIST SP 800-63B 3.1.1.2); what others know of the person does not."""
    if len(password) < PASSWORD_LEAST:
        form.fault("password_short", field, "", f"at least {PASSWORD_LEAST} characters")
    elif len(password) > PASSWORD_MOST:
        form.fault("password_long", field, "", f"at most {PASSWORD_MOST} characters")
    elif any(len(word) > 3 and word.casefold() in password.casefold() for word in known):
        form.fault("password_known", field, "", "a password without your name or address")


def read_new_password(values: Mapping[str, object], known: tuple[str, ...]) -> str:
    """Read the form that sets a new password.

    Raises: BadInput with every fault.
    """
    form = Reader(values)
    password = text_of(values, "new_password")
    check_password(form, password, known, field="new_password")
    if password != values.get("again"):
        form.fault("passwords_differ", "again", "", "the new password once more")
    form.done()
    return password


def read_key(values: Mapping[str, object], scopes: list[str]) -> tuple[str, list[str]]:
    """Read the form that makes an API key: its name and what it may do.

    Raises: BadInput.
    """
    form = Reader(values)
    name = form.line("name", most=60)
    if not scopes or not set(scopes) <= set(SCOPES):
        form.fault("choice", "scopes", ", ".join(scopes), ", ".join(SCOPES))
    form.done()
    return name, sorted(set(scopes))
