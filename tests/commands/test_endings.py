"""Ends of commands: what people can mend is one line, what they cannot shows its traceback."""

import errno
import os
import subprocess
import sys

import pytest

from tests.paths import ROOT
from vlmo_jax.commands import endings
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.endings import UserError, told_in_one_line


def raised(error, cause=None):
    """An error as a program meets it, raised from its cause."""
    try:
        raise error from cause
    except type(error) as caught:
        return caught


@pytest.mark.parametrize(
    "error, line",
    [
        (ConfigError("config.a=1 is\nno b"), "config.a=1 is no b"),
        (
            OSError(errno.ENOSPC, "No space left on device", "/r/x"),
            "/r/x: No space left on device; free some space, or name another folder",
        ),
        (
            ValueError("INTERNAL: write failed [os_error_code='ENOSPC'] in '/r/c/1/params'"),
            "/r/c/1/params: No space left on device; free some space, or name another folder",
        ),
        (
            RuntimeError(
                "RESOURCE_EXHAUSTED: writing norm.scale/0 in /r/c: No space left on device"
            ),
            "/r/c: No space left on device; free some space, or name another folder",
        ),
        (
            RuntimeError("open(/d/x.array_record) failed: Too many open files"),
            "/d/x.array_record: Too many open files; too many files are open: raise the limit with"
            " `ulimit -n 65536`",
        ),
        (
            ValueError("PERMISSION_DENIED: cannot open /d/x"),
            "/d/x: Permission denied; you have no permission there: change it, or name another"
            " folder",
        ),
        (
            NotADirectoryError(errno.ENOTDIR, "Not a directory", "/r/x"),
            "/r/x: Not a directory; a file stands where a folder should be: name another, or move"
            " the file away",
        ),
        (
            raised(RuntimeError("evaluator 'a' failed: record 3"), ConfigError("record 3")),
            "evaluator 'a' failed: record 3",
        ),
        (
            raised(ValueError("save failed"), OSError(errno.EROFS, "Read-only file system", "/r")),
            "/r: Read-only file system; it is mounted read-only: name another folder",
        ),
        (
            ExceptionGroup("several", [KeyError("a"), ConfigError("b")]),
            "b",
        ),
        (FileNotFoundError("there is no checkpoint in /r"), "there is no checkpoint in /r"),
    ],
)
def test_what_people_can_mend_is_one_line(error, line, capsys):
    with pytest.raises(SystemExit) as end, told_in_one_line():
        raise error
    assert end.value.code == 1 and str(end.value) == f"error: {line}"
    assert capsys.readouterr().err == f"error: {line}\n"


@pytest.mark.parametrize("error", [KeyError("a"), ValueError("shapes differ"), AssertionError()])
def test_a_fault_of_ours_shows_itself(error):
    with pytest.raises(type(error)), told_in_one_line():
        raise error


def test_memory_of_the_device_names_what_to_lower():
    line = endings.describe(RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying"))
    assert "lower config.batch_size" in line


def test_a_status_of_its_own_survives(capsys):
    class StoppedError(UserError):
        status = 143

    with pytest.raises(SystemExit) as end, told_in_one_line():
        raise StoppedError("stopped")
    assert end.value.code == 143
    with pytest.raises(SystemExit) as end, told_in_one_line():
        raise KeyboardInterrupt
    assert end.value.code == 130 and capsys.readouterr().err.endswith("stopped by Ctrl-C\n")


def test_a_reader_who_has_gone_away_gets_no_message():
    code = (
        "from vlmo_jax.commands.endings import told_in_one_line\n"
        "@told_in_one_line()\n"
        "def main():\n"
        "    for number in range(100000): print(number)\n"
        "main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert (process.stderr.read(), process.wait()) == (b"", 141)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a full device")
def test_a_full_disk_under_the_output_is_named():
    code = (
        "from vlmo_jax.commands.endings import told_in_one_line\n"
        "@told_in_one_line()\n"
        "def main(): print('result')\n"
        "main()"
    )
    with open("/dev/full", "w") as full:
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert ended.returncode == 1
    assert ended.stderr == (
        "error: No space left on device; free some space, or name another folder\n"
    )
