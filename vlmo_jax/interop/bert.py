"""Names and layouts of what models take over from BERT's old PyTorch code: post-norm blocks with
queries, keys and values of their own, embeddings, the prediction head.
"""

from collections.abc import Iterator

from vlmo_jax.interop.places import (
    LINEAR,
    SAME,
    Layout,
    NamedPlace,
    ParamPath,
    Place,
    dense_places,
    norm_places,
)


def heads_in(num_heads: int) -> Layout:
    """The layout of a matrix [H K, D] to [D, H, K]."""
    return Layout(
        lambda w: w.T.reshape(w.shape[1], num_heads, -1),
        lambda k: k.reshape(k.shape[0], -1).T,
    )


def heads_out(num_heads: int) -> Layout:
    """The layout of a matrix [D, H K] to [H, K, D]."""
    return Layout(
        lambda w: w.T.reshape(num_heads, -1, w.shape[0]),
        lambda k: k.reshape(-1, k.shape[-1]).T,
    )


def heads_bias(num_heads: int) -> Layout:
    """The layout of a bias [H K] to [H, K]."""
    return Layout(lambda b: b.reshape(num_heads, -1), lambda b: b.reshape(-1))


def self_attention_places(
    prefix: str, root: ParamPath, number: int, num_heads: int
) -> Iterator[NamedPlace]:
    """(name, Place) of layers.attention.SelfAttention in a stack of blocks.

    Args:
        prefix: of the names, such as "bert.encoder.layer.3.attention.".
        root: path of the attention.
        number: of the block in its stack.
        num_heads: H.
    """
    matrix, bias = heads_in(num_heads), heads_bias(num_heads)
    for which, name in enumerate(("query", "key", "value")):
        yield f"{prefix}self.{name}.weight", Place((*root, "qkv"), (number, None, which), matrix)
        yield f"{prefix}self.{name}.bias", Place((*root, f"{name[0]}_bias"), (number,), bias)
    yield (
        f"{prefix}output.dense.weight",
        Place((*root, "out"), (number,), heads_out(num_heads)),
    )
    yield f"{prefix}output.dense.bias", Place((*root, "out_bias"), (number,), SAME)


def feed_forward_places(
    inner: str, outer: str, root: ParamPath, number: int
) -> Iterator[NamedPlace]:
    """(name, Place) of a FeedForward in a stack of blocks, and of the norm behind it.

    Args:
        inner, outer: what the names of both layers begin with, such as
            "bert.encoder.layer.3.intermediate" and "bert.encoder.layer.3.output".
        root: path of the block.
        number: of the block in its stack.
    """
    for name, module in ((f"{inner}.dense", "up"), (f"{outer}.dense", "down")):
        path = (*root, "feed_forward", module)
        yield f"{name}.weight", Place((*path, "kernel"), (number,), LINEAR)
        yield f"{name}.bias", Place((*path, "bias"), (number,), SAME)
    yield from norm_places(f"{outer}.LayerNorm", (*root, "output_norm"), (number,))


def block_places(prefix: str, root: ParamPath, number: int, num_heads: int) -> Iterator[NamedPlace]:
    """(name, Place) of layers.blocks.PostNormBlock without a memory, in a stack.

    Args:
        prefix: of the names, such as "bert.encoder.layer.3.".
        root: path of the stacked blocks.
        number: of the block.
        num_heads: H.
    """
    attention = f"{prefix}attention."
    yield from self_attention_places(attention, (*root, "attention"), number, num_heads)
    yield from norm_places(f"{attention}output.LayerNorm", (*root, "attention_norm"), (number,))
    yield from feed_forward_places(f"{prefix}intermediate", f"{prefix}output", root, number)


def embedding_places(prefix: str, root: ParamPath) -> Iterator[NamedPlace]:
    """(name, Place) of layers.embeddings.TextEmbedding with positions; `prefix` such as
    "bert.embeddings.".
    """
    for name, ours in (("word", "word"), ("position", "position"), ("token_type", "segment")):
        yield f"{prefix}{name}_embeddings.weight", Place((*root, ours), (), SAME)
    yield from norm_places(f"{prefix}LayerNorm", (*root, "norm"))


def transform_places(prefix: str, root: ParamPath) -> Iterator[NamedPlace]:
    """(name, Place) of the dense layer and the norm before a decoder; `prefix` such as
    "cls.predictions.transform.".
    """
    yield from dense_places(f"{prefix}dense", (*root, "dense"))
    yield from norm_places(f"{prefix}LayerNorm", (*root, "norm"))
