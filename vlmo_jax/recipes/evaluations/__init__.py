"""What the `kind` of a member of `config.evals` may be: how a model is scored."""

from vlmo_jax.recipes.evaluations.masked_images import MaskedImagesRecipe
from vlmo_jax.recipes.evaluations.masked_text import MaskedTextRecipe
from vlmo_jax.recipes.evaluations.reconstruction import ReconstructionRecipe
from vlmo_jax.recipes.evaluations.retrieval import RetrievalRecipe

EVALUATIONS = {
    "retrieval": RetrievalRecipe,
    "masked_images": MaskedImagesRecipe,
    "masked_text": MaskedTextRecipe,
    "reconstruction": ReconstructionRecipe,
}
