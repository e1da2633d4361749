"""Evaluation alone, with `--config.mode=eval`: a checkpoint scored on the recipe's splits or on any
data set.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.checkpoints import saved_params, store
from vlmo_jax.commands.config_errors import ConfigError, naming
from vlmo_jax.commands.folders import require_writable
from vlmo_jax.evals.collect import NothingToEvaluateError
from vlmo_jax.input.workers import refuse_in_worker
from vlmo_jax.models.build import abstract_model
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.recipes.tasks.settings import NO_INIT
from vlmo_jax.reports.metrics import MetricWriter, announce
from vlmo_jax.reports.results import results_table
from vlmo_jax.training.loop import picture_path
from vlmo_jax.training.opening import open_recipe
from vlmo_jax.training.results import PREDICTIONS, RESULTS, recorded


def evaluate(config: ConfigDict, workdir: Path) -> dict[str, float]:
    """Evaluates `config.init_from`, or the work folder's latest checkpoint where that is unset or
    what the run started from.

    Args:
        config: ConfigDict of the recipe that made the checkpoint.
        workdir: folder of the run; results, metrics, pictures and predictions go there.

    Returns:
        `eval/<evaluation>/<split>/<metric>` -> value.

    Raises:
        ConfigError: the config cannot run, or its preprocessing or tokenizer are not the
            checkpoint's.
        FileNotFoundError: there is no checkpoint or no data set.
    """
    refuse_in_worker()
    recipe = open_recipe(config)
    _require_something(recipe)
    require_writable(workdir)
    mesh = sharding.make_mesh(config.mesh)
    with jax.set_mesh(mesh):
        graphdef, abstract = abstract_model(recipe.make_model)
        shapes = store.abstract_like(
            nnx.to_pure_dict(abstract), sharding.param_shardings(abstract, mesh)
        )
        with naming(config, "init_from"):
            path = _choose_checkpoint(config.init_from, workdir)
            loaded = {
                which: saved_params.load_params(path, shapes, averaged=which)
                for which in {_averaged(config, name) for name in recipe.evaluations}
            }
        _, step, meta = next(iter(loaded.values()))
        _check_meta(recipe, meta, path)
        if jax.process_index() == 0:
            announce(f"Evaluating step {step} of {path}")
        workdir.mkdir(parents=True, exist_ok=True)
        evaluations = recorded(
            recipe,
            recipe.make_evaluations(graphdef, mesh),
            workdir,
            checkpoints=saved_params.find_checkpoint(path)[0],
            init_from=meta["config"].get("init_from"),
        )
        pages = {name: picture_path(workdir, f"evaluation_{name}") for name in evaluations}
        metrics: dict[str, float] = {}
        writer = MetricWriter(
            workdir, start_step=None, total_steps=step, enabled=jax.process_index() == 0
        )
        with writer:
            for name, evaluation in evaluations.items():
                params = loaded[_averaged(config, name)][0]
                scores = evaluation.run(params, step, pages[name], workdir / PREDICTIONS)
                if scores:  # there are none where nobody knows the answers
                    writer.write(step, scores)
                metrics |= scores
    if jax.process_index() == 0:
        results = [result for part in evaluations.values() for result in part.results]
        _summarize(results, workdir, [*pages.values(), workdir / PREDICTIONS])
    return metrics


def _averaged(config: ConfigDict, name: str) -> bool:
    """Whether an evaluation scores averaged parameters."""
    return config.evals[name].get("averaged", False)


def _summarize(results: Sequence[dict], workdir: Path, made: Sequence[Path]) -> None:
    """Says what was measured, and where everything is."""
    announce(
        f"\n{results_table(results)}\n\n"
        f"Results are in {workdir / RESULTS}, metrics in {workdir / 'metrics.jsonl'}, examples in"
        f" {', '.join(str(path) for path in made if path.exists())}"
    )


def _require_something(recipe: Recipe) -> None:
    """Refuses to measure nothing, which would look like success."""
    for name, part in recipe.evaluations.items():
        if not part.splits:
            fields = recipe.config.evals[name]
            raise NothingToEvaluateError(
                f"config.evals.{name}.splits={tuple(fields.splits)} leaves nothing to evaluate:"
                f" {fields.source or recipe.config.data.source} has no split but what is trained on"
                f" (config.data.split={recipe.config.data.split!r}); name a split, such as"
                f" --config.evals.{name}.splits=\"('validation',)\", or another"
                f" config.evals.{name}.source"
            )


def _choose_checkpoint(init_from: str | None, workdir: Path) -> Path | str:
    if init_from in (None, "", NO_INIT):
        return workdir
    try:
        started_from = saved_params.SavedParams(workdir).meta["config"].get("init_from")
    except FileNotFoundError:
        return init_from
    return workdir if started_from == init_from else init_from


def _check_meta(recipe: Recipe, meta: dict[str, Any], path: Path | str) -> None:
    """Inputs must become arrays as they did when the checkpoint was trained."""
    saved, now = meta["preprocessing"], recipe.data.preprocessing()
    for key in ("mean", "std"):
        if key in now and not np.allclose(saved.get(key, np.nan), now[key]):
            raise ConfigError(
                f"config.data.{key}={tuple(now[key])} but {path} was trained with {saved.get(key)};"
                " use that"
            )
    if "answers" in saved and "answers" in now and saved["answers"] != now["answers"]:
        raise ConfigError(
            f"config.data.answers: the list has {now['answers']['number']} answers and is not the"
            f" one of {saved['answers']['number']} that {path} was trained with, by whose ids it"
            " answers; give that with --config.data.answers=FILE"
        )
    if "classes" in saved and "classes" in now and saved["classes"] != now["classes"]:
        raise ConfigError(
            f"config.data.source has {now['classes']['number']} classes, which are not the"
            f" {saved['classes']['number']} that {path} was trained with, by whose numbers it"
            " answers; list those with --config.data.class_list=FILE"
        )
    if recipe.tokenizer is None:
        return
    tokenizer = meta["tokenizer"]
    if tokenizer is None or tokenizer["sha256"] != recipe.tokenizer.fingerprint:
        trained = "(none)"
        if tokenizer:
            trained = f"({tokenizer['file']}, SHA-256 {tokenizer['sha256'][:12]}...)"
        raise ConfigError(
            f"config.tokenizer={recipe.config.tokenizer} is not the tokenizer that {path} was"
            f" trained with {trained}; use that one"
        )
