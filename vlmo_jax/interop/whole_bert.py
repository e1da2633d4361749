"""Names and places of a whole BERT: those of layers/bert.py, its prediction head beside it."""

from collections.abc import Iterator

from vlmo_jax.interop.bert import (
    block_places,
    embedding_places,
    heads_bias,
    heads_in,
    heads_out,
    transform_places,
)
from vlmo_jax.interop.places import SAME, NamedPlace, ParamPath, Place, norm_places


def bert_places(
    prefix: str, root: ParamPath, *, depth: int, num_heads: int, fusion_depth: int = 0
) -> dict[str, Place]:
    """Every tensor of a BERT without heads.

    Args:
        prefix: of the names, such as "text_encoder.bert."; may be empty.
        root: path of our Bert.
        depth: of blocks that read the text alone.
        num_heads: H.
        fusion_depth: of blocks after them that also read a memory.

    Returns:
        dict official name -> Place.
    """
    places = dict(embedding_places(f"{prefix}embeddings.", (*root, "embedding")))
    for layer in range(depth + fusion_depth):
        name, fused = f"{prefix}encoder.layer.{layer}.", layer >= depth
        number = layer - depth if fused else layer
        stack = (*root, "fusion" if fused else "blocks", "blocks")
        places |= block_places(name, stack, number, num_heads)
        if fused:
            places |= cross_attention_places(f"{name}crossattention.", stack, number, num_heads)
    return places


def cross_attention_places(
    prefix: str, root: ParamPath, number: int, num_heads: int
) -> Iterator[NamedPlace]:
    """(name, Place) of the CrossAttention of a PostNormBlock in a stack, and of its norm.

    Args:
        prefix: of the names, such as "bert.encoder.layer.6.crossattention.".
        root: path of the stacked blocks.
        number: of the block in its stack.
        num_heads: H.
    """
    path, matrix, bias = (*root, "cross_attention"), heads_in(num_heads), heads_bias(num_heads)
    matrices: dict[str, tuple[str, tuple[int | None, ...]]] = {"query": ("q", (number,))}
    matrices |= {name: ("kv", (number, None, i)) for i, name in enumerate(("key", "value"))}
    for name, (ours, at) in matrices.items():
        yield f"{prefix}self.{name}.weight", Place((*path, ours), at, matrix)
        yield f"{prefix}self.{name}.bias", Place((*path, f"{name[0]}_bias"), (number,), bias)
    yield f"{prefix}output.dense.weight", Place((*path, "out"), (number,), heads_out(num_heads))
    yield f"{prefix}output.dense.bias", Place((*path, "out_bias"), (number,), SAME)
    yield from norm_places(f"{prefix}output.LayerNorm", (*root, "cross_norm"), (number,))


def language_head_places(prefix: str, root: ParamPath) -> dict[str, Place]:
    """Every tensor of a TiedLanguageHead but its decoder, the word table; `prefix` such as
    "cls.predictions.".
    """
    return {
        **dict(transform_places(f"{prefix}transform.", root)),
        f"{prefix}bias": Place((*root, "bias"), (), SAME),
    }
