"""Masked image modelling on held-out images."""

import jax
from flax import nnx
from ml_collections import ConfigDict

from vlmo_jax.datasets import open_image_source
from vlmo_jax.evals.masked_images import MaskedImageEvaluator, MaskedImagesEvaluation
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes.data.masked_images import MaskedImagesData
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.recipes.protocols import Data, TaskRecipe
from vlmo_jax.recipes.tasks.image_pretrain import ImagePretrainRecipe
from vlmo_jax.tasks.abilities import PredictsMaskedImages
from vlmo_jax.tasks.image_pretrain import make_masked_image_model


class MaskedImagesRecipe(SplitsRecipe):
    """Loss and accuracy at hidden patches, the same every time; see
    `protocols.EvaluationRecipe`.
    """

    needs = PredictsMaskedImages

    def __init__(self, name: str, config: ConfigDict, data: Data, task: TaskRecipe) -> None:
        super().__init__(name, config, data, task)
        self._images = self.require_part("data", data, MaskedImagesData)
        self._task = self.require_part("task", task, ImagePretrainRecipe)

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_image_source)

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> MaskedImagesEvaluation:
        """See `protocols.EvaluationRecipe`."""
        tokenizer = self._task.visual_tokenizer
        model = make_masked_image_model(graphdef, self._task.make(decoder=tokenizer.has_decoder))
        frozen = tokenizer.load(decoder=tokenizer.has_decoder)
        evaluators = [
            MaskedImageEvaluator(
                source, self._images.rows, name=name, batch_size=self.fields.batch_size, mesh=mesh
            )
            for name, source in self.splits.items()
        ]
        return MaskedImagesEvaluation(
            self.name,
            evaluators,
            model,
            jax.device_put(frozen, sharding.replicated(mesh)),
            draw=tokenizer.has_decoder,
            mesh=mesh,
        )
