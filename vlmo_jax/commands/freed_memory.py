"""Memory that a program has freed, given back to the system."""

import ctypes
import sys

_MMAP_THRESHOLD = -3  # M_MMAP_THRESHOLD of glibc's malloc.h
LARGE = 2**16  # bytes


def return_freed_memory() -> None:
    """Makes blocks of LARGE bytes and more go back to the system as soon as they are freed.

    Saving a checkpoint compresses arrays in many threads, for each of which glibc keeps what it
    freed: half the size of the checkpoint in the end. Meant for programs that read and write;
    steps of training want their memory kept. Does nothing where there is no glibc.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, LARGE)
