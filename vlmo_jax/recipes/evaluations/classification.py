"""Classification by the head of a model."""

import collections
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.datasets import open_image_source
from vlmo_jax.datasets.labels import read_labels
from vlmo_jax.evals.answered_evaluation import AnsweredEvaluation
from vlmo_jax.evals.class_scores import TOP
from vlmo_jax.evals.classification import ClassificationEvaluator
from vlmo_jax.recipes.data.classes import ClassesData
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.visual import seen_by
from vlmo_jax.tasks.abilities import ClassifiesImages
from vlmo_jax.tasks.classify import make_classifier

_NAMED = 5


class ClassificationRecipe(SplitsRecipe):
    """How often the likeliest class, or one of the five likeliest, is right; see
    `protocols.EvaluationRecipe`.
    """

    needs = ClassifiesImages

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._classes = self.require_part("data", data, ClassesData)
        self._labels: dict[str, list[str]] = {}

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_image_source)
        source = f"evals.{self.name}.source" if self.fields.source else "data.source"
        with naming(self.config, source, "data.classes"):
            for split, records in self.splits.items():
                self._labels[split] = read_labels(records, self._classes.told_by)
        known = set(self._classes.classes)
        for split, labels in self._labels.items():
            unknown = collections.Counter(label for label in labels if label not in known)
            named = ", ".join(repr(label) for label in list(unknown)[:_NAMED])
            require(
                not unknown,
                f"config.evals.{self.name}: {unknown.total():,} images of split {split} are of"
                f" {len(unknown):,} classes that the model does not choose from, such as {named};"
                " train with images of them, or build the split without",
            )

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        data = self.config.data
        share = f", {data.crop_share:g} of the shorter side" if data.resize != "square" else ""
        return {
            "protocol": f"classification by {data.classes}, {data.resize}{share}",
            "images": len(self.splits[split]),
            "classes": len(self._classes.classes),
        }

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> AnsweredEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, make_rows = self.config.data, seen_by(self.config).maker
        number_of = {label: number for number, label in enumerate(self._classes.classes)}
        evaluators = [
            ClassificationEvaluator(
                source,
                [number_of[label] for label in self._labels[name]],
                self._classes.classes,
                name=name,
                maker=make_rows(source),
                batch_size=self.fields.batch_size,
                mesh=mesh,
                loading=self.loading(),
            )
            for name, source in self.splits.items()
        ]
        classify = make_classifier(graphdef, mean=tuple(data.mean), std=tuple(data.std), top_k=TOP)
        return AnsweredEvaluation(self.name, evaluators, classify)
