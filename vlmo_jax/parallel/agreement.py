"""What the processes of a job must be of one mind about."""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from vlmo_jax.commands.endings import UserError


class DisagreementError(UserError, ValueError):
    """The processes of a job were started with different things."""


class OtherProcessError(UserError, RuntimeError):
    """Another process of the job cannot go on, so none can."""


def any_process(flag: bool) -> bool:
    """Whether any process of the job says so; all of them ask."""
    if jax.process_count() == 1:
        return flag
    return bool(multihost_utils.process_allgather(np.asarray(flag)).any())


def wait_for_all(what: str) -> None:
    """Returns when all processes of the job have come here.

    Args:
        what: they have done, in a few words.
    """
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(what)


@contextlib.contextmanager
def together(what: str) -> Iterator[None]:
    """Ends with an error on all processes if it does on one; all of them come here.

    Args:
        what: they do inside, such as "read the data".

    Raises:
        OtherProcessError: on those where all went well.
    """
    error = None
    try:
        yield
    except Exception as raised:  # whatever it is, the others must not wait for this process
        error = raised
    failed = any_process(error is not None)
    if error is not None:
        raise error
    if failed:
        raise OtherProcessError(f"another process of this job cannot {what}: see its own message")


def agree(values: Mapping[str, Any]) -> None:
    """Compares what all processes of the job hold; all of them call it.

    Args:
        values: name -> plain JSON value, such as {"config.seed": 0}.

    Raises:
        DisagreementError: they differ; it says in what, and who has what.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(dict(values), sort_keys=True).encode()
    digests = multihost_utils.process_allgather(
        np.frombuffer(hashlib.sha256(text).digest(), np.uint8)
    )
    if (digests == digests[0]).all():
        return
    lengths = multihost_utils.process_allgather(np.int32(len(text)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: len(text)] = np.frombuffer(text, np.uint8)
    texts = multihost_utils.process_allgather(padded)
    held = [json.loads(bytes(row[:n])) for row, n in zip(texts, lengths, strict=True)]
    raise DisagreementError(
        f"the processes of this job were not started alike: {describe_differences(held)}; start"
        " all of them with the same command, package versions and data"
    )


def describe_differences(held: Sequence[Mapping[str, Any]], most: int = 4) -> str:
    """Who differs from process 0, in what.

    Args:
        held: what each process holds, by name.
        most: names that are spelled out.
    """
    differences = []
    for name in sorted(set().union(*held)):
        first = held[0].get(name)
        others = [n for n, values in enumerate(held) if values.get(name) != first]
        if others:
            listed = ", ".join(map(str, others[:5])) + (", ..." if len(others) > 5 else "")
            differences.append(
                f"{name} is {first!r} on process 0 and {held[others[0]].get(name)!r} on process"
                f"{'es' if len(others) > 1 else ''} {listed}"
            )
    more = f", and {len(differences) - most} more" if len(differences) > most else ""
    return "; ".join(differences[:most]) + more


def tell_all(value: int) -> int:
    """The value of process 0 on every process.

    Args:
        value: of 31 bits.
    """
    if jax.process_count() == 1:
        return value
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))
