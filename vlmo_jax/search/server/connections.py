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
            self._head: asyncio.TimerHandle | None = None
            self._reader: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._head = self._abort_in(limits.head_seconds)

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._head = _stop(self._head)
            elif self._head is None:
                self._head = self._abort_in(limits.head_seconds)

        def pause_writing(self) -> None:
            super().pause_writing()
            self._reader = self._abort_in(limits.send_seconds)

        def resume_writing(self) -> None:
            super().resume_writing()
            self._reader = _stop(self._reader)

        def connection_lost(self, exc: Exception | None) -> None:
            self._head, self._reader = _stop(self._head), _stop(self._reader)
            super().connection_lost(exc)

        def _abort_in(self, seconds: float) -> asyncio.TimerHandle:
            return self.loop.call_later(seconds, self.transport.abort)

    return PatientProtocol


def _stop(timer: asyncio.TimerHandle | None) -> None:
    if timer is not None:
        timer.cancel()
