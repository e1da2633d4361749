"""Captions that a loaded model writes."""

from typing import Any

from ml_collections import ConfigDict

from vlmo_jax.commands.endings import UserError
from vlmo_jax.inference.batches import Collected, Function
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.inference.parts import Loaded
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.tasks.beam_search import special_tokens
from vlmo_jax.tasks.caption import make_captioner

_LONGEST = 64  # tokens, where the model has positions for as many; as in BEiT-3's evaluation


class WrongSearchError(UserError, ValueError):
    """A search for captions that is impossible."""


class Captioners:
    """The functions of a model that write captions, each compiled once.

    Args:
        loaded: the model.
        mean, std: normalise images as in training.
    """

    def __init__(self, loaded: Loaded, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        self._loaded, self._mean, self._std = loaded, mean, std
        self._made: dict[tuple, Function] = {}  # by their search

    def find(self, beams: int, max_length: int | None, length_penalty: float) -> Function:
        """The function of a search; see `Model.caption`.

        Raises:
            UnfitModelError: the model is not fine-tuned on captions, or has no tokenizer.
            WrongSearchError: the search is impossible.
        """
        config, tokenizer = self._loaded.config, self._loaded.tokenizer
        if "caption" not in (config.model.get("heads", None) or ()):
            raise UnfitModelError(
                f"{self._loaded.name} (config.task.kind={config.task.kind!r}) has no part that"
                " writes captions; train one with configs/finetune_caption.py, or load another"
                " model"
            )
        length = _check_search(config.model, beams, max_length, length_penalty)
        assert tokenizer is not None  # asked for before
        search = (beams, length, length_penalty)
        if search not in self._made:
            self._made[search] = make_captioner(
                self._loaded.graphdef,
                mean=self._mean,
                std=self._std,
                tokens=special_tokens(tokenizer),
                training=config.task.training,
                beams=beams,
                length=length,
                length_penalty=length_penalty,
            )
        return self._made[search]


def _check_search(model: ConfigDict, beams: int, length: int | None, penalty: float) -> int:
    """The greatest length of captions; refuses a search that is impossible."""
    most = model.text_positions if model.position == "relative" else model.text_length
    length = min(_LONGEST, most) if length is None else length
    for name, value, least, highest in (
        ("beams", beams, 1, model.vocab_size - 1),
        ("max_length", length, 3, most),
    ):
        if not least <= value <= highest:
            raise WrongSearchError(f"{name}={value} is not allowed; use {least} to {highest}")
    if not 0 <= penalty < float("inf"):
        raise WrongSearchError(f"length_penalty={penalty} is not allowed; use 0 or more")
    return length


def as_captions(found: Collected, tokenizer: Tokenizer | None) -> list[tuple[str, float]]:
    """(text, score) pairs of what a search gave; ("", NaN) where an input was left out."""
    assert tokenizer is not None  # asked for before
    rows: Any = zip(found.values.token_ids.tolist(), found.values.score, found.usable, strict=True)
    return [
        (tokenizer.decode(ids).strip(), float(score)) if usable else ("", float("nan"))
        for ids, score, usable in rows
    ]
