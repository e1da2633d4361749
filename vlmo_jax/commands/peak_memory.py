"""The most memory that this process has had."""

import pathlib
import re
import resource
import sys

_STATUS = pathlib.Path("/proc/self/status")


def peak_bytes() -> int:
    """The most resident memory of this process since its program began, in bytes.

    Linux' `ru_maxrss` begins with what the process had before, which may be another's: it is taken
    where there is nothing else.
    """
    if _STATUS.exists() and (found := re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text())):
        return int(found[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
