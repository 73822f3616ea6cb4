"""The OpenAPI document: what routes say of themselves where the framework cannot see it.

Routes read their parameters and bodies themselves (exact decimals, errors that name the parameter), so each declares
here what it takes and gives; the models that it reads by are the source.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from astra_gateway.context import GatewayContext
from astra_gateway.keys import HEADER
from astra_gateway.query import NUMBERS_HEADER, Query

REF = "#/components/schemas/{name}"

PROBLEM_SCHEMA: dict[str, Any] = {
    "type": "object",
    "description": "RFC 9457 problem details. Switch on `code`: it is stable.",
    "required": ["type", "title", "status", "code", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "exchange": {"type": "string", "description": "The venue that refused or failed the call."},
        "venueCode": {"type": ["string", "null"], "description": "The venue's own error code."},
        "retryable": {"type": "boolean", "description": "May the same call be repeated?"},
        "retryAfter": {"type": "number", "description": "Seconds to wait before the next call."},
        "outcome": {"type": "string", "enum": ["NOT_EXECUTED", "UNKNOWN"]},
        "rule": {"type": "string", "description": "Of an invalid order: the rule of the market that it breaks."},
        "market": {"type": "string"},
        "operation": {"type": "string"},
        "clientOrderId": {"type": ["string", "null"]},
        "orderId": {"type": ["string", "null"]},
    },
}

_WORDS = {
    400: "A parameter or the body is malformed, unknown or out of range.",
    401: "The gateway's API key (`api-key`) or the exchange key (`authentication`) was not accepted.",
    403: "The API key's scope (`scope`) or the exchange key (`permission-denied`) does not reach so far.",
    404: "No such exchange, market or order.",
    409: "An order with this client order id exists, or a request with this Idempotency-Key is being answered.",
    413: "The body is larger than the gateway reads.",
    422: "The order breaks a rule of the market, or the funds do not suffice: nothing was placed.",
    426: "The path speaks WebSocket only.",
    429: "Too many requests; `Retry-After` says when to come back.",
    501: "The venue does not offer this.",
    502: "The venue refused or failed the call.",
    503: "The venue cannot be reached; nothing was executed.",
    504: "The command was sent and its answer lost: it may have been carried out. Never repeat it; look first.",
}
COMMON_PROBLEMS = (400, 401, 403, 404, 429, 501, 502, 503)
COMMAND_PROBLEMS = (400, 401, 403, 404, 409, 413, 422, 429, 501, 502, 503, 504)


def model_schemas(*models: type[BaseModel]) -> dict[str, Any]:
    """The models' JSON schemas and those they refer to, by name. Decimals are a number or its exact text."""
    schemas: dict[str, Any] = {}
    for model in models:
        schema = model.model_json_schema(by_alias=True, ref_template=REF.replace("{name}", "{model}"))
        schemas.update(schema.pop("$defs", {}))
        for name, field in model.model_fields.items():
            if field.exclude:
                alias = str(field.alias or name)
                del schema["properties"][alias]
                schema["required"] = [one for one in schema.get("required", ()) if one != alias]
        schemas[model.__name__] = schema
    return schemas


def struct_schemas(*structs: type[msgspec.Struct]) -> dict[str, Any]:
    """The same for msgspec structs, which encode what is hot."""
    _, schemas = msgspec.json.schema_components(structs, ref_template=REF)
    return dict(schemas)


def parameters(query: type[Query], headers: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """A route's query parameters, from the model they are read by, and its headers."""
    schema = query.model_json_schema(by_alias=True)
    definitions = schema.get("$defs", {})
    required = schema.get("required", [])
    found: list[dict[str, Any]] = []
    for name, described in schema.get("properties", {}).items():
        described = dict(_inlined(described, definitions))
        described.pop("title", None)
        parameter = {"name": name, "in": "query", "required": name in required, "schema": described}
        if text := described.pop("description", None):
            parameter["description"] = text
        found.append(parameter)
    return [*found, *(dict(header) for header in headers)]


def _inlined(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """The schema with references replaced and the null of optional parameters (they are left out instead) dropped."""
    if isinstance(schema, list):
        return [_inlined(one, definitions) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _inlined(definitions[schema["$ref"].rpartition("/")[2]], definitions)
    plain = {key: _inlined(value, definitions) for key, value in schema.items() if not (key == "default" and not value)}
    options = [option for option in plain.get("anyOf", ()) if option != {"type": "null"}]
    if len(options) == 1:
        del plain["anyOf"]
        plain = {**options[0], **plain}
    return plain


def header(name: str, description: str, *, required: bool = False) -> dict[str, Any]:
    """A header parameter."""
    return {
        "name": name,
        "in": "header",
        "required": required,
        "description": description,
        "schema": {"type": "string"},
    }


NUMBERS = {
    **header(NUMBERS_HEADER, "`string`: numbers as exact text. The query parameter `numbers` goes before it."),
    "schema": {"type": "string", "enum": ["number", "string"]},
}


def reference(name: str) -> dict[str, str]:
    """A reference to a named schema."""
    return {"$ref": REF.format(name=name)}


def array_of(name: str) -> dict[str, Any]:
    return {"type": "array", "items": reference(name)}


def answers(schema: Any, description: str, problems: Sequence[int]) -> dict[int | str, dict[str, Any]]:
    """A route's responses: the answer, and the problems it may give."""
    found: dict[int | str, dict[str, Any]] = {
        200: {"description": description, "content": {"application/json": {"schema": schema}}}
    }
    for status in problems:
        found[status] = {
            "description": _WORDS[status],
            "content": {"application/problem+json": {"schema": reference("Problem")}},
        }
    return found


def body_of(schema: Any) -> dict[str, Any]:
    """A required JSON body."""
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def install(app: FastAPI, context: GatewayContext) -> None:
    """Make the application's document complete: our schemas, and how to authenticate."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            made = get_openapi(
                title=app.title, version=app.version, description=app.description, routes=app.routes, tags=[]
            )
            components = made.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            schemas.update({"Problem": PROBLEM_SCHEMA, **context.schemas})
            components["securitySchemes"] = {
                "apiKey": {
                    "type": "apiKey",
                    "in": "header",
                    "name": HEADER,
                    "description": "The value is `Bearer {id}.{secret}`.",
                }
            }
            made["security"] = [{"apiKey": []}]
            for path in context.public_paths & made.get("paths", {}).keys():
                for operation in made["paths"][path].values():
                    operation["security"] = []
            app.openapi_schema = made
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]
