"""Names of a CLIP's tensors: OpenAI's, which open_clip has too, and HuggingFace's.

OpenAI keeps query, key and value in one matrix and one bias, HuggingFace in three each. Between
them stand names of our own, OpenAI's with three biases, which fit our parameters one by one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np

Arrays = list[np.ndarray]
OPENAI, HUGGINGFACE = "openai", "huggingface"
TEXT_PREFIX = "text."  # of the text tower in open_clip's models with a text tower of choice


class Row(NamedTuple):
    """Tensors between the names that are made of tensors of theirs.

    Attributes:
        between, theirs: names.
        read: arrays of theirs -> arrays between.
        write: the inverse.
    """

    between: tuple[str, ...]
    theirs: tuple[str, ...]
    read: Callable[[Arrays], Arrays]
    write: Callable[[Arrays], Arrays]


def _same(arrays: Arrays) -> Arrays:
    return arrays


def _transposed(arrays: Arrays) -> Arrays:
    return [arrays[0].T]


def _joined(arrays: Arrays) -> Arrays:
    return [np.concatenate(arrays)]


def _in_three(arrays: Arrays) -> Arrays:
    return list(np.split(arrays[0], 3))


# Outside the blocks: name between -> HuggingFace's, of a tensor or of what has weight and bias.
_OUTSIDE = {
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",  # as they spell it
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
    "logit_scale": "logit_scale",
}
_PROJECTIONS = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}
_IN_BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TOWERS = {
    "visual.transformer.resblocks.": "vision_model.encoder.layers.",
    "transformer.resblocks.": "text_model.encoder.layers.",
}
PARTS = ("q", "k", "v")


def is_huggingface(names: Iterable[str]) -> bool:
    """Whether the names are HuggingFace's."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in names)


def name_rows(depths: tuple[int, int], names: str) -> list[Row]:
    """All tensors of a CLIP.

    Args:
        depths: blocks of the image tower and of the text tower.
        names: OPENAI or HUGGINGFACE.
    """
    theirs = names == HUGGINGFACE
    rows = [
        Row((ours,), (its if theirs else ours,), _same, _same) for ours, its in _OUTSIDE.items()
    ]
    rows += [
        Row((ours,), (its,), _transposed, _transposed) if theirs else Row((ours,), (ours,), *_AS_IS)
        for ours, its in _PROJECTIONS.items()
    ]
    for (ours, its), depth in zip(TOWERS.items(), depths, strict=True):
        for number in range(depth):
            rows += _block_rows(f"{ours}{number}.", f"{its}{number}." if theirs else None)
    return rows


_AS_IS = (_same, _same)


def _block_rows(ours: str, theirs: str | None) -> Iterator[Row]:
    """The rows of a block; `theirs` is HuggingFace's prefix, None for OpenAI's names."""
    for name, its in _IN_BLOCK.items():
        for leaf in ("weight", "bias"):
            between = f"{ours}{name}.{leaf}"
            yield Row((between,), (f"{theirs}{its}.{leaf}" if theirs else between,), *_AS_IS)
    weight, joint = f"{ours}attn.in_proj_weight", f"{ours}attn.in_proj_bias"
    biases = tuple(f"{ours}attn.{part}_bias" for part in PARTS)
    if theirs is None:
        yield Row((weight,), (weight,), *_AS_IS)
        yield Row(biases, (joint,), _in_three, _joined)
        return
    weights = tuple(f"{theirs}self_attn.{part}_proj.weight" for part in PARTS)
    yield Row((weight,), weights, _joined, _in_three)
    for bias, part in zip(biases, PARTS, strict=True):
        yield Row((bias,), (f"{theirs}self_attn.{part}_proj.bias",), *_AS_IS)


class Between(Mapping[str, np.ndarray]):
    """Tensors by the names between, made when they are asked for.

    Args:
        tensors: by their names.
        rows: of `name_rows`, all of whose tensors are there.
    """

    def __init__(self, tensors: Mapping[str, np.ndarray], rows: Iterable[Row]) -> None:
        self._tensors = tensors
        self._rows = {name: row for row in rows for name in row.between}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __getitem__(self, name: str) -> np.ndarray:
        row = self._rows[name]
        arrays = row.read([np.asarray(self._tensors[its]) for its in row.theirs])
        return arrays[row.between.index(name)]


def spelled(tensors: Mapping[str, np.ndarray], rows: Iterable[Row]) -> dict[str, np.ndarray]:
    """Tensors by the names between as theirs: the inverse of `Between`."""
    theirs: dict[str, np.ndarray] = {}
    for row in rows:
        arrays = row.write([tensors[name] for name in row.between])
        theirs.update(zip(row.theirs, arrays, strict=True))
    return theirs
