"""What a result is: a line of results.jsonl that says what was measured, on what, and of what."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from vlmo_jax.checkpoints.digests import digest_tree
from vlmo_jax.evals.evaluation import Evaluation
from vlmo_jax.recipes import Recipe
from vlmo_jax.reports.results import append_results
from vlmo_jax.training.opening import package_versions

RESULTS = "results.jsonl"  # in a work folder
PREDICTIONS = "predictions"  # folder in a work folder


@dataclasses.dataclass
class Recorded:
    """An evaluation whose results are added to results.jsonl; see `evaluation.Evaluation`.

    Attributes:
        name: in `config.evals`.
        evaluation: what is recorded.
        recipe: open.
        workdir: folder of the run.
        checkpoints: folder of the checkpoints of what is scored, step by step.
        init_from: what the run that made them started from.
        results: those so far.
    """

    name: str
    evaluation: Evaluation
    recipe: Recipe
    workdir: Path
    checkpoints: Path
    init_from: str | None
    results: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def run(
        self,
        params: Any,
        step: int,
        page: Path | None = None,
        predictions: Path | None = None,
    ) -> dict[str, float]:
        """Evaluates, and adds a line a split."""
        scores = self.evaluation.run(params, step, page=page, predictions=predictions)
        results = self._describe(scores, step, digest_tree(params))
        self.results += results
        if jax.process_index() == 0:
            append_results(self.workdir / RESULTS, results)
        return scores

    def _describe(
        self, scores: Mapping[str, float], step: int, digest: str
    ) -> list[dict[str, Any]]:
        """One result a split: plain JSON values."""
        config, part = self.recipe.config, self.recipe.evaluations[self.name]
        fields, tokenizer = config.evals[self.name], self.recipe.tokenizer_meta()
        kept = self.checkpoints / str(step)  # maybe still being written
        about = {
            "checkpoint": str(kept) if step or kept.exists() else None,
            "step": step,
            "checkpoint_digest": digest,
            "averaged": bool(fields.get("averaged", False)),
            "init_from": self.init_from,
            "preprocessing": self.recipe.data.preprocessing(),
            "text_length": config.model.get("text_length", None),
            "tokenizer": tokenizer and tokenizer["sha256"],
            "versions": package_versions(),
        }
        results = []
        for split in part.splits:
            prefix = f"eval/{self.name}/{split}/"
            metrics = {
                name.removeprefix(prefix): value
                for name, value in scores.items()
                if name.startswith(prefix)
            }
            source = str(fields.source or config.data.source)
            named = {"evaluation": self.name, "kind": fields.kind, "source": source}
            measured = {"split": split, **part.facts(split), "metrics": metrics}
            results.append({**named, **measured, **about})
        return results


def recorded(
    recipe: Recipe,
    evaluations: Mapping[str, Evaluation],
    workdir: Path,
    *,
    checkpoints: Path,
    init_from: str | None,
) -> dict[str, Recorded]:
    """Evaluations by name, whose results are kept; arguments as in `Recorded`."""
    return {
        name: Recorded(name, evaluation, recipe, workdir, checkpoints, init_from)
        for name, evaluation in evaluations.items()
    }
