"""Connections that wait for slow clients, but not for ever."""

import asyncio
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from vlmo_jax.search.server.limits import Limits


def patient_protocol(limits: Limits) -> type[H11Protocol]:
    """The protocol class of uvicorn, with a time in which the head of a request has to come.

    Uvicorn itself waits for ever for a client that sends nothing, or a letter a minute.

    Args:
        limits: `head_seconds` is asked.
    """

    class PatientProtocol(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            self._patience: asyncio.TimerHandle | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._wait()

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if self.cycle is not None and not self.cycle.response_complete:
                self._stop_waiting()
            elif self._patience is None:
                self._wait()

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def _wait(self) -> None:
            self._patience = self.loop.call_later(limits.head_seconds, self.transport.abort)

        def _stop_waiting(self) -> None:
            if self._patience is not None:
                self._patience.cancel()
                self._patience = None

    return PatientProtocol
