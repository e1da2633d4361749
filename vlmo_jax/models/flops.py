"""What a pass through a model costs: model FLOPs, the numerator of "share of the device's peak".

These are the operations of the official computation. Savings that give the same numbers (see
docs/PERFORMANCE.md) make a step faster but take nothing off them, so shares of different
implementations compare.
"""

from typing import NamedTuple

# A backward pass computes two products for each one of the forward pass. Recomputation does not
# count.
TRAINING_FACTOR = 3
FIELDS = (
    "image_size",
    "patch_size",
    "text_length",
    "vocab_size",
    "width",
    "depth",
    "mlp_dim",
    "num_upper",
)


class ForwardFlops(NamedTuple):
    """Floating-point operations of forward passes.

    Attributes:
        image: one image through the dual encoder, the V/L branch alone.
        text: one text through the dual encoder.
        match: one pair through the fusion encoder.
        pretrain: one pair through stage 3.
        text_pretrain: one text through stage 2.
    """

    image: int
    text: int
    match: int
    pretrain: int
    text_pretrain: int


def block_flops(num_tokens, width, mlp_dim):
    """FLOPs of one block on a sequence.

    Counted are matrix products, a multiplication and an addition as two. With n tokens, width d and
    mlp_dim f: queries, keys and values 2 n d (3 d), logits 2 n^2 d, weighted sum 2 n^2 d, output
    2 n d d, the expert 2 n d f twice. Together 8 n d^2 + 4 n^2 d + 4 n d f, which is
    24 n d^2 + 4 n^2 d for f = 4 d. The expert's choice costs nothing: a token visits one expert.
    """
    return 8 * num_tokens * width**2 + 4 * num_tokens**2 * width + 4 * num_tokens * width * mlp_dim


def forward_flops(
    *, image_size, patch_size, text_length, vocab_size, width, depth, mlp_dim, num_upper
):
    """FLOPs of the forward passes, padding included, as the official code runs them.

    Stage 3 on a pair, with P = 1 + (image_size / patch_size)^2 image tokens, T = text_length and
    L(n) = `block_flops(n)`:

      four fused passes          4 depth L(T + P)
      image pass, both branches  (depth + num_upper) L(P)
      text pass, both branches   (depth + num_upper) L(T)
      patch embedding            once for the image pass and once a fused pass, 5 * 2 (P - 1) 3 patch_size^2 width
      MLM head                   at all T tokens, T (2 width^2 + 2 width vocab_size)

    Stage 2 on a text: depth L(T) and the MLM head.

    Left out: the pooler, the projections and the ITM head, one token each (4e-5 of the total), and
    whatever is no matrix product.

    Args: the fields of `config.model` of these names.

    Returns:
        ForwardFlops. Training costs TRAINING_FACTOR times as much.
    """
    patches = (image_size // patch_size) ** 2
    image, text, fused = (
        block_flops(n, width, mlp_dim)
        for n in (patches + 1, text_length, text_length + patches + 1)
    )
    embedding = 2 * patches * 3 * patch_size**2 * width
    mlm_head = text_length * (2 * width**2 + 2 * width * vocab_size)
    return ForwardFlops(
        image=depth * image + embedding,
        text=depth * text,
        match=depth * fused + embedding,
        pretrain=4 * depth * fused
        + (depth + num_upper) * (image + text)
        + 5 * embedding
        + mlm_head,
        text_pretrain=depth * text + mlm_head,
    )


def model_flops(model_config):
    """ForwardFlops of a VLMo by its `config.model`."""
    return forward_flops(**{name: model_config[name] for name in FIELDS})


def discrete_vae_flops(
    *, image_size, vocab_size, num_hidden, num_groups, blocks_per_group, num_init
):
    """FLOPs of an image's way through encoder and decoder of a discrete VAE: convolutions, a
    multiplication and an addition as two.

    Args: the fields of a tokenizer's `config.model` of these names.

    Returns:
        An int. Training costs TRAINING_FACTOR times as much.
    """
    widths = [num_hidden * 2**group for group in range(num_groups)]
    places = [(image_size >> group) ** 2 for group in range(num_groups)]
    num_init = num_init or num_hidden // 2
    encoder = decoder = 0
    for group, (width, area) in enumerate(zip(widths, places)):
        above = num_init if group == num_groups - 1 else 2 * width  # into this group of the decoder
        encoder += _blocks_flops(
            widths[max(group - 1, 0)], width, area, blocks_per_group, first=9, last=1
        )
        decoder += _blocks_flops(above, width, area, blocks_per_group, first=1, last=9)
    encoder += 2 * places[0] * 49 * 3 * num_hidden + 2 * places[-1] * widths[-1] * vocab_size
    return (
        encoder + decoder + 2 * places[-1] * vocab_size * num_init + 2 * places[0] * num_hidden * 6
    )


def _blocks_flops(width_in, width, area, blocks, *, first, last):
    """FLOPs of a group of blocks; `first` and `last` are the places that the outer kernels of a
    block see.
    """
    hidden, total = width // 4, 0
    for _ in range(blocks):
        total += (
            first * width_in * hidden
            + 18 * hidden**2
            + last * hidden * width
            + (width_in != width) * width_in * width
        )
        width_in = width
    return 2 * area * total


def masked_image_flops(*, image_size, patch_size, vocab_size, width, depth, mlp_dim, num_masked):
    """FLOPs of the forward pass of stage 1 on an image: patch embedding, depth L(P), and the head
    at the hidden patches.

    The frozen visual tokenizer is left out: it is no part of the model.

    Args: the fields of `config.model` of these names, and `num_masked` hidden patches.
    """
    patches = (image_size // patch_size) ** 2
    embedding = 2 * patches * 3 * patch_size**2 * width
    return (
        depth * block_flops(patches + 1, width, mlp_dim)
        + embedding
        + 2 * num_masked * width * vocab_size
    )


def pair_pretrain_flops(model, data):
    return model_flops(model).pretrain


def text_pretrain_flops(model, data):
    return model_flops(model).text_pretrain


def image_pretrain_flops(model, data):
    fields = {
        name: model[name]
        for name in ("image_size", "patch_size", "vocab_size", "width", "depth", "mlp_dim")
    }
    return masked_image_flops(**fields, num_masked=data.num_masked)


def visual_tokenizer_flops(model, data):
    fields = (
        "image_size",
        "vocab_size",
        "num_hidden",
        "num_groups",
        "blocks_per_group",
        "num_init",
    )
    return discrete_vae_flops(**{name: model[name] for name in fields})
