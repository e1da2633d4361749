"""What `config.task.kind` may be: what is learned."""

from collections.abc import Callable

from ml_collections import ConfigDict

from vlmo_jax.recipes.protocols import TaskRecipe
from vlmo_jax.recipes.tasks.albef_pretrain import AlbefPretrainRecipe
from vlmo_jax.recipes.tasks.all_pairs import AllPairsRecipe
from vlmo_jax.recipes.tasks.caption import CaptionRecipe
from vlmo_jax.recipes.tasks.classify import ClassifyRecipe
from vlmo_jax.recipes.tasks.image_pretrain import ImagePretrainRecipe
from vlmo_jax.recipes.tasks.nlvr2 import Nlvr2Recipe
from vlmo_jax.recipes.tasks.pair_pretrain import OneBranchPretrainRecipe, PairPretrainRecipe
from vlmo_jax.recipes.tasks.ranking import RankingRecipe
from vlmo_jax.recipes.tasks.retrieval import RetrievalMatchingRecipe, RetrievalTaskRecipe
from vlmo_jax.recipes.tasks.segment import SegmentRecipe
from vlmo_jax.recipes.tasks.text_pretrain import TextPretrainRecipe
from vlmo_jax.recipes.tasks.vilbert_pretrain import VilbertPretrainRecipe
from vlmo_jax.recipes.tasks.vilt_pretrain import ViltPretrainRecipe
from vlmo_jax.recipes.tasks.visual_tokenizer import VisualTokenizerRecipe
from vlmo_jax.recipes.tasks.vqa import VqaRecipe
from vlmo_jax.recipes.tasks.vse_infinity import TripletRecipe

TASKS: dict[str, Callable[[ConfigDict], TaskRecipe]] = {
    "pair_pretrain": PairPretrainRecipe,
    "one_branch_pretrain": OneBranchPretrainRecipe,
    "all_pairs": AllPairsRecipe,
    "albef_pretrain": AlbefPretrainRecipe,
    "text_pretrain": TextPretrainRecipe,
    "image_pretrain": ImagePretrainRecipe,
    "visual_tokenizer": VisualTokenizerRecipe,
    "vilt_pretrain": ViltPretrainRecipe,
    "classify": ClassifyRecipe,
    "segment": SegmentRecipe,
    "vqa": VqaRecipe,
    "nlvr2": Nlvr2Recipe,
    "caption": CaptionRecipe,
    "ranking": RankingRecipe,
    "retrieval": RetrievalTaskRecipe,
    "retrieval_matching": RetrievalMatchingRecipe,
    "vse_infinity": TripletRecipe,
    "vilbert_pretrain": VilbertPretrainRecipe,
}
