"""Connections that wait for slow clients, but not for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vlmo_jax.search.server.limits import Limits


def patient_protocol(limits: Limits) -> type[H11Protocol]:
    """The protocol class of uvicorn, with a time in which the head of a request has to come, and
    one in which an answer has to be taken.

    Uvicorn itself waits for ever for a client that sends nothing, or a letter a minute, or does not
    read.

    Args:
        limits: `head_seconds` and `send_seconds` are asked.
    """

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._awaited: dict[str, asyncio.TimerHandle] = {}

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._await("head", limits.head_seconds)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._has_come("head")
            else:
                self._await("head", limits.head_seconds)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._await("reader", limits.send_seconds)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._has_come("reader")

        def connection_lost(self, exc: Exception | None) -> None:
            for what in tuple(self._awaited):
                self._has_come(what)
            super().connection_lost(exc)

        def _await(self, what: str, seconds: float) -> None:
            if what not in self._awaited:
                self._awaited[what] = self.loop.call_later(seconds, self.transport.abort)

        def _has_come(self, what: str) -> None:
            if timer := self._awaited.pop(what, None):
                timer.cancel()

    return PatientProtocol
