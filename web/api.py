"""The JSON API under /api/v1: one FastAPI application, strict JSON, problem+json, OpenAPI 3.1.

A subject exports `api: APIRouter` from its web module; `subjects` lists them.  A handler says who may call it with
`allowed(...)`, takes its body with `json_body(Model)` and answers with plain values:

    @api.post("/lots", status_code=201, responses=PROBLEMS)
    async def create(request: Request, visitor: Annotated[Visitor, allowed("asset_manager")], ...): ...
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response

from market.errors import BadInput, Fault, MarketError, NotAllowed
from web.calls import DESCRIPTION, IdempotencyKeys
from web.errors import HANDLERS, on_bug, problem
from web.security import REQUESTS_BURST, REQUESTS_PER_SECOND, Visitor

DEPTH = 16  # of JSON, at most
FIELDS = 10_000  # in one body, at most


class Strict(BaseModel):
    """The base of bodies: exact types, no unknown members."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class FaultModel(BaseModel):
    """One thing wrong with the input."""

    code: str
    field: str
    row: int | None
    found: str
    expected: str
    message: str


class Problem(BaseModel):
    """What every refusal looks like (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str
    detail: str
    request_id: str
    faults: list[FaultModel] | None = None
    fault_count: int | None = None


_CONTENT = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
PROBLEMS: dict[int | str, dict[str, Any]] = {
    400: {"description": "Not JSON, or not HTTP as it should be", "content": _CONTENT},
    401: {"description": "No valid session or key", "content": _CONTENT},
    403: {"description": "The role or the key's scope does not allow it", "content": _CONTENT},
    404: {"description": "It is not there, or not open to the caller", "content": _CONTENT},
    409: {"description": "The state of things forbids it", "content": _CONTENT},
    413: {"description": "Larger than allowed", "content": _CONTENT},
    422: {"description": "Understood, but wrong: every fault with its place", "content": _CONTENT},
    429: {"description": "Too many requests; Retry-After says when again", "content": _CONTENT},
    503: {"description": "The database does not answer", "content": _CONTENT},
}


class Unauthenticated(MarketError):
    """Nobody is signed in."""

    status = 401


class BrokenJson(MarketError):
    """The body is not one JSON object."""

    status = 400


def allowed(*roles: str) -> Any:
    """A parameter's default: the visitor, who must be signed in and have one of `roles` (none given: any)."""

    async def visitor(request: Request) -> Visitor:
        found: Visitor = request.user
        if not found.is_authenticated:
            raise Unauthenticated("sign_in_first")
        if roles and not found.has(*roles):
            raise NotAllowed("not_allowed")
        return found

    return Depends(visitor)


def parse_json(body: bytes) -> dict[str, Any]:
    """Read one JSON object: UTF-8, no name twice, no NaN, at most DEPTH deep and FIELDS members.

    Raises: BrokenJson `json`; BadInput `duplicate_field`.
    """
    members = 0

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal members
        members += len(items)
        names = [name for name, _value in items]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise BadInput([Fault("duplicate_field", twice[:80], twice[:80], "each name once")])
        if members > FIELDS:
            raise BrokenJson("json")
        return dict(items)

    def constant(_name: str) -> Any:
        raise BrokenJson("json")

    if _depth(body) > DEPTH:  # before the parser, which recurses
        raise BrokenJson("json")
    if b"\\u0000" in body:  # no text of people has it, and PostgreSQL keeps none
        raise BrokenJson("json")
    try:
        value = json.loads(body.decode("utf-8"), object_pairs_hook=pairs, parse_constant=constant)
    except (ValueError, RecursionError):
        raise BrokenJson("json") from None
    if not isinstance(value, dict):
        raise BrokenJson("json")
    return value


def _depth(body: bytes) -> int:
    """How deep brackets nest, outside of strings."""
    deepest = depth = 0
    in_string = escaped = False
    for byte in body:
        if in_string:
            if escaped:
                escaped = False
            elif byte == 0x5C:
                escaped = True
            elif byte == 0x22:
                in_string = False
        elif byte == 0x22:
            in_string = True
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def json_body(model: type[BaseModel]) -> Any:
    """A parameter's default: the body, read strictly as `model`; also put `body_of(model)` in `openapi_extra`."""

    async def read(request: Request) -> BaseModel:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise BrokenJson("json")
        return validated(model, parse_json(await request.body()))

    return Depends(read)


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """What `openapi_extra` says of a body that `json_body` reads."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def validated(model: type[BaseModel], value: dict[str, Any]) -> BaseModel:
    """Check a parsed object against `model`, in JSON's terms: exact types, dates and instants from text."""
    from pydantic import ValidationError

    try:
        return model.model_validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise BadInput(_faults(error.errors(include_url=False))) from None


_KINDS = {"missing": "required", "extra_forbidden": "unknown_field", "string_too_long": "too_long", "enum": "choice",
          "literal_error": "choice"}  # fmt: skip


def _faults(errors: Any) -> list[Fault]:
    faults = []
    for error in errors:
        place = [str(step) for step in error["loc"] if step not in ("body", "query", "path", "header")]
        context = error.get("ctx", {})
        expected = str(context.get("expected", context.get("max_length", ""))) or _plain(error["type"], context)
        kind = _KINDS.get(error["type"], "type")
        found = "" if kind == "required" else str(error.get("input"))[:80]
        faults.append(Fault(kind, ".".join(place), found, expected))
    return faults


def _plain(kind: str, context: dict[str, Any]) -> str:
    """What was expected, without the library's words."""
    limits = ", ".join(
        f"{name} {context[name]}" for name in ("ge", "gt", "le", "lt", "min_length", "pattern") if name in context
    )
    name = kind.removesuffix("_type").removesuffix("_parsing").removesuffix("_from_date_parsing").replace("_", " ")
    return limits or name


async def on_validation(request: Request, error: Exception) -> Response:
    """What FastAPI itself found wrong with a path or query."""
    assert isinstance(error, RequestValidationError)
    return problem(422, "bad_input", None, _faults(error.errors()), request.state.request_id)


routes = APIRouter()


@routes.get("/me", tags=["parties"], responses=PROBLEMS)
async def me(visitor: Visitor = allowed()) -> dict[str, Any]:
    """Who the session or key belongs to, and what it may do."""
    return {
        "person": visitor.id,
        "party": visitor.party_id,
        "party_status": visitor.party_status,
        "roles": sorted(visitor.roles),
        "scopes": None if visitor.scopes is None else sorted(visitor.scopes),
    }


def subjects() -> list[APIRouter]:
    """One router for each subject with JSON; imported here, because subjects use what stands above."""
    from web import ledger, lots, portfolios, proof, rooms, settlement

    return [routes, portfolios.api, lots.api, rooms.api, proof.api, settlement.api, ledger.api]


def create_api(app: Starlette) -> FastAPI:
    """Make the API; it shares the application's state."""
    api = FastAPI(
        title="Clearlot",
        version="1",
        description=(
            "Everything that a page can do. Money is exact decimal text beside a currency, instants are UTC. "
            "Sign requests with `Authorization: Bearer clk_...`, or with a session and its `X-CSRF-Token`. "
            f"Limits for each person and node: {REQUESTS_PER_SECOND} requests a second, {REQUESTS_BURST} at once. "
            + DESCRIPTION
        ),
        openapi_url="/openapi.json",
        docs_url=None,  # its page loads from other hosts
        redoc_url=None,
        exception_handlers={**HANDLERS, RequestValidationError: on_validation, Exception: on_bug},
    )
    api.add_middleware(IdempotencyKeys)
    api.state = app.state
    for router in subjects():
        api.include_router(router)
    api.openapi = _described(api)  # type: ignore[method-assign]
    return api


def _described(api: FastAPI) -> Callable[[], dict[str, Any]]:
    plain = api.openapi

    def described() -> dict[str, Any]:
        if api.openapi_schema is None:
            schema = plain()
            parts = schema.setdefault("components", {})
            schemas = parts.setdefault("schemas", {})
            for name in ("HTTPValidationError", "ValidationError"):
                schemas.pop(name, None)
            for model in (Problem, FaultModel):
                own = model.model_json_schema(ref_template="#/components/schemas/{model}")
                own.pop("$defs", None)
                schemas[model.__name__] = own
            parts["securitySchemes"] = {
                "key": {"type": "http", "scheme": "bearer", "description": "An API key from the settings page"}
            }
            schema["security"] = [{"key": []}]
            schema["servers"] = [{"url": "/api/v1"}]
            api.openapi_schema = schema
        return api.openapi_schema

    return described


__all__ = ["PROBLEMS", "JSONResponse", "Strict", "allowed", "body_of", "create_api", "json_body", "parse_json"]
