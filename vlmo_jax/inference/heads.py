"""What a model can be asked: by the heads that it was trained with."""

from collections.abc import Container

from vlmo_jax.commands.endings import UserError
from vlmo_jax.models import vilt_fields

# The outermost module that serves in the place of another, where a model lacks that.
_INSTEAD = {"itm_head": vilt_fields.HEADS["rank"][-1]}

# The outermost module of a head, in every model that has it; what it is for, and the recipes that
# train it.
_TAUGHT_BY = {
    "retrieval": (
        "itc",
        "encodes images and texts for search",
        "configs/stage3.py or configs/finetune_retrieval.py",
    ),
    "itm": (
        "itm_head",
        "says whether an image and a text match",
        "configs/stage3.py or configs/finetune_retrieval.py (with matching)",
    ),
    "vqa": ("vqa_head", "answers questions", "configs/finetune_vqa.py"),
    "classes": ("head", "chooses from classes of its own", "configs/finetune_classify.py"),
}


class UnfitModelError(UserError, ValueError):
    """A model that lacks what is asked of it."""


def require_head(head: str, parts: Container[str], name: str) -> None:
    """Refuses a model that lacks a head.

    Args:
        head: of _TAUGHT_BY.
        parts: what the model has: the names of its outermost parameters.
        name: of the model, for the message.

    Raises:
        UnfitModelError: it lacks the head; says which recipe trains it.
    """
    part, what, recipes = _TAUGHT_BY[head]
    if part not in parts and _INSTEAD.get(part) not in parts:
        raise UnfitModelError(
            f"{name} has no part that {what}; train one with {recipes}, or load another model"
        )
