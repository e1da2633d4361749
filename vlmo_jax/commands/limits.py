"""What the system allows a program to have."""

import contextlib
import resource

_PLENTY = 2**20


def raise_open_files() -> None:
    """Raises how many files may be open to what the system lets us: shards and shared memory take
    some for each worker.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _PLENTY if hard == resource.RLIM_INFINITY else min(hard, _PLENTY)
    with contextlib.suppress(ValueError, OSError):  # macOS has a lower limit than it says
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
