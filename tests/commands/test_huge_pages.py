"""Large pages are asked for once, and only where asking helps."""

import subprocess
import sys

import pytest

from vlmo_jax.commands.huge_pages import with_huge_pages

MADVISE = "always [madvise] never"


@pytest.mark.parametrize(
    "tunables, mode, expected",
    [
        ("", MADVISE, "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=1", MADVISE, "glibc.malloc.arena_max=1:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", MADVISE, None),
        ("", "[always] madvise never", None),
        ("", "always madvise [never]", None),
        ("", "", None),
    ],
)
def test_tunables(tunables, mode, expected):
    assert with_huge_pages(tunables, mode) == expected


def test_program_starts_again_once_with_its_arguments(tmp_path):
    mode = tmp_path / "enabled"
    mode.write_text(MADVISE)
    program = f"""
import os, pathlib, sys
from vlmo_jax.commands import huge_pages
huge_pages.MODE = pathlib.Path({str(mode)!r})
print("start", flush=True)
huge_pages.restart_with_huge_pages()
print(os.environ["GLIBC_TUNABLES"], sys.argv[1:])
"""
    run = subprocess.run(
        [sys.executable, "-c", program, "--a=1", "b c"],
        capture_output=True,
        text=True,
        env={"PATH": ""},
        check=True,
    )
    assert run.stdout.splitlines() == ["start", "start", "glibc.malloc.hugetlb=1 ['--a=1', 'b c']"]
