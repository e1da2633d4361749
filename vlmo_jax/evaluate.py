"""Evaluation alone, with `--config.mode=eval`: a checkpoint scored on the recipe's splits or on any data set."""

import jax
import numpy as np
from flax import nnx

from vlmo_jax import checkpoint, recipe, sharding
from vlmo_jax.evals.suite import Evaluation, evaluation_splits
from vlmo_jax.metrics import MetricWriter, announce
from vlmo_jax.train_step import abstract_model


def evaluate(config, workdir):
    """Evaluates `config.init_from`, or the work folder's latest checkpoint.

    Args:
      config: ConfigDict of the recipe that made the checkpoint.
      workdir: folder of the run; metrics and the picture go there.

    Returns:
      `eval/<split>/<metric>` -> value.

    Raises:
      recipe.ConfigError: the config cannot run, or its preprocessing or tokenizer are not the checkpoint's.
      FileNotFoundError: there is no checkpoint or no data set.
    """
    recipe.check_config(config, jax.device_count())
    tokenizer = recipe.check_tokenizer(config)
    with recipe.naming(config, "evals.retrieval.source", "evals.retrieval.splits"):
        splits = evaluation_splits(config.evals.retrieval, config.data.source, config.data.split)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        graphdef, abstract = abstract_model(recipe.make_model_function(config.model))
        shapes = checkpoint.abstract_like(nnx.to_pure_dict(abstract), sharding.param_shardings(abstract, mesh))
        path = config.init_from or workdir
        with recipe.naming(config, "init_from"):
            params, step, meta = checkpoint.load_params(path, shapes)
        _check_meta(config, tokenizer, meta, path)
        if jax.process_index() == 0:
            announce(f"Evaluating step {step} of {path}")
        evaluation = Evaluation.build(config, splits, tokenizer, graphdef, mesh)
        workdir.mkdir(parents=True, exist_ok=True)
        page = workdir / "retrieval.png"
        metrics = evaluation.run(params, step, page=page)
        with MetricWriter(workdir, start_step=None, total_steps=step, enabled=jax.process_index() == 0) as writer:
            writer.write(step, metrics)
    if jax.process_index() == 0:
        announce(f"Metrics are in {workdir / 'metrics.jsonl'}, example queries in {page}")
    return metrics


def _check_meta(config, tokenizer, meta, path):
    """Images must be normalised and texts be cut as when the checkpoint was trained."""
    preprocessing = meta["preprocessing"]
    for key in ("mean", "std"):
        if not np.allclose(preprocessing[key], config.data[key]):
            raise recipe.ConfigError(
                f"config.data.{key}={config.data[key]} but {path} was trained with {preprocessing[key]}; use that"
            )
    if meta["tokenizer"]["sha256"] != tokenizer.fingerprint:
        raise recipe.ConfigError(
            f"config.tokenizer={config.tokenizer} is not the tokenizer that {path} was trained with "
            f"({meta['tokenizer']['file']}, SHA-256 {meta['tokenizer']['sha256'][:12]}...); use that one"
        )
