"""The OpenAPI 3.1 document, made from the policy's spaces, so that a client can be generated from it and a fuzzer can test it."""

from __future__ import annotations

from typing import Any

from pistar import __version__
from pistar.serve.actor import Actor
from pistar.serve.schema import json_schema
from pistar.serve.settings import Service

EVERYWHERE = {  # status -> when; any path may answer with these
    "400": "the request is no HTTP, or its body is no JSON",
    "401": "the token is missing or another",
    "403": "a page of another origin asked",
    "404": "there is nothing here",
    "405": "the path has no such method",
    "408": "the request came too slowly",
    "421": "the Host header is none of this service's names",
    "431": "the head is too large",
    "500": "a fault in the service",
    "503": "too many connections, or it took too long, or the service is ending",
}
WITH_BODY = {
    "413": "the body is too large",
    "415": "the body is not declared as application/json",
    "422": "the body is JSON that does not fit; the answer says where and why",
    "429": "no room at the moment; Retry-After says when to try again",
}
GONE = {"404": "no such session: it ended, was never begun, or its policy was replaced long ago"}
BUSY = {"409": "another request of the same session is not answered yet"}
TEXT, NUMBER, COUNT, TRUTH = {"type": "string"}, {"type": "number"}, {"type": "integer"}, {"type": "boolean"}
DIGEST = {"type": "string", "description": "SHA-256 of the policy that acted"}


def document(actor: Actor, settings: Service, plays: bool) -> dict[str, Any]:
    """The whole document."""
    paths = {
        "/v1/act": {"post": act(actor, settings)},
        "/v1/sessions": {"post": begin_session(settings)},
        "/v1/sessions/{session}": {"delete": end("session", "End a session")},
        "/v1/policy": {"get": operation("What is served: spaces, provenance, limits", answer({"type": "object"}))},
        "/healthz": {"get": operation("Whether requests are answered", answer(record(status=TEXT)), token=False)},
        "/metrics": {"get": operation("Counts and times", answer(TEXT, "text/plain"))},
        "/openapi.json": {"get": operation("This document", answer({"type": "object"}))},
        "/": {"get": operation("A page to look at the policy", answer(TEXT, "text/html"), token=False)},
    }
    if plays:
        paths |= playing(actor)
    return {
        "openapi": "3.1.0",
        "info": {"title": "pistar serve", "version": __version__, "description": "A policy that acts on request."},
        "paths": paths,
        "components": {
            "schemas": {"Explanation": explanation()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def act(actor: Actor, settings: Service) -> dict[str, Any]:
    """``POST /v1/act``."""
    observation = json_schema(actor.spaces.observation, actor.unused)
    many = {"type": "array", "items": observation, "minItems": 1, "maxItems": settings.max_observations}
    first = {"type": "array", "items": TRUTH, "minItems": 1, "maxItems": settings.max_observations}
    body: dict[str, Any] = {
        "type": "object",
        "properties": {
            "observation": observation,
            "observations": many,
            "deterministic": {**TRUTH, "default": True, "description": "the distribution's mode instead of a sample"},
            "session": {"type": ["string", "null"], "maxLength": 64, "description": "whose memory to go on with"},
            "first": {"anyOf": [TRUTH, first], "description": "an episode begins with this observation"},
            "seed": {
                "type": ["integer", "null"],
                "minimum": 0,
                "maximum": 2**63 - 1,
                "description": "of the sample; equal requests with a seed give equal actions",
            },
            "distribution": {**TRUTH, "description": "give the distribution's parameters too"},
        },
        "oneOf": [{"required": ["observation"]}, {"required": ["observations"]}],
        "additionalProperties": False,
    }
    if actor.reset:
        body["properties"]["session"]["type"] = "string"
        body["required"] = ["session"]
    action = json_schema(actor.spaces.action)
    acted = {
        "type": "object",
        "properties": {
            "action": action,
            "actions": {"type": "array", "items": action},
            "policy": DIGEST,
            "distribution": {"type": "array", "items": {"type": "object"}},
        },
        "required": ["policy"],
        "additionalProperties": False,
    }
    return operation("Act on one observation, or on many", answer(acted), body, extra={**GONE, **BUSY})


def begin_session(settings: Service) -> dict[str, Any]:
    """``POST /v1/sessions``."""
    lanes = {**COUNT, "minimum": 1, "maximum": settings.max_observations, "default": 1}
    body = {"type": "object", "properties": {"lanes": lanes}, "additionalProperties": False}
    begun = record(session=TEXT, lanes=COUNT, idle_seconds=NUMBER, policy=DIGEST)
    summary = "Begin a session, with as many lanes as each request will have observations"
    return operation(summary, answer(begun), body, status="201", optional=True)


def playing(actor: Actor) -> dict[str, Any]:
    """``/v1/plays``."""
    seed = {"type": ["integer", "null"], "minimum": 0, "maximum": 2**31 - 1}
    begin = {"type": "object", "properties": {"seed": seed}, "additionalProperties": False}
    many = {**COUNT, "minimum": 1, "maximum": 50, "default": 1}
    step = {"type": "object", "properties": {"deterministic": TRUTH, "steps": many}, "additionalProperties": False}
    begun = {"type": "object", "required": ["play", "frame", "observation"]}
    stepped = {"type": "object", "required": ["action", "reward", "return", "steps", "ended", "frame"]}
    return {
        "/v1/plays": {
            "post": operation("Begin an episode of the task", answer(begun), begin, status="201", optional=True)
        },
        "/v1/plays/{play}": {
            "post": operation(
                "Go on by some steps", answer(stepped), step, extra={**GONE, **BUSY}, named="play", optional=True
            ),
            "delete": end("play", "End an episode"),
        },
    }


def end(name: str, summary: str) -> dict[str, Any]:
    """A DELETE."""
    return operation(summary, {"description": "ended"}, status="204", extra=GONE, named=name)


def operation(
    summary: str,
    success: dict[str, Any],
    body: dict[str, Any] | None = None,
    status: str = "200",
    extra: dict[str, str] | None = None,
    named: str = "",
    optional: bool = False,
    token: bool = True,
) -> dict[str, Any]:
    """One method of a path."""
    refusals = {**EVERYWHERE, **(WITH_BODY if body is not None else {}), **(extra or {})}
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Explanation"}}}
    responses = {each: {"description": meaning, "content": content} for each, meaning in sorted(refusals.items())}
    made: dict[str, Any] = {"summary": summary, "responses": {status: success, **responses}}
    if body is not None:
        made["requestBody"] = {"required": not optional, "content": {"application/json": {"schema": body}}}
    if named:
        made["parameters"] = [
            {"name": named, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        ]
    if token:
        made["security"] = [{}, {"token": []}]
    return made


def answer(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    """A success."""
    return {"description": "done", "content": {kind: {"schema": schema}}}


def record(**properties: dict[str, Any]) -> dict[str, Any]:
    """An object of exactly these fields."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def explanation() -> dict[str, Any]:
    """The body of a refusal."""
    fields = dict.fromkeys(("error", "expected", "received", "next"), TEXT)
    return {"type": "object", "properties": fields, "required": ["error"], "additionalProperties": False}
