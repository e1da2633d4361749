"""Evaluation alone, with `--config.mode=eval`: a checkpoint scored on the recipe's splits or on any
data set.
"""

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints import store
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import abstract_model
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import make_recipe
from vlmo_jax.recipes.checks import NO_INIT, naming
from vlmo_jax.reports.metrics import MetricWriter, announce


def evaluate(config, workdir):
    """Evaluates `config.init_from`, or the work folder's latest checkpoint where that is unset or
    what the run started from.

    Args:
        config: ConfigDict of the recipe that made the checkpoint.
        workdir: folder of the run; metrics and the picture go there.

    Returns:
        `eval/<split>/<metric>` -> value.

    Raises:
        ConfigError: the config cannot run, or its preprocessing or tokenizer are not the
            checkpoint's.
        FileNotFoundError: there is no checkpoint or no data set.
    """
    recipe = make_recipe(config)
    recipe.check(jax.device_count())
    recipe.open()
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        graphdef, abstract = abstract_model(recipe.make_model)
        shapes = store.abstract_like(
            nnx.to_pure_dict(abstract), sharding.param_shardings(abstract, mesh)
        )
        with naming(config, "init_from"):
            path = _choose_checkpoint(config.init_from, workdir)
            params, step, meta = store.load_params(path, shapes)
        _check_meta(recipe, meta, path)
        if jax.process_index() == 0:
            announce(f"Evaluating step {step} of {path}")
        evaluation = recipe.make_evaluation(graphdef, mesh)
        workdir.mkdir(parents=True, exist_ok=True)
        page = workdir / f"evaluation_{recipe.page}"
        metrics = evaluation.run(params, step, page=page)
        with MetricWriter(
            workdir, start_step=None, total_steps=step, enabled=jax.process_index() == 0
        ) as writer:
            writer.write(step, metrics)
    if jax.process_index() == 0:
        announce(f"Metrics are in {workdir / 'metrics.jsonl'}, examples in {page}")
    return metrics


def _choose_checkpoint(init_from, workdir):
    if init_from in (None, "", NO_INIT):
        return workdir
    try:
        started_from = store.SavedParams(workdir).meta["config"].get("init_from")
    except FileNotFoundError:
        return init_from
    return workdir if started_from == init_from else init_from


def _check_meta(recipe, meta, path):
    """Inputs must become arrays as they did when the checkpoint was trained."""
    saved, now = meta["preprocessing"], recipe.preprocessing()
    for key in ("mean", "std"):
        if key in now and not np.allclose(saved.get(key, np.nan), now[key]):
            raise ConfigError(
                f"config.data.{key}={tuple(now[key])} but {path} was trained with {saved.get(key)};"
                " use that"
            )
    if recipe.tokenizer is None:
        return
    tokenizer = meta["tokenizer"]
    if tokenizer is None or tokenizer["sha256"] != recipe.tokenizer.fingerprint:
        trained = (
            f"({tokenizer['file']}, SHA-256 {tokenizer['sha256'][:12]}...)"
            if tokenizer
            else "(none)"
        )
        raise ConfigError(
            f"config.tokenizer={recipe.config.tokenizer} is not the tokenizer that {path} was"
            f" trained with {trained}; use that one"
        )
