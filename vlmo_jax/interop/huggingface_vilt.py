"""HuggingFace's names of a ViLT's tensors, and the official ones.

HuggingFace keeps query, key and value apart, the official code in one matrix and one bias. Its
heads of VQA and NLVR2 have one name; the second reads two images, and so twice the width.
"""

import functools
import re
from collections.abc import Iterable, Mapping

import numpy as np

from vlmo_jax.interop.made_tensors import MadeTensors, joined

# Beginnings of official names and of HuggingFace's, outside of the blocks.
OUTSIDE_BLOCKS = {
    "text_embeddings.": "vilt.embeddings.text_embeddings.",
    "token_type_embeddings.": "vilt.embeddings.token_type_embeddings.",
    "transformer.cls_token": "vilt.embeddings.cls_token",
    "transformer.pos_embed": "vilt.embeddings.position_embeddings",
    "transformer.patch_embed.proj.": "vilt.embeddings.patch_embeddings.projection.",
    "transformer.norm.": "vilt.layernorm.",
    "pooler.": "vilt.pooler.",
}
IN_BLOCK = {
    "norm1": "layernorm_before",
    "norm2": "layernorm_after",
    "attn.proj": "attention.output.dense",
    "mlp.fc1": "intermediate.dense",
    "mlp.fc2": "output.dense",
}
PARTS = ("query", "key", "value")
CLASSIFIER = "classifier."
# As newer versions keep it too, beside `mlm_score.bias`, whose values it has.
TIED = "mlm_score.decoder.bias"


def is_huggingface(names: Iterable[str]) -> bool:
    """Whether the names are HuggingFace's."""
    return any(name.startswith("vilt.") for name in names)


def huggingface_names(official: str) -> list[str]:
    """The HuggingFace name of an official tensor; three where query, key and value are joint."""
    if block := re.match(r"transformer\.blocks\.(\d+)\.(.*)\.(weight|bias)", official):
        prefix, module, leaf = f"vilt.encoder.layer.{block[1]}.", block[2], block[3]
        if module == "attn.qkv":
            return [f"{prefix}attention.attention.{part}.{leaf}" for part in PARTS]
        return [f"{prefix}{IN_BLOCK[module]}.{leaf}"] if module in IN_BLOCK else [official]
    if classifier := re.match(r"(vqa|nlvr2)_classifier\.(.*)", official):
        return [CLASSIFIER + classifier[2]]
    for start, theirs in OUTSIDE_BLOCKS.items():
        if official.startswith(start):
            return [theirs + official.removeprefix(start)]
    return [official]


def from_huggingface(tensors: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """Tensors with HuggingFace's names, by the official ones; those without one keep their name."""
    task = "nlvr2" if _reads_two_images(tensors) else "vqa"
    made, used = {}, {TIED} if "mlm_score.bias" in tensors else set()
    for official in _official_names(tensors, task):
        names = huggingface_names(official)
        if all(name in tensors for name in names):
            made[official] = functools.partial(joined, tensors, names)
            used.update(names)
    rest = {
        name: functools.partial(joined, tensors, [name]) for name in tensors if name not in used
    }
    return MadeTensors({**made, **rest})


def to_huggingface(tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Tensors with official names, by HuggingFace's; those without one keep their name."""
    named: dict[str, np.ndarray] = {}
    for official, tensor in tensors.items():
        names = huggingface_names(official)
        parts = np.split(tensor, len(names)) if len(names) > 1 else [tensor]
        named.update(zip(names, parts, strict=True))
    return named


def _reads_two_images(tensors: Mapping[str, np.ndarray]) -> bool:
    first, width = f"{CLASSIFIER}0.weight", "vilt.embeddings.cls_token"
    if first not in tensors or width not in tensors:
        return False
    return tensors[first].shape[-1] == 2 * tensors[width].shape[-1]


def _official_names(names: Iterable[str], task: str) -> list[str]:
    """Every official name that tensors of these names can be of."""
    found = []
    for name in names:
        if block := re.match(r"vilt\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)", name):
            module = {theirs: ours for ours, theirs in IN_BLOCK.items()}.get(block[2])
            if block[2] == "attention.attention.query":
                module = "attn.qkv"
            if module:
                found.append(f"transformer.blocks.{block[1]}.{module}.{block[3]}")
        elif name.startswith(CLASSIFIER):
            found.append(f"{task}_{name}")
        else:
            found += [
                ours + name.removeprefix(theirs)
                for ours, theirs in OUTSIDE_BLOCKS.items()
                if name.startswith(theirs)
            ]
    return found
