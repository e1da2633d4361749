"""The dump of a process whose peer has died becomes one line."""

import subprocess
import sys

from vlmo_jax.parallel import peers

DUMP = b"""W1126 01:20:05.475298    2267 preemption_sync_manager.cc:147] Failed to retrieve
Additional GRPC error information from remote target coordination_service while calling /xla
:UNKNOWN:Error received from peer  {grpc_message:"Socket closed", grpc_status:14}
E1126 01:20:05.475389    2267 coordination_service_agent.cc:289] Polled an error
F1126 01:20:05.475400    2267 client.h:80] Terminating process because the JAX distributed \
service detected fatal errors. This most likely indicates that another task died
*** Check failure stack trace: ***
    @     0x7f1c92040634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""


def passed(text):
    out = []
    peers.pass_on(iter(text.splitlines(keepends=True)), out.append)
    return b"".join(out).decode()


def test_a_dump_is_one_line_after_what_stood_before():
    assert passed(b"step 1\n" + DUMP) == f"step 1\n{peers.DEATH}\n"


def test_what_has_been_told_is_not_told_twice():
    assert passed(b"error: it has died\n" + DUMP) == "error: it has died\n"


def test_all_else_passes_unchanged():
    text = b"E1126 01:20:05.1 33 other.cc:1] bad\nstep 1\rstep 2\n\xff\nno newline"
    out = []
    peers.pass_on(iter(text.splitlines(keepends=True)), out.append)
    assert b"".join(out) == text


def test_the_program_ends_with_its_input():
    ended = subprocess.run(
        [sys.executable, "-I", "-S", peers.__file__], input=b"a\n" + DUMP, capture_output=True
    )
    assert (ended.returncode, ended.stderr) == (0, f"a\n{peers.DEATH}\n".encode())
