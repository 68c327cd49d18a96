"""One table from errors to answers: a page for people, problem+json (RFC 9457) for programs."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from market.errors import BadInput, Fault, MarketError
from web.render import page
from web.words import say

PROBLEM = "application/problem+json"
SHOWN_FAULTS = 100  # a file has them all, where there can be more
CODES = {400: "bad_input", 401: "sign_in_first", 403: "not_allowed", 404: "not_found", 405: "method", 413: "too_large"}


def wants_json(request: Request) -> bool:
    """Whether the answer goes to a program."""
    path: str = request.scope.get("root_path", "") + request.scope["path"]
    return path.startswith("/api/") or "json" in request.headers.get("accept", "").partition(",")[0]


def problem(
    status: int, code: str, facts: dict[str, Any] | None = None, faults: Sequence[Fault] = (), request_id: str = ""
) -> JSONResponse:
    """A refusal as RFC 9457 has it, with our `code`, the request's id, and every fault by its place."""
    body: dict[str, Any] = {
        "type": f"urn:clearlot:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "code": code,
        "detail": say(code, facts),
        "request_id": request_id,
    }
    if faults:
        body["faults"] = [fault_json(fault) for fault in faults[:SHOWN_FAULTS]]
        body["fault_count"] = len(faults)
    return JSONResponse(body, status, media_type=PROBLEM, headers={"Cache-Control": "no-store"})


def fault_json(fault: Fault) -> dict[str, Any]:
    """One fault: code, field, row (null: not of one row), what was found and expected, and a sentence."""
    return {
        "code": fault.code,
        "field": fault.field,
        "row": fault.row,
        "found": fault.found,
        "expected": fault.expected,
        "message": fault_text(fault),
    }


def fault_text(fault: Fault) -> str:
    """What is wrong with one field, for a person."""
    return say(fault.code, {"found": fault.found, "expected": fault.expected, "field": fault.field, "row": fault.row})


def refuse(request: Request, status: int, code: str, faults: Sequence[Fault] = (), /, **facts: object) -> Response:
    """The answer to a request that is refused."""
    if wants_json(request):
        answer: Response = problem(status, code, facts, faults, request.state.request_id)
    else:
        answer = page(
            request,
            "errors/error.html",
            {"status": status, "code": code, "sentence": say(code, facts), "faults": list(faults[:SHOWN_FAULTS])},
            status=status,
        )
    if status == 401 and wants_json(request):
        answer.headers["WWW-Authenticate"] = 'Bearer realm="clearlot"'
    return answer


def sign_in_first(request: Request) -> Response:
    """Send a guest who reads a page to sign in and back; refuse everything else with 401."""
    if request.method != "GET" or wants_json(request):
        return refuse(request, 401, "sign_in_first")
    here = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    address = f"/sign-in?next={quote(here, safe='/')}"
    if request.headers.get("hx-request") == "true":
        return Response(status_code=204, headers={"HX-Redirect": address})
    return Response(status_code=303, headers={"Location": address})


async def on_market_error(request: Request, error: Exception) -> Response:
    """What cannot be done."""
    assert isinstance(error, MarketError)
    return refuse(request, error.status, error.code, **error.facts)


async def on_bad_input(request: Request, error: Exception) -> Response:
    """Input that no handler showed at its own form."""
    assert isinstance(error, BadInput)
    code = error.faults[0].code if len(error.faults) == 1 and not error.faults[0].field else error.code
    return refuse(request, 413 if code == "too_large" else 422, code, error.faults)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses: no such address, wrong method, too large."""
    assert isinstance(error, HTTPException)
    answer = refuse(request, error.status_code, CODES.get(error.status_code, "bad_input"))
    if error.headers:
        answer.headers.update(error.headers)
    return answer


async def on_lost_database(request: Request, error: Exception) -> Response:
    """Nothing is accepted, nothing is promised, and it says so at once."""
    import structlog

    structlog.get_logger("web").warning("database", request=request.state.request_id, error=type(error).__name__)
    answer = refuse(request, 503, "unavailable")
    answer.headers["Retry-After"] = "2"
    return answer


async def on_bug(request: Request, error: Exception) -> Response:
    """What a program gets for our own mistake; the guard logs it, since it rises on."""
    return refuse(request, 500, "internal")


HANDLERS: dict[Any, Any] = {
    MarketError: on_market_error,
    BadInput: on_bad_input,
    HTTPException: on_http_exception,
    OperationalError: on_lost_database,
    InterfaceError: on_lost_database,
}
