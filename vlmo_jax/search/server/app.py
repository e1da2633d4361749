"""The application: routes, what guards them, and refusals in words."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse

from vlmo_jax.commands.endings import UserError
from vlmo_jax.search.server.guards import App, Guards
from vlmo_jax.search.server.limits import Limits, RefusalError
from vlmo_jax.search.server.metrics import Metrics
from vlmo_jax.search.server.routes import Routes
from vlmo_jax.search.server.served import Newest

_log = logging.getLogger(__name__)
_WORDS = {404: "There is nothing at this address.", 405: "This address is not asked in this way."}


def make_app(
    newest: Newest,
    *,
    limits: Limits,
    names: Collection[str] = (),
    is_local: bool = True,
) -> App:
    """The application that a server runs.

    Args:
        newest: index, with its model.
        limits: bounds.
        names: under which it may be addressed, beside those of this machine itself.
        is_local: whether it listens to this machine alone.
    """
    metrics = Metrics()
    routes = Routes(newest, limits, metrics)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        works = (routes.batcher.work(), newest.watch(limits.look_seconds))
        workers = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for worker in workers:
                worker.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await worker

    app = FastAPI(
        title="Search over pictures",
        version="1",
        description="Refusals are plain text, a line that says what is wrong. docs/SEARCH.md.",
        docs_url=None,  # they would fetch scripts from elsewhere
        redoc_url=None,
        lifespan=lifespan,
    )
    app.include_router(routes.router())
    app.add_exception_handler(RefusalError, _refuse)
    app.add_exception_handler(RequestValidationError, _refuse_parameters)
    app.add_exception_handler(HTTPException, _refuse_plainly)
    app.add_exception_handler(ClientDisconnect, _say_nothing)
    app.add_exception_handler(UserError, _give_up)
    app.add_exception_handler(Exception, _fail)
    return Guards(app, limits=limits, names=names, is_local=is_local, metrics=metrics)


def _text(text: str, status: int, headers: dict[str, str] | None = None) -> PlainTextResponse:
    return PlainTextResponse(f"{text}\n", status, headers)


async def _refuse(_: Request, error: Exception) -> PlainTextResponse:
    assert isinstance(error, RefusalError)
    return _text(error.text, error.status, error.headers)


async def _refuse_parameters(_: Request, error: Exception) -> PlainTextResponse:
    assert isinstance(error, RequestValidationError)
    lines = []
    for one in error.errors():
        name = ".".join(str(part) for part in one["loc"][1:])
        message = one["msg"].removeprefix("Value error, ")
        lines.append(f"{name}: {message}" if name else message)
    return _text("; ".join(lines)[:500], 422)


async def _refuse_plainly(_: Request, error: Exception) -> PlainTextResponse:
    assert isinstance(error, HTTPException)
    text = _WORDS.get(error.status_code, str(error.detail))
    return _text(text, error.status_code, dict(error.headers or {}))


async def _say_nothing(_: Request, error: Exception) -> PlainTextResponse:
    """The client has gone, and nobody reads this."""
    return _text("", 400)


async def _give_up(_: Request, error: Exception) -> PlainTextResponse:
    """Something that the owner of the server can mend."""
    _log.error("error: %s", error)
    return _text("This cannot be searched now; what the server printed says why.", 503)


async def _fail(_: Request, error: Exception) -> PlainTextResponse:
    """A fault of ours, whose traceback uvicorn shows."""
    return _text("Something went wrong in the server; what it printed says more.", 500)
