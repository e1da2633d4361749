"""The peak of memory is a program's own."""

import subprocess
import sys

from vlmo_jax.commands.peak_memory import peak_bytes

PROGRAM = "from vlmo_jax.commands.peak_memory import peak_bytes; print(peak_bytes())"


def test_the_peak_is_not_that_of_the_program_that_started_this_one():
    ballast = b"x" * (300 << 20)
    assert peak_bytes() > len(ballast)
    found = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, check=True)
    assert 1 << 20 < int(found.stdout) < 200 << 20
