"""A server from its start to its end, and the command that starts it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

from tests.paths import ROOT
from tests.search.server.conftest import Client, serving
from vlmo_jax.commands.endings import UserError
from vlmo_jax.search import open_index
from vlmo_jax.search.commands.serve import main, parse
from vlmo_jax.search.engine.qdrant import open_store
from vlmo_jax.search.engine.stored_index import store_index
from vlmo_jax.search.server import serving as served
from vlmo_jax.search.server.guards import host_name


@contextlib.contextmanager
def command(folder, *arguments):
    """The command, once it answers, and its first line."""
    process = subprocess.Popen(
        [sys.executable, "-m", "vlmo_jax.search", "serve", str(folder / "index"), *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()


def test_the_command_serves_until_it_is_told_to_stop(index_folder):
    with command(index_folder, "--port=0", "--host=0.0.0.0") as (process, line):
        assert line.startswith("8 pictures can be searched at http://localhost:"), line
        client = Client(int(line.split(":")[2].split()[0]))
        assert len(client.ask("/search?text=red").json["results"]) == 8
        # All addresses of the machine are its names now, and names of others' are not.
        assert client.ask("/health", headers={"Host": "192.168.7.7:80"}).status == 200
        assert client.ask("/health", headers={"Host": "evil.example"}).status == 421
        taken = f"--port={client.port} at 0.0.0.0 is taken .* such as --port={client.port + 1}, or"
        with pytest.raises(served.AddressTakenError, match=taken):
            served.listen("0.0.0.0", client.port)
        process.send_signal(signal.SIGTERM)
        out, told = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "Stopped.\n")
        assert told.splitlines()[-1].startswith("warning: whoever reaches this machine")


def test_vectors_may_be_searched_in_a_store(index_folder, tmp_path, monkeypatch):
    pytest.importorskip("qdrant_client", reason="pip install -e '.[qdrant]'")
    store = f"file://{tmp_path}/collections/pictures"
    with (
        contextlib.closing(open_store(store)) as opened,
        open_index(index_folder / "index") as index,
    ):
        store_index(opened, index)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "")
    servers, answers = [], []
    make = served.make_server

    def make_server(*args, **kinds):
        servers.append(make(*args, **kinds))
        return servers[0]

    def ask(address):
        answers.append(Client(int(address.rpartition(":")[2])).ask("/search?text=red"))
        servers[0].stop()

    tell = lambda address, *rest: threading.Thread(target=ask, args=(address,)).start()
    monkeypatch.setattr(served, "make_server", make_server)
    monkeypatch.setattr(served, "_tell", tell)
    served.serve(index_folder / "index", port=0, store=store)
    assert len(answers[0].json["results"]) == 8


def test_requests_under_way_are_answered_when_it_stops(searcher):
    entered, may = threading.Event(), threading.Event()

    class Slow:
        index, model, cut_texts = searcher.index, searcher.model, searcher.cut_texts

        def search_many(self, asked):
            entered.set()
            assert may.wait(10)
            return searcher.search_many(asked)

    answers = []
    with serving(Slow()) as client:
        asking = threading.Thread(target=lambda: answers.append(client.ask("/search?text=red")))
        asking.start()
        assert entered.wait(10)
        threading.Timer(0.3, may.set).start()
    asking.join()
    assert answers[0].status == 200
    with pytest.raises(ConnectionError):
        client.ask("/health")


def test_a_fault_of_ours_is_told_and_the_server_goes_on(searcher, caplog):
    class Broken:
        index, model, cut_texts = searcher.index, searcher.model, searcher.cut_texts

        def search_many(self, asked):
            raise KeyError("a fault")

    with serving(Broken()) as client:
        answer = client.ask("/search?text=red")
        assert answer.status == 500 and "Something went wrong" in answer.text
        assert "a fault" not in answer.text
        assert client.ask("/search").status == 200
    assert "KeyError: 'a fault'" in caplog.text


def test_what_its_owner_can_mend_is_told_in_a_line(searcher, caplog):
    class Lost:
        index, model, cut_texts = searcher.index, searcher.model, searcher.cut_texts

        def search_many(self, asked):
            raise UserError("the store does not answer; start it")

    with serving(Lost()) as client:
        answer = client.ask("/search?text=red")
        assert answer.status == 503 and "what the server printed says why" in answer.text
    assert caplog.messages == ["error: the store does not answer; start it"]


def test_a_full_queue_says_when_to_come_again(searcher):
    may = threading.Event()

    class Slow:
        index, model, cut_texts = searcher.index, searcher.model, searcher.cut_texts

        def search_many(self, asked):
            assert may.wait(10)
            return searcher.search_many(asked)

    answers = []
    with serving(Slow(), waiting=2, batch=1) as client:
        ask = lambda: answers.append(client.ask("/search?text=red"))
        threads = [threading.Thread(target=ask) for _ in range(8)]
        for thread in threads:
            thread.start()
            time.sleep(0.02)
        may.set()
        for thread in threads:
            thread.join()
    refused = [one for one in answers if one.status == 503]
    assert len(refused) == 5 and {one.headers["retry-after"] for one in refused} == {"1"}
    assert [one.status for one in answers].count(200) == 3


def test_addresses_that_cannot_be_are_refused():
    with pytest.raises(served.WrongAddressError, match="--host=203.0.113.9 is no address of this"):
        served.listen("203.0.113.9", 8000)
    with pytest.raises(SystemExit):
        parse(["INDEX", "--port=70000"])


def test_only_loopback_is_local():
    assert all(map(served.is_local, ("127.0.0.1", "127.1.2.3", "::1", "localhost")))
    assert not any(map(served.is_local, ("0.0.0.0", "::", "192.168.0.2", "example.org")))


def test_names_are_read_as_hosts_are_written():
    assert [host_name(one) for one in ("A.b:80", "[::1]:80", "10.0.0.1", "a b", "a@b", "")] == [
        "a.b",
        "::1",
        "10.0.0.1",
        None,
        None,
        None,
    ]


def test_what_is_not_installed_is_named(monkeypatch, tmp_path):
    for name in [name for name in sys.modules if name.startswith("vlmo_jax.search.server")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(ImportError, match=r"uvicorn, which is not installed; get it with: pip"):
        main([str(tmp_path)])


def test_there_is_no_index(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(FileNotFoundError, match="is no index; make one with"):
        served.serve(tmp_path / os.devnull.strip("/"), port=port)
