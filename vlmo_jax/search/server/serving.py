"""A server from its start to its end."""

import asyncio
import contextlib
import errno
import ipaddress
import logging
import os
import socket
import sys
import threading
import warnings
import webbrowser
from collections.abc import Callable, Collection, Iterator
from typing import Any

import uvicorn
from PIL import Image

from vlmo_jax.commands.endings import UserError
from vlmo_jax.commands.limits import raise_open_files
from vlmo_jax.commands.signals import ending_at_once, watching
from vlmo_jax.search.commands.models import load_model
from vlmo_jax.search.index import open_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.server.app import make_app
from vlmo_jax.search.server.connections import patient_protocol
from vlmo_jax.search.server.limits import Limits
from vlmo_jax.search.server.served import Newest, OpenEngine, warm_up

HOST, PORT = "127.0.0.1", 8000
_EVERYWHERE = ("0.0.0.0", "::")


class AddressTakenError(UserError, OSError):
    """Another program listens at the address already."""


class WrongAddressError(UserError, ValueError):
    """An address that is none of this machine."""


class Server(uvicorn.Server):
    """A server that says when it is there, and leaves signals to others.

    Args:
        config: of it.
        ready: called once it answers.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: Any = None) -> None:
        """Starts to listen."""
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

    def stop(self) -> None:
        """Lets requests under way end, and then the server; called again, at once. May be called
        from any thread.
        """
        self.force_exit = self.should_exit
        self.should_exit = True


def serve(
    index: str | os.PathLike,
    *,
    port: int = PORT,
    host: str = HOST,
    names: Collection[str] = (),
    model: str | os.PathLike | None = None,
    tokenizer: str | None = None,
    store: str | None = None,
    open_browser: bool = False,
    limits: Limits | None = None,
) -> None:
    """Serves an index until a signal comes.

    Args:
        index: folder of the index.
        port: to listen at, 0 for any that is free.
        host: address of this machine to listen at.
        names: under which it may be addressed besides, such as that of a proxy.
        model: folder of the model; None: where it was when the index was made.
        tokenizer: its file, where the model carries none.
        store: address of the collection of Qdrant that is searched, as `index --store` has put it;
            None: the index itself is.
        open_browser: whether to show the page.
        limits: bounds; None: the usual ones.

    Raises:
        AddressTakenError: another program listens there.
        WrongAddressError: the machine has no such address.
        UserError: index or model cannot be used.
    """
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # they are refused
    listening = listen(host, port)
    with contextlib.ExitStack() as stack:
        stack.enter_context(ending_at_once())
        opened = stack.enter_context(open_index(index))
        open_engine = _no_engine if store is None else _engines_of(store, stack)
        engine = open_engine(opened)
        searcher = Searcher(opened, load_model(model, opened.about, tokenizer), engine)
        warm_up(searcher)
        address = _address(host, listening)
        server = make_server(
            Newest(searcher, open_engine),
            names=[*names, host, *([] if is_local(host) else [socket.gethostname()])],
            is_local=is_local(host),
            limits=limits or Limits(),
            ready=lambda: _tell(address, host, len(opened), open_browser),
        )
        raise_open_files()
        with watching(lambda number: server.stop()):
            asyncio.run(server.serve(sockets=[listening]))
    print("Stopped.", flush=True)


def make_server(
    newest: Newest,
    *,
    limits: Limits,
    names: Collection[str] = (),
    is_local: bool = True,
    ready: Callable[[], object] = lambda: None,
) -> Server:
    """A server that does not run yet.

    Args:
        newest: index, with its model.
        limits: bounds.
        names, is_local: see `make_app`.
        ready: called once it answers.
    """
    app = make_app(newest, limits=limits, names=names, is_local=is_local)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # clients' mistakes are no news
    config = uvicorn.Config(
        app,
        http=patient_protocol(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=limits.connections,
        timeout_graceful_shutdown=limits.stop_seconds,
    )
    return Server(config, ready)


def listen(host: str, port: int) -> socket.socket:
    """Takes an address; what connects is answered later.

    Raises:
        AddressTakenError, WrongAddressError: see `serve`.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        where = f"--port={port} at {host}"
        if error.errno == errno.EADDRINUSE:
            raise AddressTakenError(
                f"{where} is taken by another program, maybe a search that runs already; give"
                f" another, such as --port={port + 1}, or --port=0 for one that is free"
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise AddressTakenError(
                f"{where} needs rights that you have not; give one above 1023"
            ) from error
        raise WrongAddressError(
            f"--host={host} is no address of this machine ({error.strerror}); leave it out for"
            " this machine alone, or give 0.0.0.0 for all its addresses"
        ) from error
    return listening


def is_local(host: str) -> bool:
    """Whether only programs of this machine reach an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _no_engine(_: object) -> None:
    """The engine of an index that is searched itself."""


def _engines_of(url: str, stack: contextlib.ExitStack) -> OpenEngine:
    # Only now, as its client need not be installed.
    from vlmo_jax.search.engine.qdrant import open_store
    from vlmo_jax.search.engine.stored_index import search_in_store

    store = stack.enter_context(contextlib.closing(open_store(url)))
    return lambda index: search_in_store(store, index)


def _address(host: str, listening: socket.socket) -> str:
    shown = "localhost" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    return f"http://{shown}:{listening.getsockname()[1]}"


def _tell(address: str, host: str, pictures: int, open_browser: bool) -> None:
    print(f"{pictures:,} pictures can be searched at {address} (Ctrl-C stops it)", flush=True)
    if not is_local(host):
        print(
            "warning: whoever reaches this machine over its network can look at all of them; put"
            " a server that asks for a password in front, see docs/SEARCH.md",
            file=sys.stderr,
            flush=True,
        )
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
