"""What a server does with those who mean it no good: refuses or hangs up, and goes on."""

import contextlib
import io
import socket
import struct
import time
import zlib

import pytest
from PIL import Image

from tests.search.server.conftest import serving


@pytest.fixture(scope="module")
def server(searcher):
    limits = dict(upload_bytes=300_000, upload_pixels=1_000_000, head_seconds=0.5, body_seconds=0.5)
    with serving(searcher, **limits) as client:
        yield client


@pytest.fixture
def client(server):
    yield server
    answer = server.ask("/search?text=still+there")
    assert answer.status == 200 and len(answer.json["results"]) == 8


def png(width, height):
    """A picture of one color, however large, in few bytes."""

    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    squeeze, row = zlib.compressobj(9), bytes(1 + width // 8)
    lines = b"".join(squeeze.compress(row) for _ in range(height)) + squeeze.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def status_of(answer):
    """Of the bytes that came back; None where there were none."""
    return int(answer.split(b" ", 2)[1]) if answer else None


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no picture",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\x89PNG\r\n\x1a\n" + bytes(99),
        b"\xff\xd8\xff\xe0" + bytes(500),
        b"<html><script>alert(1)</script>",
        b"%PDF-1.7",
        bytes(2000),
    ],
)
def test_an_upload_that_is_no_picture(client, data):
    answer = client.upload(data)
    assert answer.status == 415 and "no picture that can be read" in answer.text


def test_a_picture_that_is_cut(client):
    file = io.BytesIO()
    Image.effect_noise((200, 200), 90).save(file, "JPEG")
    assert client.upload(file.getvalue()[:4000]).status == 415


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [1_001, 12_000, 30_000])
def test_a_small_file_of_many_pixels(client, side):
    data = png(side, side)
    assert len(data) < 200_000
    begin = time.perf_counter()
    answer = client.upload(data)
    assert answer.status == 413 and "Make it smaller" in answer.text
    assert time.perf_counter() - begin < 2  # nothing was decoded


def test_an_upload_that_is_too_large(client):
    assert client.upload(bytes(400_000)).status == 413
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    kind = b"Content-Type: multipart/form-data; boundary=xx\r\n\r\n"
    body = b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in [body, *[bytes(50_000)] * 8])
    assert status_of(client.raw(head + kind + chunks, wait=2)) == 413


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/pictures/..%2f..%2fetc%2fpasswd/original",
        "/pictures/%2e%2e/original",
        "/pictures//etc/passwd/original",
        "/page.css/../../routes.py",
        "/pictures/" + "a" * 41 + "/original",
        "/uploads/..%2f..%2fetc%2fpasswd",
        "/page/page.js",
        "/pictures/0123456789abcdef/original",
        "/search?like=../x",
        "/uploads/%00",
    ],
)
def test_paths_lead_nowhere_else(client, path):
    answer = client.ask(path)
    assert 400 <= answer.status < 500 and b"root:" not in answer.body


@pytest.mark.parametrize(
    "name",
    ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "10.0.0.7", "[::2]", "", "a b"],
)
def test_other_names_are_refused(client, name):
    assert client.ask("/search?text=a", headers={"Host": name}).status in (400, 421)


@pytest.mark.parametrize("name", ["localhost", "localhost:1234", "LOCALHOST", "[::1]:80"])
def test_names_of_this_machine_are_ours(client, name):
    assert client.ask("/health", headers={"Host": name}).status == 200


def test_pages_of_other_sites_may_not_ask(client):
    assert client.upload(b"x", headers={"Origin": "https://evil.example"}).status == 403
    assert client.upload(b"x", headers={"Origin": "null"}).status == 403
    assert client.ask("/health", headers={"Origin": f"http://{client.address}"}).status == 200


def test_queries_of_a_mebibyte(client):
    for path in ("/search?text=" + "a" * 2**20, "/" + "a" * 2**20):
        answer = client.raw(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert status_of(answer) in (400, 414, None)
    head = "".join(f"X-{number}: {'a' * 900}\r\n" for number in range(1000))
    answer = client.raw(f"GET / HTTP/1.1\r\nHost: localhost\r\n{head}\r\n".encode())
    assert status_of(answer) in (400, 431, None)


BROKEN = [
    b"",
    b"--xx",
    b"--xx--\r\n",
    b"--xx\r\n\r\n\r\n--xx--\r\n",
    b"garbage",
    b"\x00" * 500,
    b'--xx\r\nContent-Disposition: form-data; name="picture"\r\n\r\nabc\r\n--xx--\r\n',
    b"--xx\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--xx--\r\n",
    b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\nX: ' + b"a" * 100_000,
    b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\nabc',
    b'--xx\r\nContent-Disposition: form-data; name="other"; filename="a"\r\n\r\nabc\r\n--xx--\r\n',
    b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\nabc\r\n' * 30
    + b"--xx--",
]


@pytest.mark.parametrize("number", range(len(BROKEN)))
def test_a_form_that_is_broken(client, number):
    kind = {"Content-Type": "multipart/form-data; boundary=xx"}
    answer = client.ask("/search", "POST", BROKEN[number], kind)
    assert 400 <= answer.status < 500, answer.text


@pytest.mark.parametrize(
    "kind",
    [
        "",
        "multipart/form-data",
        "multipart/form-data; boundary=",
        "multipart/form-data; boundary=\xff",
        "application/json",
        "text/plain",
        "application/x-www-form-urlencoded",
    ],
)
def test_a_body_that_is_no_form(client, kind):
    answer = client.ask("/search", "POST", b"picture=abc&" * 50, {"Content-Type": kind})
    assert 400 <= answer.status < 500, answer.text


@pytest.mark.parametrize(
    "request_",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999\r\n\r\n",
        b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"DELETE /pictures/0123456789abcdef/original HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),  # HTTPS
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_no_request_to_us(client, request_):
    answer = client.raw(request_, wait=2)
    assert answer == b"" or 400 <= status_of(answer) < 500, answer[:200]


def test_connections_that_are_cut(client, caplog):
    whole = b"GET /search?text=a HTTP/1.1\r\nHost: localhost\r\n\r\n"
    upload = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
    upload += b"Content-Type: multipart/form-data; boundary=xx\r\n\r\n--xx\r\nContent-Dis"
    for data in (whole[:9], whole, upload):
        for linger in (False, True):
            connection = socket.create_connection(("127.0.0.1", client.port))
            connection.sendall(data)
            if linger:  # closed with a reset
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
    assert client.ask("/health").status == 200
    assert caplog.messages == []  # nothing that the owner of the server needs to know


@pytest.mark.parametrize(
    "begin",
    [
        b"",
        b"GET / HTT",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /hea",
    ],
)
def test_a_head_that_comes_too_slowly(client, begin):
    with socket.create_connection(("127.0.0.1", client.port), timeout=5) as connection:
        connection.sendall(begin)
        started = time.perf_counter()
        with pytest.raises((ConnectionError, BrokenPipeError)):
            while True:
                connection.sendall(b"a")
                time.sleep(0.1)
        assert 0.3 < time.perf_counter() - started < 3


def test_a_connection_on_which_nothing_comes(client):
    connection = socket.create_connection(("127.0.0.1", client.port), timeout=3)
    with connection, contextlib.suppress(ConnectionResetError):
        assert connection.recv(1) == b""


def test_a_body_that_comes_too_slowly(client):
    head = b"POST /search HTTP/1.1\r\nHost: localhost\r\nContent-Length: 999\r\n"
    head += b"Content-Type: multipart/form-data; boundary=xx\r\n\r\n--xx\r\n"
    started = time.perf_counter()
    assert status_of(client.raw(head, wait=3)) == 408
    assert time.perf_counter() - started < 3


def test_many_that_say_nothing_do_not_keep_others_out(client):
    silent = [socket.create_connection(("127.0.0.1", client.port)) for _ in range(200)]
    assert client.ask("/health").status == 200
    for connection in silent:
        connection.close()


def test_a_client_that_does_not_read(searcher):
    """Its answer is thrown away after a while, and its connection closed."""
    with serving(searcher, send_seconds=0.3) as client, socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", client.port))
        connection.settimeout(5)
        one = b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n"
        with pytest.raises(ConnectionError):
            for _ in range(400):
                connection.sendall(one * 20)
                time.sleep(0.02)
        assert client.ask("/health").status == 200
