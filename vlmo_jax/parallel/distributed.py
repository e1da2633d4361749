"""Joins the processes of a job.

`jax.distributed` finds the others by itself under Slurm, Open MPI and on Cloud TPU; elsewhere a
launcher names them in JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. Launchers for
each are in launch/.
"""

import importlib.util
import logging
import os
import sys
from collections.abc import Mapping

import jax

log = logging.getLogger(__name__)

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
    try:
        if any(name in environ for name in EXPLICIT):
            # Without "deactivate" jax would also ask Slurm or Kubernetes, and hide devices by what
            # they say.
            jax.distributed.initialize(
                *explicit_processes(environ), cluster_detection_method="deactivate"
            )
        elif expected > 1 or on_cloud_tpu(environ):
            jax.distributed.initialize()
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
