"""What `config.data.kind` may be: how records become training batches."""

from collections.abc import Callable

from ml_collections import ConfigDict

from vlmo_jax.recipes.data.classes import ClassesData
from vlmo_jax.recipes.data.images import ImagesData
from vlmo_jax.recipes.data.masked_images import MaskedImagesData
from vlmo_jax.recipes.data.pairs import PairsData
from vlmo_jax.recipes.data.questions import QuestionsData
from vlmo_jax.recipes.data.regions import RegionPairsData
from vlmo_jax.recipes.data.segmentations import SegmentationsData
from vlmo_jax.recipes.data.statements import StatementsData
from vlmo_jax.recipes.data.texts import TextsData
from vlmo_jax.recipes.protocols import Data

DATA: dict[str, Callable[[ConfigDict], Data]] = {
    "pairs": PairsData,
    "region_pairs": RegionPairsData,
    "texts": TextsData,
    "masked_images": MaskedImagesData,
    "images": ImagesData,
    "classes": ClassesData,
    "segmentations": SegmentationsData,
    "questions": QuestionsData,
    "statements": StatementsData,
}
