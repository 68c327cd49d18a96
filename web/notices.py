"""Facts -> template -> mail, in the reader's language; and the pages that show what was sent.

A notice is a template in `templates/notices/`: a subject and paragraphs. It names no other bidder and nothing of a
debtor. What is sent is kept, so that the operator reads in his outbox exactly what people have read.
"""

from __future__ import annotations

import hashlib
import smtplib
import ssl
from collections.abc import Mapping
from datetime import datetime, timedelta
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP, SMTPUTF8
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from jinja2 import Environment
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from storage import notices
from storage.notices import Reader
from storage.tables import Mail
from web.render import N_, environment, page, redirect, speaking, utc_now
from web.security import is_loopback, requires
from web.settings import Settings
from web.tasks import TaskContext, beat, task

SMTP_TIMEOUT_S = 10
PAGE = 50
OWN_PAGE = 20


# --- writing ----------------------------------------------------------------------------------------


@cache
def _texts() -> Environment:
    """The templates as plain text."""
    return environment().overlay(autoescape=False)


def languages_of(reader: Reader) -> tuple[str, ...]:
    """In which languages somebody gets mail: his own; else Chinese and English in China, and English elsewhere."""
    if reader.language:
        return (reader.language,)
    return ("zh", "en") if reader.country == "CN" else ("en",)


def write(kind: str, facts: Mapping[str, Any], language: str, *, name: str, base_url: str) -> tuple[str, str]:
    """Write a notice in one language; return its subject and its body."""
    known = {
        field: datetime.fromisoformat(value) if field.endswith("_at") and value is not None else value
        for field, value in facts.items()
    }
    with speaking(language):
        title = known.get(f"title_{language}") or known.get("title_en") or known.get("title_zh") or ""
        template = _texts().get_template(f"notices/{kind}.txt")
        context = template.new_context({**known, "title": title, "name": name, "base_url": base_url})
        subject = " ".join("".join(template.blocks["subject"](context)).split())
        body = template.render({**known, "title": title, "name": name, "base_url": base_url})
    return subject, body.strip() + "\n"


def mail_for(
    reader: Reader, key: str, kind: str, facts: Mapping[str, Any], *, base_url: str, at: datetime
) -> Mail:  # fmt: skip
    """Write the whole mail for one reader, in one or two languages."""
    languages = languages_of(reader)
    texts = [write(kind, facts, language, name=reader.name, base_url=base_url) for language in languages]
    return Mail(
        key=key, person_id=reader.person_id, template=kind, language="+".join(languages),
        subject=" / ".join(subject for subject, _body in texts), body="\n--\n\n".join(body for _subject, body in texts),
        created_at=at,
    )  # fmt: skip


def message(mail: Mail, *, name: str, email: str, base_url: str) -> EmailMessage:
    """The mail as it goes out; its id is that of the notice, so that a second copy is known as one."""
    host = urlsplit(base_url).hostname or "localhost"
    domain = "localhost" if is_loopback(host) else host
    out = EmailMessage(policy=SMTP if email.isascii() else SMTPUTF8)
    out["From"] = Address("Clearlot", "no-reply", domain)
    out["To"] = Address(_printable(name), addr_spec=email)
    out["Subject"] = _printable(mail.subject)
    out["Date"] = mail.created_at
    digest = hashlib.sha256(f"{mail.key} {mail.person_id}".encode()).hexdigest()[:32]
    out["Message-ID"] = f"<{digest}@{domain}>"
    out["Auto-Submitted"] = "auto-generated"
    out["Content-Language"] = mail.language.replace("+", ", ").replace("zh", "zh-Hans")
    out.set_content(mail.body)
    return out


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else " " for one in text)


# --- sending ----------------------------------------------------------------------------------------


@task("send_mail")
def send_mail(
    context: TaskContext, key: str, kind: str, facts: dict[str, Any], party_id: int | None, person_id: int | None
) -> None:
    """Write a notice for each of its readers, once, and hand every copy on that was not handed on before."""
    settings, db = context.settings, context.db
    to = {one.person_id: one for one in db.read(notices.readers, party_id=party_id, person_id=person_id)}
    at = utc_now()
    written = [mail_for(one, key, kind, facts, base_url=settings.base_url, at=at) for one in to.values()]
    for mail in db.in_transaction(notices.keep, written):
        one = to[mail.person_id]
        hand_on(settings, mail, message(mail, name=one.name, email=one.email, base_url=settings.base_url))
        db.in_transaction(notices.sent, mail.id, at=utc_now())


def hand_on(settings: Settings, mail: Mail, out: EmailMessage) -> None:
    """Give a mail to the server at `mail_url`; without one, into the folder `mail`, a file each."""
    if not settings.mail_url:
        folder = settings.data / "mail"
        folder.mkdir(parents=True, exist_ok=True)
        draft = folder / f".{mail.id:09}.part"
        draft.write_bytes(out.as_bytes())
        draft.replace(folder / f"{mail.id:09}-{mail.template}.eml")
        return
    url = urlsplit(settings.mail_url)
    host = url.hostname or "localhost"
    if url.scheme == "smtps":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, url.port or 465, timeout=SMTP_TIMEOUT_S, context=ssl.create_default_context()
        )
    else:
        server = smtplib.SMTP(host, url.port or 25, timeout=SMTP_TIMEOUT_S)
    with server:
        if parse_qs(url.query).get("starttls") == ["1"]:
            server.starttls(context=ssl.create_default_context())
        if url.username:
            server.login(unquote(url.username), unquote(url.password or ""))
        server.send_message(out)


@beat("remind_watchers", every=timedelta(minutes=1))
def remind_watchers(context: TaskContext) -> None:
    """Tell those who watch a lot, or may bid on it, that it opens soon; those who watch it, that it closes soon."""
    context.db.in_transaction(notices.remind, at=utc_now())


# --- pages ------------------------------------------------------------------------------------------

KINDS: dict[str, str] = {
    "deposit_expected": N_("Deposit expected"),
    "deposit_received": N_("Deposit received"),
    "admitted": N_("Admitted to the auction"),
    "participation_refused": N_("Not admitted to the auction"),
    "party_admitted": N_("Party admitted"),
    "party_refused": N_("Party not admitted"),
    "party_suspended": N_("Party suspended"),
    "reminder_opening": N_("Opens soon"),
    "reminder": N_("Closes soon"),
    "won": N_("Won"),
    "not_won": N_("Not won"),
    "balance_received": N_("Balance received"),
    "closed_out": N_("Purchase complete"),
    "payment_late": N_("Payment late"),
    "defaulted": N_("Defaulted"),
    "sale_defaulted": N_("Buyer defaulted"),
    "lot_published": N_("Lot approved"),
    "lot_sent_back": N_("Lot sent back"),
    "lot_sold": N_("Lot sold"),
    "lot_unsold": N_("Lot not sold"),
    "proceeds": N_("Proceeds"),
    "job_given_up": N_("Work given up"),
    "tape_kept": N_("Tape kept"),
    "tape_faulty": N_("Tape not kept"),
}


def _after(request: Request) -> int:
    """The id that the page continues from; what is not an id counts as the beginning."""
    text = request.query_params.get("after", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 15 else 0


def _next(ids: list[int], limit: int) -> int | None:
    return ids[-1] if len(ids) == limit else None


@requires()
async def own_notices(request: Request) -> Response:
    """A person's own notices."""
    after = _after(request)
    mails, total, unread = await request.state.db.read_in_thread(
        notices.of_person, request.user.id, after=after, limit=OWN_PAGE
    )
    more = _next([one.id for one in mails], OWN_PAGE)
    context = {"mails": mails, "total": total, "unread": unread, "more": more, "first": not after, "kinds": KINDS}
    return page(request, "notices/own.html", context)


@requires()
async def mark_read(request: Request) -> Response:
    """Mark what was shown as read."""
    upto = str((await request.form()).get("upto", ""))
    if upto.isascii() and upto.isdigit() and len(upto) <= 15:
        await request.state.db.in_thread(notices.mark_read, request.user.id, upto=int(upto), at=utc_now())
    return redirect(request, "/notices")


@requires("operator")
async def outbox_page(request: Request) -> Response:
    """Every mail, newest first."""
    after, unsent = _after(request), request.query_params.get("state") == "waiting"
    lines, total = await request.state.db.read_in_thread(notices.outbox_mails, unsent=unsent, after=after, limit=PAGE)
    more = _next([mail.id for mail, _person in lines], PAGE)
    context = {"lines": lines, "total": total, "unsent": unsent, "more": more, "first": not after, "kinds": KINDS}
    return page(request, "notices/outbox.html", context)


@requires("operator")
async def outbox_mail(request: Request) -> Response:
    """One mail as it was sent."""
    mail, person = await request.state.db.read_in_thread(notices.mail_to, request.path_params["id"])
    return page(request, "notices/mail.html", {"mail": mail, "person": person, "kinds": KINDS})


routes: list[BaseRoute] = [
    Route("/notices", own_notices, methods=["GET"]),
    Route("/notices/read", mark_read, methods=["POST"]),
    Route("/outbox", outbox_page),
    Route("/outbox/{id:int}", outbox_mail),
]
