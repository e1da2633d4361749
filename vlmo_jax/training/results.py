"""What a result is: a line of results.jsonl that says what was measured, on what, and of what."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from vlmo_jax.recipes import Recipe
from vlmo_jax.training.opening import package_versions

RESULTS = "results.jsonl"  # in a work folder
PREDICTIONS = "predictions"  # folder in a work folder


class Scored(NamedTuple):
    """The parameters that are scored.

    Attributes:
        checkpoint: where they are kept; None: nowhere.
        step: updates that made them.
        digest: of `digests.digest_tree`.
        init_from: what the run that made them started from.
    """

    checkpoint: str | Path | None
    step: int
    digest: str
    init_from: str | None


def describe_results(
    recipe: Recipe, evaluation: str, scores: Mapping[str, float], scored: Scored
) -> list[dict[str, Any]]:
    """The results of an evaluation, one a split: plain JSON values.

    Args:
        recipe: open.
        evaluation: its name in `config.evals`.
        scores: of its `run`.
        scored: the parameters.
    """
    config, part = recipe.config, recipe.evaluations[evaluation]
    fields, tokenizer = config.evals[evaluation], recipe.tokenizer_meta()
    about = {
        "checkpoint": None if scored.checkpoint is None else str(scored.checkpoint),
        "step": scored.step,
        "checkpoint_digest": scored.digest,
        "averaged": bool(fields.get("averaged", False)),
        "init_from": scored.init_from,
        "preprocessing": recipe.data.preprocessing(),
        "text_length": config.model.get("text_length", None),
        "tokenizer": tokenizer and tokenizer["sha256"],
        "versions": package_versions(),
    }
    results = []
    for split in part.splits:
        prefix = f"eval/{evaluation}/{split}/"
        metrics = {
            name.removeprefix(prefix): value
            for name, value in scores.items()
            if name.startswith(prefix)
        }
        source = str(fields.source or config.data.source)
        named = {"evaluation": evaluation, "kind": fields.kind, "source": source, "split": split}
        results.append({**named, **part.facts(split), "metrics": metrics, **about})
    return results
