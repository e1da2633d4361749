"""Zero-shot classification."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Choice, Extra, Kind, Text
from vlmo_jax.datasets import open_image_source
from vlmo_jax.datasets.labels import TOLD_BY, read_labels
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.zero_shot import Classes, ZeroShotEvaluator
from vlmo_jax.input.text.prompts import names_of, read_names, read_templates
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.settings import check_heads
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.abilities import DualEncoder
from vlmo_jax.tasks.retrieval import make_encoders


class ZeroShotRecipe(SplitsRecipe):
    """How often the texts of its own class lie nearest to an image; see
    `protocols.EvaluationRecipe`.
    """

    allowed: Mapping[str, Kind] = {
        **SplitsRecipe.allowed,
        "classes": Choice(TOLD_BY),
        "templates": Text(),
        "names": Extra(Text(optional=True)),
    }

    needs = DualEncoder

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._labels: dict[str, list[str]] = {}
        self._classes = Classes([], [], ())

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        self.require_texts()
        self.require_statistics()
        heads = self.config.model.get("heads", None) or ()
        contrast = "retrieval" if "retrieval" in heads else "itc"
        check_heads(self.config, f"evals.{self.name}", (contrast,))

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        seen = seen_by(self.config)
        # Images need no captions to be classified.
        self.open_splits(open_image_source if seen.normalised else seen.open_split)
        part = f"evals.{self.name}"
        with naming(self.config, f"{part}.classes"):
            for split, source in self.splits.items():
                self._labels[split] = read_labels(source, self.fields.classes)
        names_file = self.fields.get("names", None)
        with naming(self.config, *([f"{part}.names"] if names_file else [f"{part}.classes"])):
            names = read_names(names_file) if names_file else None
            found = {label for labels in self._labels.values() for label in labels}
            labels = sorted(found) if names is None else list(names)
            names_of(sorted(found), names)  # refuses classes without a name
            chosen = names_of(labels, names)
        with naming(self.config, f"{part}.templates"):
            self._classes = Classes(labels, chosen, read_templates(self.fields.templates))
        require(
            len(labels) > 1,
            f"config.{part} finds one class alone, {labels[0] if labels else ''!r}, by"
            f" config.{part}.classes={self.fields.classes!r}; use another of {', '.join(TOLD_BY)}",
        )

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        return {
            "protocol": f"zero-shot classification by {self.fields.classes}, averaged vectors of"
            f" templates {self.fields.templates!r}",
            "images": len(self.splits[split]),
            "classes": len(self._classes.labels),
            "templates": len(self._classes.templates),
        }

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> AnsweredEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, make_images = self.config.data, seen_by(self.config).maker
        number_of = {label: number for number, label in enumerate(self._classes.labels)}
        evaluators = [
            ZeroShotEvaluator(
                source,
                [number_of[label] for label in self._labels[name]],
                self._classes,
                self.tokenizer,
                name=name,
                images=make_images,
                text_length=self.config.model.text_length,
                batch_size=self.fields.batch_size,
                mesh=mesh,
                loading=self.loading(),
            )
            for name, source in self.splits.items()
        ]
        mean, std = tuple(data.get("mean", ())), tuple(data.get("std", ()))
        encoders = make_encoders(graphdef, mean=mean, std=std)
        return AnsweredEvaluation(self.name, evaluators, encoders)
