"""The classes of pixels, by windows at the original size of images."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.commands.config_errors import require
from vlmo_jax.commands.fields import Flag, Kind, Number, Several, Whole
from vlmo_jax.datasets.sources import open_segmentation_source
from vlmo_jax.evals.segmentation import SegmentationEvaluation, SegmentationEvaluator
from vlmo_jax.evals.window_views import Looking
from vlmo_jax.recipes.data.segmentations import SegmentationsData
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.tasks.abilities import SegmentsImages
from vlmo_jax.tasks.segment import make_segmenter


class SegmentationRecipe(SplitsRecipe):
    """Mean intersection over union and accuracy; see `protocols.EvaluationRecipe`."""

    allowed: Mapping[str, Kind] = {
        **SplitsRecipe.allowed,
        "stride": Whole(above=0),
        "scales": Several(Number(above=0, high=16), what="scales of the shorter side"),
        "flip": Flag(),
    }
    needs = SegmentsImages

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._segmentations = self.require_part("data", data, SegmentationsData)

    def check(self, batch_shards: int) -> None:
        """See `protocols.EvaluationRecipe`."""
        super().check(batch_shards)
        stride, side = self.fields.stride, self.config.model.image_size
        require(
            stride <= side,
            f"config.evals.{self.name}.stride={stride} leaves pixels between windows of"
            f" config.model.image_size={side}; use at most that",
        )
        require(
            len(self.fields.scales) > 0,
            f"config.evals.{self.name}.scales is empty; use (1.0,) for one scale",
        )

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_segmentation_source)

    def facts(self, split: str) -> dict[str, Any]:
        """See `protocols.EvaluationRecipe`."""
        fields = self.fields
        scales = ", ".join(f"{scale:g}" for scale in fields.scales)
        mirrored = " and mirrored" if fields.flip else ""
        return {
            "protocol": f"windows every {fields.stride} px at scales {scales}{mirrored}",
            "images": len(self.splits[split]),
            "classes": len(self._segmentations.classes),
        }

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> SegmentationEvaluation:
        """See `protocols.EvaluationRecipe`."""
        data, fields = self.config.data, self.fields
        looking = Looking(
            self.config.model.image_size, fields.stride, tuple(fields.scales), fields.flip
        )
        evaluators = [
            SegmentationEvaluator(
                source,
                name=name,
                classes=self._segmentations.classes,
                labelling=self._segmentations.labelling,
                looking=looking,
                batch_size=fields.batch_size,
                mesh=mesh,
            )
            for name, source in self.splits.items()
        ]
        segment = make_segmenter(graphdef, mean=tuple(data.mean), std=tuple(data.std))
        return SegmentationEvaluation(self.name, evaluators, segment)
