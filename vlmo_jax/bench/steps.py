"""Speed of the train step and of encoding, with made-up inputs that are on the device already."""

import collections
import functools
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.bench import device
from vlmo_jax.bench.report import Report, gibibytes, quantity, setting
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.peak_memory import peak_bytes
from vlmo_jax.models.build import abstract_model, compute_dtype, pass_flops, random_params
from vlmo_jax.models.flops import TRAINING_FACTOR
from vlmo_jax.parallel import sharding
from vlmo_jax.parallel.memory import device_bytes
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.data.opening import SYNTHETIC
from vlmo_jax.recipes.evaluations.retrieval import RetrievalRecipe
from vlmo_jax.recipes.tasks.settings import NO_INIT
from vlmo_jax.training.program import build_program, compiled_bytes


def benchmark_train(config: ConfigDict, *, steps: int, warmup: int) -> Report:
    """Measures the jitted train step of a recipe, the same one that training runs.

    Args:
        config: ConfigDict of a recipe. Data set and tokenizer need not be set.
        steps: how many steps to measure, one after another.
        warmup: steps before them, at least 1.

    Returns:
        Report.

    Raises:
        ConfigError: the config cannot run.
    """
    recipe = Recipe(without_data(config, mode="train"))
    config = recipe.config
    recipe.check(jax.device_count(), device_bytes())
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        step, compile_seconds, memory = program.compile()
        state = program.random_state()
        batch, frozen = program.place_batch(recipe.synthetic_batch()), program.load_frozen()

        def run() -> Any:
            nonlocal state
            state, metrics = step(state, frozen, batch)
            return metrics

        seconds = time_calls(run, repeats=steps, warmup=warmup, ahead=1)
    flops = TRAINING_FACTOR * recipe.forward_flops()
    dtype = compute_dtype(config.model.dtype)
    rows, record = speed(
        seconds,
        config.batch_size,
        flops,
        device.find_peak(dtype),
        per="step",
        unit=recipe.data.unit,
    )
    rows = [("compile", f"{compile_seconds:.1f} s"), *rows, *memory_rows(memory)]
    record = {
        "benchmark": "train",
        **setting(config, dtype),
        "compile_seconds": compile_seconds,
        **record,
        **memory_record(memory),
    }
    return Report(title("train step", config.batch_size, dtype, mesh), rows, record)


def benchmark_encode(config: ConfigDict, *, steps: int, warmup: int) -> Report:
    """Measures what evaluation and search run: image and text encoding and the scoring of pairs.

    Args:
        config: ConfigDict of a recipe; `config.evals.retrieval.batch_size` is the batch.
        steps: see `benchmark_train`.
        warmup: see `benchmark_train`.

    Returns:
        Report.

    Raises:
        ConfigError: the config cannot run.
    """
    recipe = Recipe(without_data(config, mode="eval"))
    config = recipe.config
    retrieval = _retrieval(recipe)
    recipe.check(jax.device_count(), device_bytes())
    mesh, dtype = sharding.make_mesh(config.mesh), compute_dtype(config.model.dtype)
    flops, peak = pass_flops(config.model), device.find_peak(dtype)
    config.batch_size = retrieval.fields.batch_size
    with jax.set_mesh(mesh):
        graphdef, params = init_params(recipe, mesh)
        encoders = retrieval.encoders(graphdef)
        batch = sharding.place_batch(recipe.synthetic_batch(), mesh)
        image, text = (
            {"image": batch["image"]},
            {name: batch[name] for name in ("token_ids", "token_mask")},
        )
        rows, record = [], {"benchmark": "encode", **setting(config, dtype)}
        passes = [
            ("images", encoders.encode_image, image, flops.image),
            ("texts", encoders.encode_text, text, flops.text),
        ]
        if flops.match:
            passes.append(("pairs", encoders.match, {**image, **text}, flops.match))
        for name, function, inputs, flops_each in passes:
            start = time.perf_counter()
            compiled = function.lower(params, inputs).compile()
            compile_seconds = time.perf_counter() - start
            seconds = time_calls(
                functools.partial(compiled, params, inputs), repeats=steps, warmup=warmup, ahead=0
            )
            memory = compiled.memory_analysis()
            more_rows, more = speed(
                seconds, config.batch_size, flops_each, peak, per="batch", unit=name
            )
            compile_row = (
                "compile",
                f"{compile_seconds:.1f} s, needs {gibibytes(compiled_bytes(memory))} a device",
            )
            rows += [(f"{name}: {label}", text) for label, text in (compile_row, *more_rows)]
            record[name] = {
                "compile_seconds": compile_seconds,
                **more,
                "compiled_bytes": compiled_bytes(memory),
            }
    rows += memory_rows(None)
    return Report(
        title("encoding", config.batch_size, dtype, mesh), rows, {**record, **memory_record(None)}
    )


def _retrieval(recipe: Recipe) -> RetrievalRecipe:
    """The evaluation of a recipe that has encoders."""
    for evaluation in recipe.evaluations.values():
        if isinstance(evaluation, RetrievalRecipe):
            return evaluation
    raise ConfigError(
        "config.evals has no evaluation of kind 'retrieval', and so no encoders to measure; use a"
        " recipe of image-text pairs such as configs/stage3.py"
    )


def without_data(config: ConfigDict, *, mode: str) -> ConfigDict:
    """A copy of a config that passes the checks without a data set: a benchmark reads none."""
    config = config.copy_and_resolve_references()
    config.mode, config.init_from = mode, NO_INIT
    config.data.source = config.data.source or SYNTHETIC
    for tokenizer in ("tokenizer", "visual_tokenizer"):
        if tokenizer in config:
            config[tokenizer] = config[tokenizer] or SYNTHETIC
    return config


def init_params(recipe: Recipe, mesh: jax.sharding.Mesh) -> tuple[nnx.GraphDef, dict]:
    """Random parameters of a recipe's model in their shards, and its graphdef."""
    graphdef, abstract = abstract_model(recipe.make_model)
    init = lambda: random_params(recipe.make_model, recipe.config.seed)
    return graphdef, jax.jit(init, out_shardings=sharding.param_shardings(abstract, mesh))()


def time_calls(run: Callable[[], Any], *, repeats: int, warmup: int, ahead: int) -> np.ndarray:
    """Seconds of calls that follow one another: from the moment one result is ready to the next.

    Args:
        run: function that returns jax arrays.
        repeats: how many calls to measure.
        warmup: calls before them, at least 1.
        ahead: calls dispatched before the first of them is awaited. 1 as in training, where a step
            needs the one before; 0 for calls that do not, which a CPU would run side by side.

    Returns:
        Seconds, [repeats].
    """
    ready: list[float] = []
    pending: collections.deque[Any] = collections.deque()
    for call in range(warmup + repeats + ahead):
        if call < warmup + repeats:
            pending.append(run())
        if call >= ahead:
            jax.block_until_ready(pending.popleft())
            ready.append(time.perf_counter())
    return np.diff(ready)[warmup - 1 :]


def speed(
    seconds: Sequence[float] | np.ndarray,
    batch_size: int,
    flops: float,
    peak: device.Peak,
    *,
    per: str,
    unit: str,
) -> tuple[list[tuple[str, str]], dict[str, Any]]:
    """Rows and record of calls that took `seconds` each, with `flops` model FLOPs an example;
    `peak` is of `device.find_peak`.
    """
    median, devices = float(np.median(seconds)), jax.device_count()
    rate = batch_size / median
    achieved = rate * flops / devices
    rows = [
        (
            f"seconds a {per}",
            f"{median:.4g} median of {len(seconds)}, {min(seconds):.4g} to {max(seconds):.4g}",
        ),
        (f"{unit}/s", f"{rate:.4g}, {rate / devices:.4g} a device"),
        ("model FLOPs a sample", quantity(flops, "FLOP")),
        (
            "share of the peak",
            (
                f"{100 * achieved / peak.flops:.1f} %: {quantity(achieved, 'FLOP/s')} a device of "
                f"{quantity(peak.flops, 'FLOP/s')}, {peak.source}"
            ),
        ),
    ]
    record = {
        "seconds": [float(s) for s in seconds],
        "seconds_median": median,
        "samples_per_second": rate,
        "samples_per_second_per_device": rate / devices,
        "model_flops_per_sample": flops,
        "peak_flops": peak.flops,
        "peak_source": peak.source,
        "share_of_peak": achieved / peak.flops,
    }
    return rows, record


def memory_rows(memory: Any) -> list[tuple[str, str]]:
    """Rows of the memory that a program needs (`memory`: its analysis or None), and that was in
    use.
    """
    rows = (
        []
        if memory is None
        else [("the program needs", f"{gibibytes(compiled_bytes(memory))} a device")]
    )
    peak = device.device_peak_bytes()
    rows += [] if peak is None else [("most in use", f"{gibibytes(peak)} on one device")]
    return [
        *rows,
        (
            "process memory",
            f"{gibibytes(peak_bytes())} at most, compilation included",
        ),
    ]


def memory_record(memory: Any) -> dict[str, int | None]:
    """The record of what `memory_rows` says."""
    record = {}
    if memory is not None:
        record["compiled_bytes"] = compiled_bytes(memory)
        record["argument_bytes"] = memory.argument_size_in_bytes
    return {
        **record,
        "device_peak_bytes": device.device_peak_bytes(),
        "process_peak_bytes": peak_bytes(),
    }


def title(what: str, batch_size: int, dtype: str, mesh: jax.sharding.Mesh) -> str:
    """What was measured, on what."""
    axes = " x ".join(f"{axis} {size}" for axis, size in mesh.shape.items())
    kind = mesh.devices.flat[0].device_kind
    return f"{what}: batch {batch_size}, {dtype}, {mesh.size} x {kind}, mesh {axes}"
