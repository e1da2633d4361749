"""What a client may ask for, and how it is told that something cannot be."""

import dataclasses
from collections.abc import Mapping


class RefusalError(Exception):
    """An answer other than 200, in words.

    Args:
        status: of HTTP.
        text: one line: what is wrong, and the cure.
        headers: of the answer, beside those that all have.
    """

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, dict(headers or {})


def busy(seconds: int = 1) -> RefusalError:
    """The refusal of a server that has enough to do."""
    text = f"Too many are asking at once; try again in {seconds} s."
    return RefusalError(503, text, {"Retry-After": str(seconds)})


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of what clients may take of the machine; those of a query stand in `asked`.

    Attributes:
        upload_bytes: of a request with a picture.
        upload_pixels: of that picture, before it is made smaller.
        uploads: pictures that are kept for clients; the one that was not asked for longest goes.
        uploads_at_once: that may be on their way.
        upload_seconds: how long a picture is kept after it was last asked for.
        batch: queries that are searched together.
        waiting: queries that may wait for a batch.
        requests: that may be under way at once.
        connections: that may be open at once.
        head_seconds: in which the head of a request has to come.
        body_seconds: in which its body has to come.
        answer_seconds: in which a query has to be answered.
        send_seconds: in which a client has to take some more of an answer.
        look_seconds: between two looks for a newer index.
        stop_seconds: for requests under way when the server stops.
    """

    upload_bytes: int = 20 * 2**20
    upload_pixels: int = 50_000_000
    uploads: int = 256
    uploads_at_once: int = 8
    upload_seconds: float = 3600
    batch: int = 32
    waiting: int = 64
    requests: int = 128
    connections: int = 512
    head_seconds: float = 10
    body_seconds: float = 30
    answer_seconds: float = 30
    send_seconds: float = 30
    look_seconds: float = 2
    stop_seconds: int = 5
