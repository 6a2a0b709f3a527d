"""The routes: what each path answers. Decisions are made elsewhere (`service`, `guard`); this is where HTTP meets them."""

from __future__ import annotations

import functools
from typing import Annotated, Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route, Router

from pistar import __version__, spaces
from pistar.serve import metrics, openapi, page
from pistar.serve.explain import malformed
from pistar.serve.guard import Guard, Receive, Scope
from pistar.serve.plays import BeginPlay, Plays, StepPlay
from pistar.serve.refusals import Refusal
from pistar.serve.service import Serving


class Begin(msgspec.Struct, forbid_unknown_fields=True):
    """The body of ``POST /v1/sessions``, which may be empty."""

    lanes: Annotated[int, msgspec.Meta(ge=1)] = 1


class Endpoints:
    """The other routes."""

    def __init__(self, serving: Serving, plays: Plays | None) -> None:
        self.serving, self.plays = serving, plays
        self.guard: Guard | None = None

    async def page(self, request: Request) -> Response:
        """The page, which asks the other routes for all it shows."""
        text, policy = page.assembled()
        return Response(text, media_type="text/html", headers={"content-security-policy": policy})

    async def health(self, request: Request) -> Response:
        """200 while requests are answered, 503 once the service is ending."""
        ending = self.guard is not None and self.guard.draining
        return json({"status": "ending" if ending else "ok"}, 503 if ending else 200)

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        text = self.serving.metrics.text(self.serving.gauges(), self.serving.labels())
        return Response(text, headers={"content-type": metrics.CONTENT_TYPE})

    async def openapi(self, request: Request) -> Response:
        """The document of this service, made from the policy's spaces."""
        return json(openapi.document(self.serving.actor, self.serving.settings, plays=self.plays is not None))

    async def policy(self, request: Request) -> Response:
        """What is served: spaces, provenance, distribution, and what the service can do with it."""
        actor, settings = self.serving.actor, self.serving.settings
        metadata = actor.policy.metadata
        return json(
            {
                "sha256": actor.sha256,
                "task": metadata.get("task"),
                "algorithm": metadata.get("algorithm"),
                "steps": metadata.get("steps"),
                "seed": metadata.get("seed"),
                "pistar": metadata.get("pistar"),
                "service": __version__,
                "observation_space": spaces.encode(actor.spaces.observation),
                "action_space": spaces.encode(actor.spaces.action),
                "distribution": metadata.get("distribution"),
                "unused": metadata.get("unused", []),
                "mask": metadata.get("mask"),
                "inside": metadata.get("inside", []),
                "memory": actor.reset,
                "sampling": actor.policy.can_sample,
                "provenance": metadata.get("provenance", {}),
                "play": None if self.plays is None else self.plays.name,
                "limits": {
                    "body_bytes": settings.max_body,
                    "observations": settings.max_observations,
                    "sessions": settings.sessions,
                    "session_idle_seconds": settings.session_idle,
                    "seconds": settings.timeout,
                },
                "newest_refused": self.serving.complaint or None,
            }
        )

    async def begin(self, request: Request) -> Response:
        """201 and the name of a new session."""
        body = await read(request.scope, request.receive, self.serving.settings.max_body, empty=True)
        lanes = decode(body or b"{}", Begin).lanes
        most = self.serving.settings.max_observations
        if lanes > most:
            raise Refusal(422, "lanes does not fit", f"1 to {most}", str(lanes), "begin several sessions")
        name = self.serving.begin(lanes)
        idle = self.serving.settings.session_idle
        sha256 = self.serving.actor.sha256
        return json({"session": name, "lanes": lanes, "idle_seconds": idle, "policy": sha256}, 201)

    async def end(self, request: Request) -> Response:
        """204, or 404 where there is no such session."""
        self.serving.sessions.end(request.path_params["session"])
        return Response(status_code=204)


def application(serving: Serving, plays: Plays | None, token: str | None, hosts: tuple[str, ...] | None) -> Guard:
    """The whole ASGI application."""
    endpoints = Endpoints(serving, plays)

    async def answer(scope: Scope, receive: Receive) -> bytes | None:
        body = await read(scope, receive, serving.settings.max_body)
        return None if body is None else await serving.act(body)

    async def act(request: Request) -> Response:  # the router knows it too, for its 405
        return Response(await answer(request.scope, request.receive), media_type="application/json")

    routes = [
        Route("/v1/act", act, methods=["POST"]),
        Route("/healthz", endpoints.health),
        Route("/metrics", endpoints.metrics),
        Route("/v1/policy", endpoints.policy),
        Route("/v1/sessions", endpoints.begin, methods=["POST"]),
        Route("/v1/sessions/{session}", endpoints.end, methods=["DELETE"]),
        Route("/openapi.json", endpoints.openapi),
        Route("/", endpoints.page),
    ]
    if plays is not None:
        routes += [
            Route("/v1/plays", functools.partial(plays_begin, plays), methods=["POST"]),
            Route("/v1/plays/{play}", functools.partial(plays_step, plays), methods=["POST"]),
            Route("/v1/plays/{play}", functools.partial(plays_end, plays), methods=["DELETE"]),
        ]
    router = Router(routes, redirect_slashes=False)
    paths = tuple(dict.fromkeys(route.path for route in routes))
    guard = Guard(router, serving.metrics, paths, token, hosts, {("POST", "/v1/act"): answer})
    endpoints.guard = guard
    return guard


async def read(scope: Scope, receive: Receive, most: int, empty: bool = False) -> bytes | None:
    """The body, or None where the client left. Raises Refusal (413, 415).

    ``empty``: no body, and so no type of it, is fine too. How long it may take to arrive is the connection's affair.
    """
    fields: dict[bytes, bytes] = scope["fields"]
    declared = fields.get(b"content-length")
    if declared is not None and (len(declared) > 18 or int(declared) > most):
        raise oversized(most, declared.decode("latin-1")[:30])
    kind = fields.get(b"content-type", b"")
    known = kind == b"application/json" or kind.partition(b";")[0].strip().lower() == b"application/json"
    if not known and not (empty and declared in (None, b"0") and b"transfer-encoding" not in fields):
        text = kind.decode("latin-1")[:100] or "none"
        raise Refusal(415, "the body's type is not known", "Content-Type: application/json", text, "send JSON")
    message = await receive()
    body: bytes = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
        if len(body) > most:
            raise oversized(most, f"more than {len(body)}")
    if len(body) > most:
        raise oversized(most, str(len(body)))
    return None if message["type"] == "http.disconnect" else body


def oversized(most: int, received: str) -> Refusal:
    """413."""
    return Refusal(
        413,
        "the body is too large",
        f"at most {most} bytes",
        f"{received} bytes",
        "send fewer observations in a request, or start the service with a larger --max-body",
    )


def decode(body: bytes, kind: Any) -> Any:
    """A small body as a Struct. Raises Refusal (400, 422)."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise Refusal(422, "the body does not fit", str(error), "", "GET /openapi.json shows what fits") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise malformed(body, error) from None


def json(value: Any, status: int = 200) -> Response:
    """A value as an answer."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def plays_begin(plays: Plays, request: Request) -> Response:
    """201, the first frame and the name of an episode."""
    body = await read(request.scope, request.receive, 10_000, empty=True)
    return json(await plays.begin(decode(body or b"{}", BeginPlay)), 201)


async def plays_step(plays: Plays, request: Request) -> Response:
    """200 and what a step brought."""
    body = await read(request.scope, request.receive, 10_000, empty=True)
    return json(await plays.step(request.path_params["play"], decode(body or b"{}", StepPlay)))


async def plays_end(plays: Plays, request: Request) -> Response:
    """204."""
    await plays.end(request.path_params["play"])
    return Response(status_code=204)
