"""A server over a small index, one for all tests of a file."""

import contextlib
import http.client
import json
import socket
import threading
from typing import NamedTuple

import pytest
from PIL import Image

import vlmo_jax
from tests.inference.models import save_stage3
from vlmo_jax.search import open_index
from vlmo_jax.search.building.update import update_index
from vlmo_jax.search.queries import Searcher
from vlmo_jax.search.server.limits import Limits
from vlmo_jax.search.server.served import Newest
from vlmo_jax.search.server.serving import listen, make_server

COLORS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "black": (0, 0, 0)}


class Answered(NamedTuple):
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def text(self):
        return self.body.decode()


class Client:
    """Asks a server as programs do; a connection a request.

    Args:
        port: of the server.
    """

    def __init__(self, port):
        self.port = port
        self.address = f"127.0.0.1:{port}"

    def ask(self, path, method="GET", body=None, headers=()):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        with contextlib.closing(connection):
            connection.request(method, path, body, dict(headers))
            answer = connection.getresponse()
            names = {name.lower(): value for name, value in answer.getheaders()}
            return Answered(answer.status, names, answer.read())

    def upload(self, data, path="/search", headers=(), field="picture"):
        head = f'--xx\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'
        body = head.encode() + data + b"\r\n--xx--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=xx"}
        return self.ask(path, "POST", body, {**kind, **dict(headers)})

    def raw(self, data, *, wait=5.0):
        """Sends bytes as they are, and returns what comes until nothing more does."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as connection:
            connection.sendall(data)
            received = b""
            with contextlib.suppress(TimeoutError, ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
                    connection.settimeout(0.2)
            return received


@contextlib.contextmanager
def serving(searcher, **limits):
    """A client of a server that runs in a thread meanwhile."""
    listening, ready = listen("127.0.0.1", 0), threading.Event()
    server = make_server(Newest(searcher), limits=Limits(**limits), ready=ready.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    port = listening.getsockname()[1]
    thread.start()
    try:
        assert ready.wait(20)
        yield Client(port)
    finally:
        server.stop()
        thread.join(20)
    assert not thread.is_alive()


def save_pictures(folder):
    """Eight pictures of four colors in three folders, half of them with a day."""
    for number, (name, color) in enumerate(COLORS.items()):
        for place, size in (("", (60, 40)), ("sub" if number % 2 else "sub/deep", (40, 50))):
            (folder / place).mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", size, color)
            image.paste((255, 255, 255), (5, 5, 15 + number, 20))
            exif = Image.Exif()
            if place:
                exif.get_ifd(0x8769)[0x9003] = f"2024:0{number + 1}:15 10:00:00"
            image.save(folder / place / f"{name}.jpg", exif=exif)
            (folder / place / f"{name}.txt").write_text(f"a {name} picture")
    return folder


@pytest.fixture(scope="session")
def index_folder(tmp_path_factory):
    """A folder with the pictures, their index and the model of it."""
    folder = tmp_path_factory.mktemp("served")
    save_stage3(folder / "model")
    model = vlmo_jax.load(folder / "model", show_progress=False)
    update_index(save_pictures(folder / "pictures"), folder / "index", model, folder / "model")
    return folder


@pytest.fixture(scope="session")
def searcher(index_folder):
    with open_index(index_folder / "index") as index:
        yield Searcher(index, vlmo_jax.load(index_folder / "model", show_progress=False))
