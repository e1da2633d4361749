"""What a pass through a model costs: model FLOPs, the numerator of "share of the device's peak".

These are the operations of the official computation. Savings that give the same numbers (see
docs/PERFORMANCE.md) make a step faster but take nothing off them, so shares of different
implementations compare.

The functions named after tasks take the fields of `config.model` and of `config.data`, and give
the FLOPs of the forward passes of a training step, an example. Training costs TRAINING_FACTOR times
as much.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

# A backward pass computes two products for each one of the forward pass. Recomputation does not
# count.
TRAINING_FACTOR = 3


class PassFlops(NamedTuple):
    """Floating-point operations of an example's passes through a model, the embedding of patches
    included.

    Attributes:
        image: one image through the dual encoder; 0 for a model that is none.
        text: one text through the dual encoder; 0 likewise.
        match: one pair through the fusion encoder; 0 for a model without one.
        answer: one question about an image, with the head.
        compare: one statement about two images, with the head; 0 for a model without one.
    """

    image: int
    text: int
    match: int
    answer: int
    compare: int = 0


class ForwardFlops(NamedTuple):
    """Floating-point operations of forward passes.

    Attributes:
        image: one image through the dual encoder, the V/L branch alone.
        text: one text through the dual encoder.
        match: one pair through the fusion encoder.
        contrast: one pair through the image and the text pass of stage 3, with both branches.
        pretrain: one pair through all of stage 3.
        text_pretrain: one text through stage 2.
    """

    image: int
    text: int
    match: int
    contrast: int
    pretrain: int
    text_pretrain: int


def block_flops(num_tokens: int, width: int, mlp_dim: int) -> int:
    """FLOPs of one block on a sequence.

    Counted are matrix products, a multiplication and an addition as two. With n tokens, width d and
    mlp_dim f: queries, keys and values 2 n d (3 d), logits 2 n^2 d, weighted sum 2 n^2 d, output
    2 n d d, the expert 2 n d f twice. Together 8 n d^2 + 4 n^2 d + 4 n d f, which is
    24 n d^2 + 4 n^2 d for f = 4 d. The expert's choice costs nothing: a token visits one expert.
    """
    return 8 * num_tokens * width**2 + 4 * num_tokens**2 * width + 4 * num_tokens * width * mlp_dim


def model_flops(model: Mapping[str, Any]) -> ForwardFlops:
    """FLOPs of the forward passes of a VLMo, padding included, as the official code runs them.

    Stage 3 on a pair, with P = 1 + (image_size / patch_size)^2 image tokens, T = text_length and
    L(n) = `block_flops(n)`:

      four fused passes          4 depth L(T + P)
      image pass, both branches  (depth + num_upper) L(P)
      text pass, both branches   (depth + num_upper) L(T)
      patch embedding            once for the image pass and once a fused pass,
                                 5 * 2 (P - 1) 3 patch_size^2 width
      MLM head                   at all T tokens, T (2 width^2 + 2 width vocab_size)

    Stage 2 on a text: depth L(T) and the MLM head.

    Left out: the pooler, the projections and the ITM head, one token each (4e-5 of the total), and
    whatever is no matrix product.

    Args:
        model: the fields of `config.model`.
    """
    width, depth, text_length = model["width"], model["depth"], model["text_length"]
    image_length = _num_patches(model) + 1
    image, text, fused = (
        block_flops(length, width, model["mlp_dim"])
        for length in (image_length, text_length, text_length + image_length)
    )
    embedding = _patch_embedding_flops(model)
    mlm_head = text_length * (2 * width**2 + 2 * width * model["vocab_size"])
    both_branches = (depth + model["num_upper"]) * (image + text)
    return ForwardFlops(
        image=depth * image + embedding,
        text=depth * text,
        match=depth * fused + embedding,
        contrast=both_branches + embedding,
        pretrain=4 * depth * fused + both_branches + 5 * embedding + mlm_head,
        text_pretrain=depth * text + mlm_head,
    )


def vlmo_passes(model: Mapping[str, Any]) -> PassFlops:
    """FLOPs of the passes of a VLMo or of a dual one: see `model_flops`."""
    flops = model_flops(model)
    answer = _answering_flops(model, images=1, classes=model.get("num_answers", 1))
    compare = _answering_flops(model, images=2, classes=2)
    return PassFlops(flops.image, flops.text, flops.match, answer, compare)


def late_passes(model: Mapping[str, Any]) -> PassFlops:
    """FLOPs of the passes of a VLMo whose modalities meet in the last block alone: up to there no
    token attends to the other modality.
    """
    passes, lengths = vlmo_passes(model), (_num_patches(model) + 1, model["text_length"])
    cross = 4 * model["width"] * (sum(lengths) ** 2 - sum(n**2 for n in lengths))
    saved = (model["depth"] - 1) * cross
    return passes._replace(
        match=passes.match - saved,
        answer=passes.answer - saved,
        compare=passes.compare - 2 * saved,
    )


def pair_pretrain_flops(
    model: Mapping[str, Any], data: Mapping[str, Any], fused_share: float = 1.0
) -> int:
    """FLOPs of stage 3 on a pair, of which a share takes the fused passes: see `model_flops`."""
    flops = model_flops(model)
    return round(flops.contrast + fused_share * (flops.pretrain - flops.contrast))


def one_branch_pretrain_flops(
    model: Mapping[str, Any], data: Mapping[str, Any], fused_share: float = 1.0
) -> int:
    """FLOPs of stage 3 on a pair without the second contrastive branch, which takes the upper
    blocks once more.
    """
    flops = model_flops(model)
    both = flops.image - _patch_embedding_flops(model) + flops.text
    second = both * model["num_upper"] // model["depth"]
    return pair_pretrain_flops(model, data, fused_share) - second


def all_pairs_flops(model: Mapping[str, Any], batch_size: int) -> int:
    """FLOPs of a pair whose image and text are matched with all B of a batch.

    Beside the passes of the dual encoder: the blocks but the last, of a late_vlmo the upper ones
    alone, and queries, keys and values of the last, once more; and a text's first token with each
    image: logits and sums over P tokens, output, expert, pooler.
    """
    width, flops = model["width"], model_flops(model)
    patches, length = _num_patches(model) + 1, model["text_length"]
    again = sum(block_flops(n, width, model["mlp_dim"]) for n in (patches, length))
    project = 6 * (patches + length) * width**2
    pair = 4 * patches * width + 4 * width**2 + 4 * width * model["mlp_dim"]
    own = model["kind"] == "twin_vlmo"
    branch = (model["depth" if own else "num_upper"] - 1) * again + project
    embedding = own * _patch_embedding_flops(model)
    return flops.image + flops.text + embedding + branch + batch_size * pair


def text_pretrain_flops(model: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """FLOPs of stage 2 on a text: see `model_flops`."""
    return model_flops(model).text_pretrain


def caption_flops(model: Mapping[str, Any]) -> int:
    """FLOPs of a caption with its image: a fused pass, and the word head at all T tokens."""
    width, flops = model["width"], model_flops(model)
    head = model["text_length"] * (2 * width**2 + 2 * width * model["vocab_size"])
    return flops.match + head


def _answering_flops(model: Mapping[str, Any], *, images: int, classes: int) -> int:
    """FLOPs of passes with patch embedding, and of the head on a token of each.

    A VLMo fuses the text with each image, a dual encoder reads the images and the text once.
    """
    width, flops = model["width"], model_flops(model)
    if model["kind"] == "dual_vlmo":
        passes, vectors = images * flops.image + flops.text, images + 1
    else:
        passes, vectors = images * flops.match, images
    return passes + 2 * vectors * width * 2 * width + 2 * 2 * width * classes


def image_pretrain_flops(model: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """FLOPs of stage 1 on an image: patch embedding, depth L(P), the head at the hidden patches.

    The frozen visual tokenizer is left out: it is no part of the model.
    """
    blocks = model["depth"] * block_flops(_num_patches(model) + 1, model["width"], model["mlp_dim"])
    head = 2 * data["num_masked"] * model["width"] * model["vocab_size"]
    return blocks + _patch_embedding_flops(model) + head


def classification_flops(model: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """FLOPs of a classifier on an image: patch embedding, depth L(P), the head."""
    blocks = model["depth"] * block_flops(_num_patches(model) + 1, model["width"], model["mlp_dim"])
    return blocks + _patch_embedding_flops(model) + 2 * model["width"] * model["num_classes"]


def visual_tokenizer_flops(model: Mapping[str, Any], data: Mapping[str, Any]) -> int:
    """FLOPs of an image's way through encoder and decoder of a discrete VAE: convolutions, a
    multiplication and an addition as two.
    """
    num_hidden, num_groups, blocks = (
        model[name] for name in ("num_hidden", "num_groups", "blocks_per_group")
    )
    vocab_size, num_init = model["vocab_size"], model["num_init"] or num_hidden // 2
    widths = [num_hidden * 2**group for group in range(num_groups)]
    places = [(model["image_size"] >> group) ** 2 for group in range(num_groups)]
    encoder = decoder = 0
    for group, (width, area) in enumerate(zip(widths, places, strict=True)):
        below = widths[max(group - 1, 0)]  # into this group of the encoder
        above = num_init if group == num_groups - 1 else 2 * width  # and of the decoder
        encoder += _blocks_flops(below, width, area, blocks, first=9, last=1)
        decoder += _blocks_flops(above, width, area, blocks, first=1, last=9)
    encoder += 2 * places[0] * 49 * 3 * num_hidden + 2 * places[-1] * widths[-1] * vocab_size
    decoder += 2 * places[-1] * vocab_size * num_init + 2 * places[0] * num_hidden * 6
    return encoder + decoder


def _num_patches(model):
    return (model["image_size"] // model["patch_size"]) ** 2


def _patch_embedding_flops(model):
    return 2 * _num_patches(model) * 3 * model["patch_size"] ** 2 * model["width"]


def _blocks_flops(width_in, width, area, blocks, *, first, last):
    """FLOPs of a group of blocks; `first` and `last` are the places that the outer kernels of a
    block see.
    """
    hidden, total = width // 4, 0
    for _ in range(blocks):
        path = width_in * width if width_in != width else 0
        total += first * width_in * hidden + 18 * hidden**2 + last * hidden * width + path
        width_in = width
    return 2 * area * total
