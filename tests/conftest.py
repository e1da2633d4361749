"""Eight virtual CPU devices, compilation that favours a fast compile over fast code, and no
silent rank promotion; in the commands that tests start, too.
"""

import gc
import importlib.metadata
import os

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["JAX_NUM_CPU_DEVICES"] = "8"
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", "")  # nothing goes to anybody's home
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"  # a missing axis is a mistake until it is written
os.environ["JAX_TRACEBACK_IN_LOCATIONS_LIMIT"] = "0"  # programs need not say which line they are of
XLA_FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",  # many small parts take longer than one large
    # Eight devices on few busy cores may wait long for each other; after 40 s XLA would abort.
    "--xla_cpu_collective_call_terminate_timeout_seconds=300",
]
if importlib.metadata.version("jaxlib").startswith("0.10."):
    XLA_FLAGS.append(
        "--xla_cpu_use_fusion_emitters=false"
    )  # compiles three times as fast; jax 0.12 no longer has it
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *XLA_FLAGS])

import jax  # noqa: E402
import pytest  # noqa: E402
from absl import flags  # noqa: E402

if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl flags


def pytest_collection_finish():
    """Garbage is looked for less often, and not among what was imported: each look takes long."""
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


@pytest.fixture(scope="module", autouse=True)
def forget_programs():
    """Compiled programs of many files take gigabytes."""
    yield
    jax.clear_caches()
