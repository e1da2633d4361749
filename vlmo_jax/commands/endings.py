"""How a command ends when something is wrong that a person can mend: one line, and a status that is
not 0.
"""

import contextlib
import errno
import os
import re
import signal
import sys
from collections.abc import Iterator


class UserError(Exception):
    """Something that the person at the command line, or the machine's owner, can mend.

    The message is one line that names what is wrong, what was found and the cure. Errors of the
    project that people can cause derive from it, each with the built-in kind that fits, so that
    libraries' callers can catch either.

    Attributes:
        status: exit status of a command that ends with it.
    """

    status = 1


# What a machine says, by number, and what to do about it.
_CURES = {
    errno.ENOSPC: "free some space, or name another folder",
    errno.EDQUOT: "your quota is used up: free some space, or name another folder",
    errno.EFBIG: "files may not be so large here: raise `ulimit -f`, or name another folder",
    errno.EACCES: "you have no permission there: change it, or name another folder",
    errno.EPERM: "you have no permission there: change it, or name another folder",
    errno.EROFS: "it is mounted read-only: name another folder",
    errno.ENOTDIR: "a file stands where a folder should be: name another, or move the file away",
    errno.EISDIR: "a folder stands where a file should be: name a file",
    errno.EEXIST: "something stands there already: name another, or move it away",
    errno.ENOTEMPTY: "something stands there already: name another, or move it away",
    errno.ENOENT: "look for a letter that differs",
    errno.ENAMETOOLONG: "the name is too long for the file system: use a shorter one",
    errno.ELOOP: "links there lead back to themselves: mend them",
    errno.EMFILE: "too many files are open: raise the limit with `ulimit -n 65536`",
    errno.ENFILE: "too many files are open on this machine: close some programs",
    errno.ENOMEM: "the machine has no memory left: close some programs, or ask for less",
    errno.EIO: "the disk or the network drive fails: look at it, or name another folder",
    errno.ESTALE: "the network drive has lost the file: look at it, or start again",
    errno.ETXTBSY: "another program is using the file: wait for it",
}

# What says nothing of the file that was read: any other would have been refused, too.
SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ESTALE)

# The same said by libraries in words: Orbax, TensorStore, array_record and XLA raise ValueError or
# RuntimeError. The names of gRPC's codes are theirs for what the system calls otherwise.
_WORDS = {
    number: re.compile(rf"{re.escape(os.strerror(number))}|\b{errno.errorcode[number]}\b")
    for number in _CURES
    if number not in (errno.ENOENT, errno.EEXIST)
} | {errno.EACCES: re.compile(r"Permission denied|\bEACCES\b|PERMISSION_DENIED")}

_OUT_OF_MEMORY = re.compile(r"RESOURCE_EXHAUSTED|[Oo]ut of memory")
_PATH = re.compile(r"(?<![\w.])(/[^\s'\"\[\]():,;]+)")


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Ends the command with one line, `error: ...`, where a UserError or an error of the machine's
    files comes out of it; everything else is a fault of ours and shows its traceback.

    Also a decorator of the command's `main`. Ctrl-C ends it with status 130, and a reader of its
    output who has gone away, such as `| head -1`, silently with 141.
    """
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        _end("stopped by Ctrl-C", 128 + signal.SIGINT)
    except BrokenPipeError:
        drop_output(sys.stdout)
        sys.exit(128 + signal.SIGPIPE)
    except Exception as error:
        line = describe(error)
        if line is None:
            raise
        _end(line, status_of(error))


def _end(line: str, status: int) -> None:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"error: {line}\n")
        sys.stderr.flush()
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        drop_output(sys.stdout)
    end = SystemExit(f"error: {line}")  # so that who calls `main` can read it, too
    end.code = status
    raise end


def drop_output(stream: object) -> None:
    """Sends what is still written to a stream that cannot take it to nowhere, so that the end of
    the interpreter does not complain about it.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())  # type: ignore[attr-defined]
        os.close(nowhere)


def describe(error: BaseException) -> str | None:
    """What a person can mend about an error, in one line; None where it is a fault of ours.

    That is a UserError, an error of the machine, one that a library has put into words, or whatever
    was raised `from` one of these, which says more than they do.
    """
    if isinstance(error, UserError):
        return _joined(error)
    if isinstance(error, OSError):
        return describe_os_error(error)
    if isinstance(error, MemoryError):
        return f"the memory of this machine does not suffice: {_joined(error) or 'out of memory'}"
    if isinstance(error, BaseExceptionGroup):
        lines = (describe(part) for part in error.exceptions)
        return next((line for line in lines if line), None)
    if error.__cause__ is not None and (inner := describe(error.__cause__)):
        return inner if isinstance(error.__cause__, OSError) else _joined(error)
    if machine := machine_error(error):
        return describe_os_error(machine)
    if isinstance(error, ValueError | RuntimeError) and _OUT_OF_MEMORY.search(str(error)):
        return (
            f"the memory of the device does not suffice: {_joined(error)[:200]}; lower"
            " config.batch_size, or set config.accumulation or config.model.remat"
        )
    return None


def status_of(error: BaseException) -> int:
    """The exit status of a command that ends with an error."""
    while not isinstance(error, UserError) and error.__cause__ is not None:
        error = error.__cause__
    return error.status if isinstance(error, UserError) else 1


def machine_error(error: BaseException) -> OSError | None:
    """The error of the machine, such as a full disk, that a library's error says in words; None
    where it says none.

    Args:
        error: a ValueError or RuntimeError of Orbax, TensorStore, tensorboardX or array_record, or
            an OSError, which is its own.
    """
    if isinstance(error, OSError):
        return error if error.errno in _CURES else None
    if not isinstance(error, ValueError | RuntimeError):
        return None
    text = str(error)
    for number, words in _WORDS.items():
        if words.search(text):
            path = _PATH.search(text)
            return OSError(number, os.strerror(number), path[1] if path else None)
    return None


def describe_os_error(error: OSError) -> str:
    """What the machine refused, where, and the cure, in one line."""
    if error.strerror is None or error.errno is None:  # raised by us, with a message of its own
        return _joined(error) or type(error).__name__
    where = f"{error.filename}: " if error.filename is not None else ""
    cure = _CURES.get(error.errno)
    return f"{where}{error.strerror}{f'; {cure}' if cure else ''}"


def _joined(error: BaseException) -> str:
    return " ".join(str(error).split())
