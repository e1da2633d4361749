"""What a model can be asked: by the heads that it was trained with."""

from collections.abc import Container

from vlmo_jax.commands.endings import UserError
from vlmo_jax.models import vilt_fields
from vlmo_jax.models.vlmo_fields import HEADS

# What serves in the place of a head, where a model lacks it.
_INSTEAD = {"itm": vilt_fields.HEADS["rank"]}

# What a head is for, and the recipes that train it.
_TAUGHT_BY = {
    "retrieval": (
        "encodes images and texts for search",
        "configs/stage3.py or configs/finetune_retrieval.py",
    ),
    "itm": (
        "says whether an image and a text match",
        "configs/stage3.py or configs/finetune_retrieval.py (with matching)",
    ),
    "vqa": ("answers questions", "configs/finetune_vqa.py"),
}


class UnfitModelError(UserError, ValueError):
    """A model that lacks what is asked of it."""


def require_head(head: str, parts: Container[str], name: str) -> None:
    """Refuses a model that lacks a head.

    Args:
        head: of `models.vlmo_fields.HEADS`.
        parts: what the model has: the names of its outermost parameters.
        name: of the model, for the message.

    Raises:
        UnfitModelError: it lacks the head; says which recipe trains it.
    """
    served_by = (HEADS[head], *([_INSTEAD[head]] if head in _INSTEAD else []))
    if not any(all(part in parts for part in needed) for needed in served_by):
        what, recipes = _TAUGHT_BY[head]
        raise UnfitModelError(
            f"{name} has no part that {what}; train one with {recipes}, or load another model"
        )
