"""Memory in pages of 2 MB instead of 4 kB.

A train step on CPU takes and returns hundreds of megabytes of temporaries. Linux hands them out
page by page, and with small pages that is a fifth of the step. glibc asks for large ones if it is
told to before the program starts.
"""

import os
import pathlib
import sys

MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
VARIABLE = "GLIBC_TUNABLES"
SETTING = "glibc.malloc.hugetlb"


def restart_with_huge_pages() -> None:
    """Starts this program anew, in the same process and with the same arguments, where that gets it
    large pages.

    To be called before anything slow is imported. Does nothing where the system gives large pages
    unasked or never, and where `GLIBC_TUNABLES` already says which to take.
    """
    mode = MODE.read_text() if MODE.exists() else ""
    tunables = with_huge_pages(os.environ.get(VARIABLE, ""), mode)
    if tunables is not None and sys.executable:
        os.execve(
            sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, VARIABLE: tunables}
        )


def with_huge_pages(tunables: str, mode: str) -> str | None:
    """The value of `GLIBC_TUNABLES` that asks for large pages.

    Args:
        tunables: its present value, or "".
        mode: the kernel's choice, such as "always [madvise] never".

    Returns:
        The new value, or None if nothing is to be changed.
    """
    if "[madvise]" not in mode or SETTING in tunables:
        return None
    return ":".join(filter(None, (tunables, f"{SETTING}=1")))
