"""Masked image modelling on held-out images."""

import jax
from flax import nnx

from vlmo_jax.evals.masked_images import MaskedImageEvaluator, MaskedImagesEvaluation
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.tasks.image_pretrain import make_masked_image_model
from vlmo_jax.tasks.protocols import PredictsMaskedImages


class MaskedImagesRecipe(SplitsRecipe):
    """Loss and accuracy at hidden patches, the same every time; see
    `protocols.EvaluationRecipe`.
    """

    needs = PredictsMaskedImages

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> MaskedImagesEvaluation:
        """See `protocols.EvaluationRecipe`."""
        tokenizer = self.task.visual_tokenizer
        model = make_masked_image_model(graphdef, self.task.make(decoder=tokenizer.has_decoder))
        frozen = tokenizer.load(decoder=tokenizer.has_decoder)
        evaluators = [
            MaskedImageEvaluator(
                source, self.data.rows, name=name, batch_size=self.fields.batch_size, mesh=mesh
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
