"""Joins the processes of a job.

`jax.distributed` finds the others by itself under Slurm, Open MPI and on Cloud TPU; elsewhere a
launcher names them in JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Launchers for
each are in launch/.
"""

import contextlib
import importlib.util
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping

import jax

from vlmo_jax.commands.endings import UserError, told_in_one_line
from vlmo_jax.parallel.peers import DEATH, DEATHS, explain_deaths, finish_passing

log = logging.getLogger(__name__)

# For how long a process waits for the others, in seconds.
WAIT_VARIABLE, WAIT = "VLMO_JAX_WAIT_SECONDS", 300
_SAID_AFTER = 15  # seconds of waiting
# Seconds that process 0 gives the others to end by the same error: its end aborts whoever is there.
_LEAVES_LAST = 4.0

EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def start_distributed(environ: Mapping[str, str] = os.environ) -> None:
    """Joins the other processes of the job if a launcher has started several; call it before any
    use of a device.

    Exits with a message if the launcher's variables are incomplete, if the others are not found, or
    if jax ends up with another number of processes than the launcher has started.

    Args:
        environ: the environment's variables.
    """
    expected = expected_processes(environ)
    wait = _wait_seconds(environ)
    if expected > 1:
        explain_deaths()
    try:
        if any(name in environ for name in EXPLICIT):
            address, count, number = explicit_processes(environ)
            started = time.monotonic()
            if number:
                reach_coordinator(address, wait)
            left = max(wait - (time.monotonic() - started), 1.0)
            # jax's own limit ends in a dump; ours comes before it.
            with _limited(left, f"{count} processes around {address}", wait):
                # Without "deactivate" jax would also ask Slurm or Kubernetes, and hide devices by
                # what they say.
                jax.distributed.initialize(
                    address,
                    count,
                    number,
                    cluster_detection_method="deactivate",
                    initialization_timeout=int(left) + 60,
                )
        elif expected > 1 or on_cloud_tpu(environ):
            with _limited(wait, f"{expected or 'all'} processes", wait):
                jax.distributed.initialize(initialization_timeout=int(wait) + 60)
    except (OSError, RuntimeError, ValueError) as error:
        sys.exit(
            f"error: this process could not join the others of its job: {error}; see"
            " docs/CLUSTERS.md"
        )
    check_processes(
        expected or jax.process_count(), jax.process_count(), jax.distributed.is_initialized()
    )
    if jax.process_count() > 1:
        log.info(
            "Process %d of %d, with %d of %d devices",
            jax.process_index(),
            jax.process_count(),
            jax.local_device_count(),
            jax.device_count(),
        )


def _wait_seconds(environ: Mapping[str, str]) -> float:
    value = environ.get(WAIT_VARIABLE, str(WAIT))
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        sys.exit(f"error: {WAIT_VARIABLE}={value} is no number of seconds, such as {WAIT}")
    return seconds


def reach_coordinator(address: str, wait: float) -> None:
    """Waits until process 0 can be reached, and exits with a message if that takes too long.

    Args:
        address: host:port of process 0.
        wait: seconds.
    """
    host, _, port = address.rpartition(":")
    started, said = time.monotonic(), False
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            reason = error.strerror or str(error)
        waited = time.monotonic() - started
        if waited >= wait:
            sys.exit(
                f"error: nobody answers at {address}, where process 0 should be, for {waited:.0f}"
                f" seconds ({reason}): start it, look at JAX_COORDINATOR_ADDRESS and at firewalls,"
                f" or wait longer with {WAIT_VARIABLE}; see docs/CLUSTERS.md"
            )
        if waited > _SAID_AFTER and not said:
            log.warning("Waiting for process 0 at %s (%s)", address, reason)
            said = True
        time.sleep(min(1.0, wait - waited))


@contextlib.contextmanager
def _limited(seconds: float, what: str, wait: float) -> Iterator[None]:
    """Ends this process if what is inside takes longer; jax would abort with a dump."""

    def give_up() -> None:
        text = (
            f"error: this process waited {wait:.0f} seconds in vain for {what} to come together:"
            " start those that are missing, and look at the ends of their logs, or wait longer with"
            f" {WAIT_VARIABLE}; see docs/CLUSTERS.md\n"
        )
        with contextlib.suppress(OSError):
            os.write(2, text.encode())
        os._exit(1)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextlib.contextmanager
def leaving_alone() -> Iterator[None]:
    """Inside, an error ends this process of a job at once: jax would wait minutes for the others
    to end too, and then abort. The death of another is told in one line.
    """
    try:
        with told_in_one_line(), _naming_deaths():
            yield
    except SystemExit as end:
        if jax.distributed.is_initialized() and jax.process_count() > 1 and end.code:
            if isinstance(end.code, str):
                os.write(2, f"{end.code}\n".encode())
            sys.stdout.flush()
            sys.stderr.flush()
            finish_passing()
            if jax.process_index() == 0:
                time.sleep(_LEAVES_LAST)
            os._exit(end.code if isinstance(end.code, int) else 1)
        raise


class PeerError(UserError, RuntimeError):
    """Another process of the job has died."""


@contextlib.contextmanager
def _naming_deaths() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        if jax.distributed.is_initialized() and DEATHS.search(str(error)):
            raise PeerError(DEATH.removeprefix("error: ")) from error
        raise


def check_processes(expected: int, found: int, joined: bool) -> None:
    """Exits unless jax sees the processes that the launcher has started, joined if several.

    Args:
        expected: how many the launcher has started.
        found: how many jax sees.
        joined: whether this one has joined the others.
    """
    if found != expected or found > 1 and not joined:
        sys.exit(
            f"error: the launcher has started {expected} process(es), jax sees"
            f" {found}{'' if joined else ', not joined'}: each would train alone, or wait for ever."
            f" Start them as launch/ does, or set {', '.join(EXPLICIT)}; see docs/CLUSTERS.md"
        )


def expected_processes(environ: Mapping[str, str]) -> int:
    """How many processes the launcher says it has started.

    Args:
        environ: the environment's variables.

    Returns:
        Their number; 0 where only Google's metadata server knows.
    """
    if any(name in environ for name in EXPLICIT):
        return explicit_processes(environ)[1]
    if "OMPI_COMM_WORLD_SIZE" in environ:
        return int(environ["OMPI_COMM_WORLD_SIZE"])
    tasks = int(environ.get("SLURM_NTASKS", "1"))
    if tasks > 1 and "SLURM_STEP_NODELIST" not in environ:
        sys.exit(
            f"error: SLURM_NTASKS={tasks}, but srun has not started this process, so the others are"
            " missing; put srun before the command as launch/slurm.sbatch does, or unset"
            " SLURM_NTASKS to run alone"
        )
    if tasks == 1 and on_cloud_tpu(environ):
        if "TPU_WORKER_HOSTNAMES" not in environ:
            return 0
        return len(environ["TPU_WORKER_HOSTNAMES"].split(",")) * int(
            environ.get("MEGASCALE_NUM_SLICES", "1")
        )
    return tasks


def explicit_processes(environ: Mapping[str, str]) -> tuple[str, int, int]:
    """What the variables of EXPLICIT say; exits if they make no sense.

    Args:
        environ: the environment's variables.

    Returns:
        Coordinator's address, number of processes, number of this one.
    """
    missing = [name for name in EXPLICIT if not environ.get(name)]
    if missing:
        sys.exit(
            f"error: {', '.join(missing)} not set; the three of {', '.join(EXPLICIT)} go together"
        )
    address, *numbers = (environ[name] for name in EXPLICIT)
    if (
        ":" not in address
        or not all(number.isdigit() for number in numbers)
        or int(numbers[1]) >= int(numbers[0])
    ):
        given = " ".join(f"{name}={environ[name]}" for name in EXPLICIT)
        sys.exit(
            f"error: {given}: the address is host:port, and process ids run from 0 to"
            " JAX_NUM_PROCESSES - 1"
        )
    return address, int(numbers[0]), int(numbers[1])


def on_cloud_tpu(environ: Mapping[str, str]) -> bool:
    """Whether this is a Cloud TPU VM, where jax asks the environment or the metadata server for the
    slice's other workers.

    Args:
        environ: the environment's variables.
    """
    # On import jax sets TPU_SKIP_MDS_QUERY where there are no TPU chips. Users set it where there
    # is no metadata server.
    return importlib.util.find_spec("libtpu") is not None and "TPU_SKIP_MDS_QUERY" not in environ
