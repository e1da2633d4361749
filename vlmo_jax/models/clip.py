"""CLIP: a ViT and a causal text Transformer that meet in one space.

Source: "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020,
and its official code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Several, Text, Whole
from vlmo_jax.layers.attention import causal_mask
from vlmo_jax.layers.blocks import PreNormBlock, Stack
from vlmo_jax.layers.embeddings import ImageEmbedding, TokenEmbedding
from vlmo_jax.layers.heads import Classifier, ContrastiveProjection
from vlmo_jax.layers.linear import LayerNorm, gelu, quick_gelu
from vlmo_jax.layers.transformer import REMAT_POLICIES
from vlmo_jax.models.flops import PassFlops, block_flops
from vlmo_jax.models.sizes import DEEPEST, DTYPE, SIZE, MeshShape, check_vocabulary, count_block

# OpenAI's weights and those that go on from them need quick_gelu; open_clip's own have gelu.
ACTIVATIONS = {"quick_gelu": quick_gelu, "gelu": gelu}
NORM_EPSILON = 1e-5
HEADS = ("retrieval", "vqa")

# What the fields of `config.model` may be.
FIELDS: dict[str, Kind] = {
    "image_size": SIZE,
    "patch_size": SIZE,
    "width": SIZE,
    "depth": Whole(above=0, high=DEEPEST),
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "vocab_size": SIZE,
    "text_length": SIZE,
    "text_width": SIZE,
    "text_depth": Whole(above=0, high=DEEPEST),
    "text_num_heads": SIZE,
    "text_mlp_dim": SIZE,
    "embed_dim": SIZE,
    "activation": Choice(tuple(ACTIVATIONS)),
    "heads": Extra(Several(Text(), what="names in brackets with a comma", distinct=True)),
    "num_answers": Extra(SIZE),
    "norm_epsilon": Extra(Number(above=0)),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
}


class CLIP(nnx.Module):
    """Two towers of pre-norm blocks; what is learned is where their vectors lie.

    Args:
        image_size, patch_size: pixels a side; the size divides by the patch.
        width, depth, num_heads, mlp_dim: D, blocks, H and F of the image tower.
        vocab_size: V.
        text_length: T, tokens of a text.
        text_width, text_depth, text_num_heads, text_mlp_dim: of the text tower.
        embed_dim: of the space that both meet in.
        activation: a name in ACTIVATIONS.
        heads: out of HEADS. "vqa" reads both vectors, beside each other, before their projection.
        num_answers: A, of the head "vqa".
        norm_epsilon: of all norms of the towers.
        remat: a name in REMAT_POLICIES.
        scan_layers: False unrolls the blocks.
        dtype: compute type.
    """

    # None where the model was made without the head.
    itc: Any
    vqa_head: Any

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        num_heads: int,
        mlp_dim: int,
        vocab_size: int,
        text_length: int,
        text_width: int,
        text_depth: int,
        text_num_heads: int,
        text_mlp_dim: int,
        embed_dim: int,
        activation: str = "quick_gelu",
        heads: Sequence[str] = ("retrieval",),
        num_answers: int = 3129,
        norm_epsilon: float = NORM_EPSILON,
        remat: str = "none",
        scan_layers: bool = True,
        dtype: DTypeLike = jnp.float32,
        rngs: nnx.Rngs,
    ) -> None:
        typed: dict[str, Any] = dict(dtype=dtype, rngs=rngs)
        blocks = dict(activation=ACTIVATIONS[activation], norm_epsilon=norm_epsilon, **typed)
        stack = dict(remat=remat, scan_layers=scan_layers)
        norm = lambda width: LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.image_embedding = ImageEmbedding(
            image_size,
            patch_size,
            width,
            positions=True,
            bias=False,
            init_std=width**-0.5,
            **typed,
        )
        self.image_input_norm = norm(width)
        self.image_encoder = _tower(depth, (width, num_heads, mlp_dim), blocks, stack)
        self.image_norm = norm(width)
        self.text_embedding = TokenEmbedding(vocab_size, text_width, positions=text_length, **typed)
        text_sizes = text_width, text_num_heads, text_mlp_dim
        self.text_encoder = _tower(text_depth, text_sizes, blocks, stack)
        self.text_norm = norm(text_width)
        self.itc = (
            ContrastiveProjection(
                width, text_width=text_width, out_width=embed_dim, init_std=width**-0.5, **typed
            )
            if "retrieval" in heads
            else None
        )
        if self.itc is not None:
            self.itc.text.kernel[...] *= np.float32((width / text_width) ** 0.5)
        self.vqa_head = (
            Classifier(width + text_width, 2 * width, num_answers, **typed)
            if "vqa" in heads
            else None
        )

    def encode_image(self, image: jax.Array) -> jax.Array:
        """Images [B, S, S, 3], normalised, to the states of all tokens [B, P, D], the class token
        first, before the last norm.
        """
        return self.image_encoder(self.image_input_norm(self.image_embedding(image)))

    def encode_text(self, token_ids: jax.Array) -> jax.Array:
        """Texts [B, T] to the states of all tokens [B, T, D], before the last norm. A token sees
        itself and those before it, so that padding behind a text changes nothing of it.
        """
        x = self.text_embedding(token_ids)
        return self.text_encoder(x, mask=causal_mask(x.shape[1]))

    def image_vector(self, image: jax.Array) -> jax.Array:
        """The normed class token of images [B, S, S, 3]: [B, D]."""
        return self.image_norm(self.encode_image(image)[:, 0])

    def text_vector(self, token_ids: jax.Array, token_mask: jax.Array) -> jax.Array:
        """The normed state of the last token of each text, its end: [B, D].

        The official code finds it as the largest id of a row, which it is in its vocabulary.
        """
        last = token_mask.sum(axis=1, dtype=jnp.int32) - 1
        states = self.encode_text(token_ids)
        return self.text_norm(jnp.take_along_axis(states, last[:, None, None], axis=1)[:, 0])

    def retrieval_image(self, image: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """Vectors of images: [B, S, S, 3] -> [B, embed_dim] float32 of length 1. There is no
        dropout for a `key` to turn on.
        """
        return self.itc.project_image(self.image_vector(image))

    def retrieval_text(
        self, token_ids: jax.Array, token_mask: jax.Array, key: jax.Array | None = None
    ) -> jax.Array:
        """Vectors of texts: [B, T] -> [B, embed_dim] float32 of length 1."""
        return self.itc.project_text(self.text_vector(token_ids, token_mask))

    def retrieval_scale(self) -> jax.Array:
        """The logarithm of the scale."""
        return self.itc.logit_scale[...]

    def answer(
        self,
        image: jax.Array,
        token_ids: jax.Array,
        token_mask: jax.Array,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Logits of the answers to questions about images: [B, num_answers] float32."""
        vectors = [self.image_vector(image), self.text_vector(token_ids, token_mask)]
        return self.vqa_head(jnp.concatenate(vectors, axis=-1))


def _tower(depth, sizes, block_options, stack_options):
    """A Stack of blocks of (width, num_heads, mlp_dim) that starts as the official code's does."""
    width, _, _ = sizes

    def block(rngs):
        return PreNormBlock(*sizes, **{**block_options, "init_std": width**-0.5, "rngs": rngs})

    tower = Stack(depth, block, rngs=block_options["rngs"], **stack_options)
    added = np.float32((2 * depth) ** -0.5)  # of what a block adds to the residual stream
    tower.blocks.attention.out[...] *= added
    tower.blocks.feed_forward.down.kernel[...] *= added
    tower.blocks.feed_forward.up.kernel[...] *= np.float32(0.5**0.5)
    return tower


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a CLIP that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    multiple(
        "model.image_size", fields["image_size"], fields["patch_size"], "config.model.patch_size"
    )
    _, fsdp, tensor = mesh_shape
    for tower in ("", "text_"):
        width, number = f"{tower}width", f"{tower}num_heads"
        multiple(f"model.{width}", fields[width], fields[number], f"config.model.{number}")
        multiple(f"model.{number}", fields[number], tensor, "config.mesh.tensor")
        multiple(f"model.{tower}mlp_dim", fields[f"{tower}mlp_dim"], tensor, "config.mesh.tensor")
        multiple(f"model.{width}", fields[width], fsdp, "config.mesh.fsdp")
    check_vocabulary(fields, mesh_shape)
    length, heads = fields["text_length"], tuple(fields.get("heads", ("retrieval",)))
    require(
        length >= 3,
        f"config.model.text_length={length} has no room for begin, a token and end; use at least 3",
    )
    require(
        bool(heads) and set(heads) <= set(HEADS),
        f"config.model.heads={heads} must be some of {', '.join(HEADS)}",
    )


def count_params(fields: Mapping[str, Any]) -> int:
    """Parameters of a CLIP."""
    width, text_width, embed_dim = (fields[name] for name in ("width", "text_width", "embed_dim"))
    heads, answers = fields.get("heads", ("retrieval",)), fields.get("num_answers", 3129)
    image = (_image_tokens(fields) + 1 + 3 * fields["patch_size"] ** 2 + 4) * width
    text = (fields["vocab_size"] + fields["text_length"] + 2) * text_width
    blocks = sum(
        fields[f"{tower}depth"] * count_block(fields[f"{tower}width"], fields[f"{tower}mlp_dim"])
        for tower in ("", "text_")
    )
    itc = (width + text_width) * embed_dim + 1
    vqa = (width + text_width + 3) * 2 * width + (2 * width + 1) * answers
    return image + text + blocks + ("retrieval" in heads) * itc + ("vqa" in heads) * vqa


def _image_tokens(fields: Mapping[str, Any]) -> int:
    return (fields["image_size"] // fields["patch_size"]) ** 2 + 1


def num_values(fields: Mapping[str, Any], *, images: int, text: bool) -> tuple[int, int]:
    """What an example needs at least; see `memory.values_of_transformer`."""
    tokens = _image_tokens(fields)
    values = images * fields["depth"] * tokens * fields["width"]
    attention = bool(images) * fields["num_heads"] * tokens**2
    if text:
        values += fields["text_depth"] * fields["text_length"] * fields["text_width"]
        attention = max(attention, fields["text_num_heads"] * fields["text_length"] ** 2)
    return values, attention


def pass_flops(fields: Mapping[str, Any]) -> PassFlops:
    """FLOPs of passes through a CLIP; the projections of one token each are left out."""
    tokens, width, text_width = _image_tokens(fields), fields["width"], fields["text_width"]
    embedding = 2 * (tokens - 1) * 3 * fields["patch_size"] ** 2 * width
    image = fields["depth"] * block_flops(tokens, width, fields["mlp_dim"]) + embedding
    text_block = block_flops(fields["text_length"], text_width, fields["text_mlp_dim"])
    text = fields["text_depth"] * text_block
    head = 2 * 2 * width * (width + text_width + fields.get("num_answers", 3129))
    return PassFlops(image=image, text=text, match=0, answer=image + text + head)
