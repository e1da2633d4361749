"""What stands before the routes, as layers of ASGI: who may ask, how much, and for how long."""

import asyncio
import ipaddress
import re
import time
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any, TypeAlias

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

from vlmo_jax.search.server.limits import Limits, RefusalError, busy
from vlmo_jax.search.server.metrics import Metrics

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

# Nothing from elsewhere, nothing within other people's pages, nothing told to others.
SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' blob:; connect-src 'self'; base-uri 'none'; form-action 'self';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[\w.-]+)(:\d+)?", re.ASCII)


class Guards:
    """Everything that is asked of a request before a route sees it, and done to each answer.

    Args:
        app: the routes.
        limits: bounds.
        names: under which the server may be addressed, beside those of this machine itself.
        is_local: whether it listens to this machine alone.
        metrics: counts the answers.
    """

    def __init__(
        self,
        app: App,
        *,
        limits: Limits,
        names: Collection[str],
        is_local: bool,
        metrics: Metrics,
    ) -> None:
        self._app, self._limits, self._metrics = app, limits, metrics
        self._names = LOCAL_NAMES | {name.lower() for name in names}
        self._is_local = is_local
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin, status = time.perf_counter(), 500

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        self._under_way += 1
        try:
            self._check(Headers(scope=scope))
            await self._app(scope, self._bounded(receive), answer)
        except RefusalError as error:
            await PlainTextResponse(error.text + "\n", error.status, error.headers)(
                scope, receive, answer
            )
        finally:
            self._under_way -= 1
            route = getattr(scope.get("route"), "path", "none")
            self._metrics.requests.labels(route, status).inc()
            self._metrics.request_seconds.labels(route).observe(time.perf_counter() - begin)

    def _check(self, headers: Headers) -> None:
        if self._under_way > self._limits.requests:
            raise busy()
        host = host_name(headers.get("host", ""))
        if not self._is_known(host):
            raise RefusalError(
                421,
                "This server is not known by that name. Use the address that it printed, or start"
                " it with --name=NAME for a name of yours.",
            )
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2].lower() != headers["host"].lower():
            raise RefusalError(403, "Pages of other sites may not ask here.")
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > self._limits.upload_bytes:
            raise self._too_large()

    def _is_known(self, host: str | None) -> bool:
        """Whether a name is ours: a page of somebody's site whose name leads here has another
        ("DNS rebinding"). An address of numbers cannot be made to lead elsewhere.
        """
        if host is None:
            return False
        return host in self._names or not self._is_local and _is_address(host)

    def _bounded(self, receive: Receive) -> Receive:
        """Receives a body of bounded size in bounded time."""
        loop, received, complete = asyncio.get_running_loop(), 0, False
        deadline = loop.time() + self._limits.body_seconds

        async def bounded() -> Message:
            nonlocal received, complete
            if complete:  # what waits now waits for the client to go away
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                raise RefusalError(408, "The request took too long to come.") from None
            received += len(message.get("body", b""))
            if received > self._limits.upload_bytes:
                raise self._too_large()
            complete = not message.get("more_body", False)
            return message

        return bounded

    def _too_large(self) -> RefusalError:
        most = f"{self._limits.upload_bytes / 2**20:g} MiB"
        return RefusalError(413, f"At most {most} may be sent; make the picture smaller first.")


def host_name(header: str) -> str | None:
    """The name in a Host header, without its port, in small letters; None where it is none."""
    found = _HOST.fullmatch(header)
    return found[1].strip("[]").lower() if found else None


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
