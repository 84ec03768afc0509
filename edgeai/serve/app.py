"""The routes: models, predictions, health and what there is to read about them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, Response
from starlette.exceptions import HTTPException

from edgeai import __version__
from edgeai.errors import EdgeError
from edgeai.serve.bodies import JPEG, NPY, PNG, SOUND
from edgeai.serve.faults import JSON_TYPE, RequestError, error_body, fault_body, status_of
from edgeai.serve.guard import Guard, Health
from edgeai.serve.model import CLIENT_GONE, ServedModel
from edgeai.serve.page import api_page
from edgeai.serve.schema import ErrorAnswer, HealthAnswer, ModelAnswer, ModelsAnswer, PredictAnswer
from edgeai.serve.settings import ServeSettings

MAX_READING: Final = 32
"""Bodies that may be coming in at once: with max_bytes it bounds the memory that they take."""

_BINARY: Final = {"schema": {"type": "string", "format": "binary"}}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {"required": True, "content": dict.fromkeys((JPEG, PNG, SOUND, NPY), _BINARY)}
}
_FAULTS: Final = {
    400: "an empty or broken request",
    401: "no token, or a wrong one",
    404: "no such model",
    408: "the body did not come in",
    413: "the body, the picture or the clip is too large",
    415: "the model takes no such content type, or the body is of another",
    422: "what was sent cannot be read, or does not fit the model",
    429: "the queue is full: Retry-After says when to come again",
    503: "the server is stopping",
    504: "no answer in time",
}
_FAULT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    status: {"model": ErrorAnswer, "description": text} for status, text in _FAULTS.items()
}


def build_app(models: Sequence[ServedModel], settings: ServeSettings, health: Health) -> Guard:
    """The ASGI application. Everything that goes wrong in it is told as {"error", "next"} in JSON."""
    table = {model.name: model for model in models}
    reading = asyncio.Semaphore(MAX_READING)
    app = FastAPI(
        title="edgeai serve",
        version=__version__,
        description="Models of this server, and what they say to a picture, a clip or a tensor.",
        docs_url=None,  # FastAPI's own pages load scripts from a CDN
        redoc_url=None,
        redirect_slashes=False,
    )

    def find(name: str) -> ServedModel:
        if name not in table:
            raise RequestError(
                404, f"no model {name[:80]!r}", next_step=f"there are {', '.join(table)}: see /v1/models"
            )
        return table[name]

    @app.get("/healthz", responses={200: {"model": HealthAnswer}, 503: {"model": HealthAnswer}})
    async def healthz() -> Response:
        """200 where requests are taken, 503 while the server stops. Needs no token."""
        body = b'{"status":"stopping"}' if health.stopping else b'{"status":"ready"}'
        return Response(body, 503 if health.stopping else 200, media_type=JSON_TYPE)

    @app.get("/v1/models")
    async def list_models() -> ModelsAnswer:
        """The models of this server: what they take, what they know, which engine file runs."""
        return ModelsAnswer.model_validate({"models": [model.facts() for model in models]})

    @app.get("/v1/models/{name}", responses={"4XX": _FAULT_ANSWERS[404]})
    async def show_model(name: str) -> ModelAnswer:
        """One model."""
        return ModelAnswer.model_validate(find(name).facts())

    @app.get("/v1/stats")
    async def stats() -> dict[str, Any]:
        """For each model how requests ended, by status, and percentiles of the newest answers' latency."""
        return {model.name: model.stats() for model in models}

    @app.post(
        "/v1/models/{name}/predict",
        openapi_extra=_BODY,
        responses={200: {"model": PredictAnswer}, **_FAULT_ANSWERS},
        response_class=Response,
    )
    async def predict(name: str, request: Request) -> Response:
        """What a model says to a picture, a clip or a tensor, the body as it is: no form, no URL.

        Detectors give boxes in the picture's pixels, classifiers every label with its score, keyword models what was
        heard and when. A tensor (numpy's .npy, of the model's own input) gives the engine's outputs for any model.
        """
        model = find(name)
        try:
            kind = model.kind_of(request.headers.get("content-type", ""))
            if health.stopping:
                raise RequestError(503, "the server is stopping", headers={"Retry-After": "5"})
            model.check_room()
            if reading.locked():
                raise RequestError(
                    429,
                    f"{MAX_READING} bodies are coming in, no more are taken",
                    headers={"Retry-After": "1"},
                )
            async with reading:
                body = await read_body(request, settings)
            answer = await model.predict(body, kind, lambda: until_gone(request))
        except Exception as error:
            model.count(status_of(error))
            raise
        model.count(200)
        return Response(answer, media_type=JSON_TYPE)

    @app.get("/", include_in_schema=False)
    async def page() -> HTMLResponse:
        return HTMLResponse(
            api_page(app.openapi()),
            headers={"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"},
        )

    @app.exception_handler(EdgeError)
    async def refuse(request: Request, error: EdgeError) -> Response:
        headers = error.headers if isinstance(error, RequestError) else None
        return Response(
            error_body(str(error), error.next_step), status_of(error), headers, media_type=JSON_TYPE
        )

    @app.exception_handler(HTTPException)
    async def refuse_route(request: Request, error: HTTPException) -> Response:
        what = f"{request.method} {request.url.path[:200]}: {error.detail}"
        return Response(
            error_body(what, "see /openapi.json"), error.status_code, error.headers, media_type=JSON_TYPE
        )

    @app.exception_handler(Exception)
    async def fault(
        request: Request, error: Exception
    ) -> Response:  # raised again behind this, for the guard's log
        return Response(fault_body(error), 500, media_type=JSON_TYPE)

    return Guard(app, settings, health)


async def read_body(request: Request, settings: ServeSettings) -> bytes:
    """The whole body. What it says about its length is not believed but where it says too much.

    Raises RequestError: 413 beyond max_bytes, 408 where it has not come in after body_s, 400 for an empty one, and
    CLIENT_GONE.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said[:20]) > settings.max_bytes:
        raise _too_large(settings)
    try:
        return await asyncio.wait_for(_receive(request, settings), settings.body_s)
    except asyncio.TimeoutError:
        raise RequestError(408, f"the body did not come in within {settings.body_s:g} s") from None


async def _receive(request: Request, settings: ServeSettings) -> bytes:
    parts, size, more = [], 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise RequestError(CLIENT_GONE, "the client went away")
        part = message.get("body", b"")
        size += len(part)
        if size > settings.max_bytes:
            raise _too_large(settings)
        parts.append(part)
        more = message.get("more_body", False)
    if not size:
        raise RequestError(
            400,
            "the request has no body",
            next_step="send the file itself, for example with curl --data-binary @FILE",
        )
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _too_large(settings: ServeSettings) -> RequestError:
    return RequestError(
        413,
        f"the body is larger than {settings.max_bytes} bytes",
        next_step="send less, or start the server with a larger --max-bytes",
    )


async def until_gone(request: Request) -> None:
    """Comes back when the client has closed its connection; only after the whole body was read."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
