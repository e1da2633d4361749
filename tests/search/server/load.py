"""Many clients at once, for a while: python -m tests.search.server.load ADDRESS

    python -m vlmo_jax.search serve INDEX &
    python -m tests.search.server.load http://127.0.0.1:8000 --clients=32 --seconds=60

Each client asks one question after another: mostly texts, some pictures of the index, pages,
filters and uploads. Prints counts, times and what the server's memory was before and after; ends
with status 1 where an answer was none.
"""

import argparse
import collections
import http.client
import io
import json
import os
import random
import sys
import threading
import time
import urllib.parse

from PIL import Image

WORDS = [
    "red",
    "blue",
    "green",
    "small",
    "large",
    "old",
    "heart",
    "house",
    "dog",
    "cat",
    "tree",
    "car",
    "face",
    "hand",
    "star",
    "moon",
]
MEMORY = "process_resident_memory_bytes"


class Client(threading.Thread):
    """A client.

    Args:
        host: and port of the server.
        number: of the client, which its questions follow from.
        until: when it ends, in seconds of time.monotonic.
        ids: of some pictures of the index.
    """

    def __init__(self, host, number, until, ids):
        super().__init__()
        self._host, self._until, self._ids = host, until, ids
        self._random = random.Random(number)
        self.seconds, self.statuses = [], collections.Counter()

    def run(self):
        connection = http.client.HTTPConnection(self._host, timeout=60)
        while time.monotonic() < self._until:
            begin = time.perf_counter()
            try:
                status = self._ask(connection)
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                connection.close()
            self.statuses[status] += 1
            self.seconds.append(time.perf_counter() - begin)
        connection.close()

    def _ask(self, connection):
        kind = self._random.random()
        words = " ".join(self._random.sample(WORDS, 3))
        if kind < 0.02:
            return self._upload(connection)
        asked = {"text": words, "count": 48}
        if kind < 0.15:
            asked = {"like": self._random.choice(self._ids), "count": 48}
        elif kind < 0.25:
            asked |= {"skip": 48}
        elif kind < 0.35:
            asked |= {"without": self._random.choice(WORDS), "since": "2000-01-01"}
        connection.request("GET", f"/search?{urllib.parse.urlencode(asked)}")
        return _status(connection)

    def _upload(self, connection):
        file, color = io.BytesIO(), tuple(self._random.randrange(256) for _ in range(3))
        Image.new("RGB", (640, 480), color).save(file, "JPEG")
        head = b'--xx\r\nContent-Disposition: form-data; name="picture"; filename="a"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=xx"}
        connection.request("POST", "/search", head + file.getvalue() + b"\r\n--xx--\r\n", kind)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 303:
            return answer.status
        connection.request("GET", answer.getheader("Location"))
        return _status(connection)


def _status(connection):
    answer = connection.getresponse()
    data = answer.read()
    return (
        200 if answer.status == 200 and json.loads(data)["results"] is not None else answer.status
    )


def _get(host, path):
    connection = http.client.HTTPConnection(host, timeout=60)
    connection.request("GET", path)
    data = connection.getresponse().read().decode()
    connection.close()
    return data


def _memory(host):
    """MiB that the server has in memory."""
    [line] = [line for line in _get(host, "/metrics").splitlines() if line.startswith(MEMORY + " ")]
    return float(line.split()[1]) / 2**20


def measure(host, clients, seconds):
    """Asks, and returns what was found."""
    ids = [one["id"] for one in json.loads(_get(host, "/search?count=100"))["results"]]
    ask = lambda lasting: [
        Client(host, number, time.monotonic() + lasting, ids) for number in range(clients)
    ]
    memory, asking = [_memory(host)], ask(seconds)
    for client in asking:
        client.start()
    while any(client.is_alive() for client in asking):
        time.sleep(seconds / 6)
        memory.append(_memory(host))
    for client in asking:
        client.join()
    times = sorted(one for client in asking for one in client.seconds)
    statuses = sum((client.statuses for client in asking), collections.Counter())
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": dict(statuses),
        "per_second": round(len(times) / seconds, 1),
        "p50_ms": round(1000 * times[len(times) // 2], 1),
        "p95_ms": round(1000 * times[int(0.95 * len(times))], 1),
        "worst_ms": round(1000 * times[-1], 1),
        "memory_mib": [round(one, 1) for one in memory],
        "load_average": [round(one, 2) for one in os.getloadavg()],
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    found = measure(urllib.parse.urlsplit(args.address).netloc, args.clients, args.seconds)
    print(json.dumps(found, indent=1))
    sys.exit(set(found["answers"]) != {200})


if __name__ == "__main__":
    main()
