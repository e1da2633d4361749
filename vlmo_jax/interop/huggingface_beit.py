"""HuggingFace's names of a BEiT's tensors, and the official ones.

HuggingFace keeps query, key and value in three matrices, the official code in one.
"""

import functools
import re
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from vlmo_jax.interop.made_tensors import MadeTensors, joined

TABLE = "attn.relative_position_bias_table"
QKV = "attn.qkv.weight"

# Official names, of a tensor or of the module that its weight and bias belong to.
OUTSIDE_BLOCKS = {
    "cls_token": "beit.embeddings.cls_token",
    "mask_token": "beit.embeddings.mask_token",
    "pos_embed": "beit.embeddings.position_embeddings",
    "patch_embed.proj": "beit.embeddings.patch_embeddings.projection",
    "rel_pos_bias": "beit.encoder.relative_position_bias",
    "norm": "layernorm",
    "lm_head": "lm_head",
    "fc_norm": "beit.pooler.layernorm",
    "head": "classifier",
}
IN_BLOCK = {
    "gamma_1": "lambda_1",
    "gamma_2": "lambda_2",
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.q_bias": "attention.attention.query.bias",
    "attn.v_bias": "attention.attention.value.bias",
    TABLE: "attention.attention.relative_position_bias.relative_position_bias_table",
    "attn.relative_position_index": (
        "attention.attention.relative_position_bias.relative_position_index"
    ),
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}


def is_huggingface(names: Iterable[str]) -> bool:
    """Whether the names are HuggingFace's."""
    return any(name.startswith("beit.") for name in names)


def huggingface_names(official: str) -> list[str]:
    """The HuggingFace name of an official tensor; three for the joint matrix of query, key and
    value.
    """
    block = re.match(r"blocks\.(\d+)\.(.*)", official)
    if block:
        prefix, name, table = f"beit.encoder.layer.{block[1]}.", block[2], IN_BLOCK
    else:
        prefix, name, table = "", official, OUTSIDE_BLOCKS
    if block and name == QKV:
        return [f"{prefix}attention.attention.{part}.weight" for part in ("query", "key", "value")]
    if name in table:
        return [prefix + table[name]]
    module, _, leaf = name.rpartition(".")
    return [f"{prefix}{table[module]}.{leaf}"] if module in table else [official]


def to_huggingface(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors with official names, by HuggingFace's; those without one keep their name."""
    named: dict[str, np.ndarray] = {}
    for official, tensor in tensors.items():
        names = huggingface_names(official)
        parts = np.split(tensor, len(names)) if len(names) > 1 else [tensor]
        named.update(zip(names, parts, strict=True))
    return named


def from_huggingface(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Tensors with HuggingFace's names, by the official ones; those without one keep their name.

    Each is made when it is asked for.
    """
    makers: dict[str, Callable[[], np.ndarray]] = {}
    used: set[str] = set()
    for name in _official_names(tensors):
        names = huggingface_names(name)
        if all(part in tensors for part in names):
            makers[name] = functools.partial(joined, tensors, names)
            used.update(names)
    kept = {name: functools.partial(joined, tensors, [name]) for name in tensors}
    return MadeTensors(makers | {name: maker for name, maker in kept.items() if name not in used})


def _official_names(names: Iterable[str]) -> list[str]:
    """Every official name that a BEiT with as many layers as these names speak of could have."""
    matches = [re.match(r"beit\.encoder\.layer\.(\d+)\.", name) for name in names]
    layers = sorted({int(match[1]) for match in matches if match})
    known = [
        *_with_leaves(OUTSIDE_BLOCKS),
        "rel_pos_bias.relative_position_bias_table",
        "rel_pos_bias.relative_position_index",
    ]
    for layer in layers:
        known += [f"blocks.{layer}.{name}" for name in [*_with_leaves(IN_BLOCK), QKV]]
    return known


def _with_leaves(names: Iterable[str]) -> list[str]:
    return [f"{name}{leaf}" for name in names for leaf in ("", ".weight", ".bias")]
