"""Runs as processes: what a signal to us does to them, and what they took."""

import os
import signal
import subprocess
import sys
import threading
import time

from vlmo_jax.experiments import runs

RUN = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("ready", flush=True)
time.sleep(60)
"""


def test_a_run_gets_the_sigterm_that_we_get():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with subprocess.Popen([sys.executable, "-c", RUN], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"

        def stop_once_it_is_caught():
            while signal.getsignal(signal.SIGTERM) is before[0]:
                time.sleep(0.01)
            os.kill(os.getpid(), signal.SIGTERM)

        thread = threading.Thread(target=stop_once_it_is_caught)
        thread.start()
        status, peak_bytes = runs._wait(process)
        thread.join()
    # The most that the kernel has counted, of the process that it was forked from, too.
    assert status == 143 and peak_bytes > 2**20
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_a_run_that_a_signal_kills_says_which():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        process.kill()
        assert runs._wait(process)[0] == -signal.SIGKILL
