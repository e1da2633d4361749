"""How a command ends when something is wrong that a person can mend: one line, and a status that is
not 0.
"""

import contextlib
import errno
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
    errno.EACCES: "you have no permission there: change it, or name another folder",
    errno.EPERM: "you have no permission there: change it, or name another folder",
    errno.EROFS: "it is mounted read-only: name another folder",
    errno.ENOTDIR: "a file stands where a folder should be: name another, or move the file away",
    errno.EISDIR: "a folder stands where a file should be: name a file",
    errno.EEXIST: "something stands there already: name another, or move it away",
    errno.ENOENT: "look for a letter that differs",
    errno.ENAMETOOLONG: "the name is too long for the file system: use a shorter one",
    errno.EMFILE: "too many files are open: raise the limit with `ulimit -n 65536`",
    errno.ENFILE: "too many files are open on this machine: close some programs",
}


@contextlib.contextmanager
def told_in_one_line() -> Iterator[None]:
    """Ends the command with one line, `error: ...`, where a UserError or an error of the machine's
    files comes out of it; everything else is a fault of ours and shows its traceback.
    """
    try:
        yield
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        sys.exit(error.status)
    except OSError as error:
        if error.errno not in _CURES and not isinstance(error, FileNotFoundError):
            raise
        sys.stderr.write(f"error: {describe_os_error(error)}\n")
        sys.exit(1)


def describe_os_error(error: OSError) -> str:
    """What the machine refused, where, and the cure, in one line."""
    if error.strerror is None or error.errno is None:  # raised by us, with a message of its own
        return " ".join(str(error).split())
    where = f"{error.filename}: " if error.filename is not None else ""
    cure = _CURES.get(error.errno)
    return f"{where}{error.strerror}{f'; {cure}' if cure else ''}"
