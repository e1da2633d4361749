"""Kind `train10`: losses, learning rates and parameters of ten AdamW steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.interop.checks.reference import (
    Arrays,
    Info,
    Reference,
    compare_inputs,
    official_batch,
)
from vlmo_jax.interop.places import fill_places
from vlmo_jax.interop.vlmo import to_official, unread_names
from vlmo_jax.parallel.sharding import make_mesh
from vlmo_jax.tasks.pair_pretrain import PairPretrainTask
from vlmo_jax.training.optimizer import Optimizer, adamw, learning_rate_schedule
from vlmo_jax.training.train_step import Update, jit_step, state_shardings

LOSS_TOLERANCE, PARAM_TOLERANCE = 1e-4, 1e-5


def _by_group(reference: Reference, field: str) -> Any:
    """A field of the official optimizer's parameter groups as a tree like our parameters."""
    init = reference.group("init")
    value = {
        name: group[field] for group in reference.info["param_groups"] for name in group["params"]
    }
    full = {name: np.full(init[name].shape, value[name], np.float32) for name in reference.places}
    return jax.tree.map(jnp.asarray, fill_places(full, reference.places))


def check_train(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares losses, learning rates and parameters of a run of AdamW steps."""
    reference = Reference(arrays, info, "init")
    config, expected = reference.info["config"], reference.group("out")
    cosine = config["decay_power"] == "cosine"
    schedule = learning_rate_schedule(
        "cosine" if cosine else "polynomial",
        peak=1.0,
        warmup_steps=config["warmup_steps"],
        total_steps=config["max_steps"],
        end=config["end_lr"] / config["learning_rate"],
        power=1.0 if cosine else config["decay_power"],
    )
    group = reference.info["param_groups"][0]
    optimizer = adamw(
        schedule,
        betas=group["betas"],
        epsilon=group["eps"],
        decay=_by_group(reference, "weight_decay"),
        multiplier=_by_group(reference, "lr0"),
    )
    mesh = make_mesh(devices=jax.devices()[:1])
    with jax.set_mesh(mesh):
        task = PairPretrainTask()
        update = Update(task, Optimizer(optimizer, schedule), reference.graphdef, seed=0)
        state = update.first_state(reference.params("init"))
        step = jit_step(update, state_shardings(state, reference.abstract, mesh, {}), mesh)
        compare_inputs(reference, report, "batch")
        for number in range(len(expected["total_loss"])):
            inputs = {name: value[number] for name, value in reference.group("batch").items()}
            state, metrics = step(state, {}, official_batch(inputs))
            ours = {
                "total_loss": metrics["loss"],
                "mlm_loss": task.mlm_weight * metrics["mlm_loss"],
                "itc_loss": metrics["itc_loss"],
                "itm_loss": metrics["itm_loss"],
            }
            for name, value in ours.items():
                report.compare(
                    f"out/{name}[{number}]", value, expected[name][number], LOSS_TOLERANCE
                )
            rates = [
                float(metrics["learning_rate"]) * group["lr0"]
                for group in reference.info["param_groups"]
            ]
            report.compare(f"out/lr[{number}]", rates, expected["lr"][number], 1e-8)
            if number == 1 and reference.group("after2"):
                _compare_params(reference, report, "after2", state.params)
    _compare_params(reference, report, "final", state.params)


def _compare_params(reference: Reference, report: Any, prefix: str, params: Any) -> None:
    ours, theirs = to_official(params, reference.places), reference.group(prefix)
    if prefix == "final" and (missing := sorted(set(ours) - set(theirs))):
        raise ValueError(f"the fixture holds no final value of {missing}")
    for name in sorted(set(ours) & set(theirs)):
        report.compare(f"{prefix}/{name}", ours[name], theirs[name], PARAM_TOLERANCE)
    init = reference.group("init")
    # Without a gradient the optimizer leaves a parameter alone.
    for name in unread_names(theirs, reference.places, reference.position):
        report.compare(f"{prefix}/{name}", init[name], theirs[name], 0.0)
