"""Damaged checkpoints: noticed when they are read, and named in one line."""

import contextlib
import hashlib
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from vlmo_jax.checkpoints.digests import changed
from vlmo_jax.checkpoints.param_names import Path
from vlmo_jax.commands.endings import UserError

# Keys that `seal` adds to the meta of a checkpoint.
DIGESTS, SEAL = "digests", "sha256"
# What the machine refuses says nothing of the checkpoint.
_OF_THE_MACHINE = ("RESOURCE_EXHAUSTED", "PERMISSION_DENIED", "Permission denied", "Too many open")


class DamagedCheckpointError(UserError, ValueError):
    """The files of a checkpoint are not as they were written."""

    def __init__(self, folder: pathlib.Path, what: str) -> None:
        steps = [path for path in folder.parent.glob("[0-9]*") if path.name.isdigit()]
        others = sorted((path for path in steps if path.name != folder.name), key=_step)
        example = f", such as {others[-1]}" if others else ""
        super().__init__(
            f"checkpoint {folder} is damaged: {what}; copy it again or use another step{example}"
        )


def _step(folder: pathlib.Path) -> int:
    return int(folder.name)


@contextlib.contextmanager
def naming_damage(folder: pathlib.Path) -> Iterator[None]:
    """Makes a DamagedCheckpointError of whatever Orbax and TensorStore raise inside for files that
    are missing, cut or changed; they raise many kinds.
    """
    _silence_abandoned_reads()
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        text = str(error).strip()
        of_the_machine = any(sign in text for sign in _OF_THE_MACHINE)
        if of_the_machine or (isinstance(error, OSError) and not _of_a_file(error)):
            raise
        raise DamagedCheckpointError(folder, _innermost(error)) from error


def _innermost(error: BaseException) -> str:
    """What was wrong at first, in a line: Orbax wraps what TensorStore says of a file."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def _silence_abandoned_reads() -> None:
    """Keeps to one line what is wrong: each read that Orbax had under way would print a traceback
    of its own when it is thrown away.
    """
    if not isinstance(sys.unraisablehook, _WithoutAbandonedReads):
        sys.unraisablehook = _WithoutAbandonedReads(sys.unraisablehook)


class _WithoutAbandonedReads:
    def __init__(self, before: Callable[[Any], Any]) -> None:
        self._before = before

    def __call__(self, unraisable: Any) -> None:
        code = getattr(unraisable.object, "cr_code", None)  # of a coroutine
        of_orbax = code is not None and "orbax" in pathlib.Path(code.co_filename).parts
        if not of_orbax and "Event loop is closed" not in str(unraisable.exc_value):
            self._before(unraisable)


def _of_a_file(error: OSError) -> bool:
    """Whether an error of the system is about a file that is missing or no file."""
    kinds = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    return error.errno is None or isinstance(error, kinds)


def check_arrays(
    folder: pathlib.Path, item: str, found: Mapping[Path, str], saved: Mapping[Path, str]
) -> None:
    """Compares digests of arrays that were read with those that were written.

    Args:
        folder: of the checkpoint.
        item: of it.
        found, saved: path -> digest.

    Raises:
        DamagedCheckpointError: they differ; it names the arrays.
    """
    paths = changed(found, saved)
    if paths:
        some = ", ".join("/".join((item, *path)) for path in paths[:3])
        more = f" and {len(paths) - 3} more arrays" if len(paths) > 3 else ""
        raise DamagedCheckpointError(folder, f"{some}{more} changed since the save")


def seal(meta: Mapping[str, Any], digests: Mapping[str, Mapping[Path, str]]) -> dict[str, Any]:
    """The meta to write: with the digests of all arrays, and one of itself.

    Args:
        meta: plain JSON values.
        digests: item -> path -> digest.
    """
    named = {
        item: {"/".join(path): digest for path, digest in of_item.items()}
        for item, of_item in digests.items()
    }
    whole = {**json.loads(json.dumps(meta)), DIGESTS: named}
    return {**whole, SEAL: _fingerprint(whole)}


def unseal(
    folder: pathlib.Path, meta: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[Path, str]] | None]:
    """Takes apart what `seal` has made.

    Args:
        folder: of the checkpoint.
        meta: as it was read.

    Returns:
        The meta without digests, and the digests; None of a checkpoint that was written before
        there were any.

    Raises:
        DamagedCheckpointError: it is not as it was written.
    """
    if SEAL not in meta:
        if DIGESTS in meta:
            raise DamagedCheckpointError(folder, "meta changed since the save")
        return dict(meta), None
    whole = {key: value for key, value in meta.items() if key != SEAL}
    if _fingerprint(whole) != meta[SEAL]:
        raise DamagedCheckpointError(folder, "meta changed since the save")
    named = whole.pop(DIGESTS)
    return whole, {
        item: {tuple(name.split("/")): digest for name, digest in of_item.items()}
        for item, of_item in named.items()
    }


def _fingerprint(meta: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(meta, sort_keys=True).encode()).hexdigest()
