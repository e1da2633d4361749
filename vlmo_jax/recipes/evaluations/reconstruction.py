"""Reconstruction of held-out images by a visual tokenizer."""

import jax
from flax import nnx

from vlmo_jax.datasets import open_image_source
from vlmo_jax.evals.reconstruction import ReconstructionEvaluation, ReconstructionEvaluator
from vlmo_jax.recipes.evaluations.splits import SplitsRecipe
from vlmo_jax.tasks.abilities import EncodesToCodes
from vlmo_jax.tasks.visual_tokenizer import make_visual_tokenizer_model


class ReconstructionRecipe(SplitsRecipe):
    """PSNR of reconstructions and use of the codes; see `protocols.EvaluationRecipe`."""

    needs = EncodesToCodes

    def open(self) -> None:
        """See `protocols.EvaluationRecipe`."""
        self.open_splits(open_image_source)

    def make(self, graphdef: nnx.GraphDef, mesh: jax.sharding.Mesh) -> ReconstructionEvaluation:
        """See `protocols.EvaluationRecipe`."""
        model = self.config.model
        evaluators = [
            ReconstructionEvaluator(
                source,
                name=name,
                image_size=model.image_size,
                vocab_size=model.vocab_size,
                batch_size=self.fields.batch_size,
                mesh=mesh,
            )
            for name, source in self.splits.items()
        ]
        return ReconstructionEvaluation(
            self.name, evaluators, make_visual_tokenizer_model(graphdef)
        )
