"""Signals: at once where nothing can be lost, whatever the main thread does."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.paths import ROOT
from vlmo_jax.commands import signals

BUSY = """
import hashlib, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)  # what runs in the background may inherit others
from vlmo_jax.commands.signals import ending_at_once
with ending_at_once():
    print("ready", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10 ** 9)  # no handler of Python is called there
"""


@pytest.mark.parametrize("number, name", [(2, "Ctrl-C"), (15, "SIGTERM"), (1, "SIGHUP")])
def test_a_program_that_is_busy_in_c_ends_at_once(number, name):
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    process.send_signal(number)
    error = process.communicate(timeout=60)[1]
    assert process.returncode == 128 + number
    assert error == f"error: stopped by {name}: nothing was under way that could be lost\n"


def test_the_innermost_acts_and_all_is_as_before_afterwards():
    received = {"outer": [], "inner": []}
    before = signal.getsignal(signal.SIGTERM)

    def send(who):
        os.kill(os.getpid(), signal.SIGTERM)
        deadline = time.monotonic() + 60
        while not received[who] and time.monotonic() < deadline:
            time.sleep(0.001)

    with signals.watching(received["outer"].append):
        with signals.watching(received["inner"].append):
            send("inner")
        assert received == {"outer": [], "inner": [signal.SIGTERM]}
        send("outer")
    assert received["outer"] == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is before


def test_what_nohup_ignores_stays_ignored():
    received = []
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals.watching(received.append):
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert received == []
