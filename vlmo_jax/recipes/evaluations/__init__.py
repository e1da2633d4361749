"""What the `kind` of a member of `config.evals` may be: how a model is scored."""

from collections.abc import Callable

from ml_collections import ConfigDict

from vlmo_jax.recipes.evaluations.caption import CaptionEvaluationRecipe
from vlmo_jax.recipes.evaluations.choice import ChoiceRecipe
from vlmo_jax.recipes.evaluations.classification import ClassificationRecipe
from vlmo_jax.recipes.evaluations.masked_images import MaskedImagesRecipe
from vlmo_jax.recipes.evaluations.masked_text import MaskedTextRecipe
from vlmo_jax.recipes.evaluations.nlvr2 import Nlvr2EvaluationRecipe
from vlmo_jax.recipes.evaluations.reconstruction import ReconstructionRecipe
from vlmo_jax.recipes.evaluations.retrieval import RetrievalRecipe
from vlmo_jax.recipes.evaluations.segmentation import SegmentationRecipe
from vlmo_jax.recipes.evaluations.vqa import VqaEvaluationRecipe
from vlmo_jax.recipes.evaluations.zero_shot import ZeroShotRecipe
from vlmo_jax.recipes.protocols import Data, EvaluationRecipe, TaskRecipe

EVALUATIONS: dict[str, Callable[[str, ConfigDict, Data, TaskRecipe], EvaluationRecipe]] = {
    "retrieval": RetrievalRecipe,
    "choice": ChoiceRecipe,
    "masked_images": MaskedImagesRecipe,
    "masked_text": MaskedTextRecipe,
    "reconstruction": ReconstructionRecipe,
    "vqa": VqaEvaluationRecipe,
    "nlvr2": Nlvr2EvaluationRecipe,
    "caption": CaptionEvaluationRecipe,
    "classification": ClassificationRecipe,
    "segmentation": SegmentationRecipe,
    "zero_shot": ZeroShotRecipe,
}
