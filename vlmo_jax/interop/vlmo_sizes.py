"""The sizes of an official VLMo, found in the names and shapes of its tensors."""

import math
import re
from collections.abc import Mapping
from typing import Any

from vlmo_jax.interop.places import check_depth, check_ranks, check_upper
from vlmo_jax.interop.vlmo import official_parts
from vlmo_jax.layers.relative_position import num_rows

PATCH = "transformer.patch_embed.proj.weight"
TABLE = "relative_position_bias_table"
POSITIONS = "transformer.pos_embed"
TEXT_POSITIONS = "text_embeddings.position_embeddings.weight"
WORDS = "text_embeddings.word_embeddings.weight"
TYPES = "token_type_embeddings.weight"
FIRST = "transformer.blocks.0.mlp_imag.fc1.weight"
ANSWERS = "vqa_classifier.3.weight"
STAGE_2_LENGTH = 196  # tokens, the longest text of every published model
PRETRAIN_LENGTH = 40
HEADS_BY_WIDTH = {544: 16}  # base_plus; every other published model has heads of 64
NUM_ANSWERS = 3129  # of VQA v2, for models that answer no questions
LAYER_SCALE = 0.1  # initial gamma of the published models, which their files do not tell


def find_sizes(
    tensors: Mapping[str, Any],
    *,
    image_size: int | None = None,
    text_positions: int | None = None,
    num_heads: int | None = None,
    num_upper: int | None = None,
) -> dict[str, Any]:
    """Finds the sizes of an official VLMo.

    Shapes tell everything but four things. A relative position table has rows for image offsets and
    for text offsets, so that one of `image_size` and `text_positions` gives the other; without
    either the texts are taken to be of 196 tokens, as in every published model. Without a relative
    table nothing tells the heads, and without vision-language experts (stage 2) nothing tells how
    many upper blocks there will be: both are taken from the published models.

    Args:
        tensors: mapping official name -> anything with a shape.
        image_size: pixels a side, or None.
        text_positions: longest text of the relative table in tokens, or None.
        num_heads: H, or None.
        num_upper: blocks with a vision-language expert, or None.

    Returns:
        Arguments of models.vlmo.VLMo, as a dict.

    Raises:
        ValueError: a tensor that tells a size is missing, or a size that was given does not fit.
    """
    _check_tensors(tensors)
    width, _, patch_size, _ = tensors[PATCH].shape
    depth = 1 + max(_numbers(r"transformer\.blocks\.(\d+)\.", tensors))
    check_depth(tensors, depth - 1)
    check_upper(num_upper, depth)
    fused = _numbers(r"transformer\.blocks\.(\d+)\.mlp_vl\.", tensors)
    length = tensors[TEXT_POSITIONS].shape[0] if TEXT_POSITIONS in tensors else None
    if TABLE in tensors:
        rows, columns = tensors[TABLE].shape
        grid, text_positions = _relative_sizes(
            rows, image_size and image_size // patch_size, text_positions
        )
        num_heads = num_heads or columns // depth
        length = length or min(PRETRAIN_LENGTH, text_positions)
    else:
        grid = _absolute_grid(tensors[POSITIONS].shape[1])
        if length is None:
            raise ValueError(f"this VLMo has absolute positions but no {TEXT_POSITIONS}")
        text_positions = length
        num_heads = num_heads or HEADS_BY_WIDTH.get(width) or width // 64
    if image_size and image_size != grid * patch_size:
        raise ValueError(
            f"--image_size={image_size} does not fit {POSITIONS}, which is made for"
            f" {grid * patch_size} pixels"
        )
    if not num_heads or width % num_heads:
        raise ValueError(
            f"{num_heads} heads do not fit width {width}, and nothing else in the file tells them;"
            " give --num_heads"
        )
    if length > text_positions:
        raise ValueError(
            f"{TEXT_POSITIONS} has {length} rows, more than the {text_positions} tokens of {TABLE};"
            " give --image_size"
        )
    return dict(
        image_size=grid * patch_size,
        patch_size=patch_size,
        text_length=length,
        text_positions=text_positions,
        vocab_size=tensors[WORDS].shape[0],
        width=width,
        depth=depth,
        num_heads=num_heads,
        mlp_dim=tensors[FIRST].shape[0],
        num_upper=len(fused) or num_upper or min(2 if depth <= 12 else 3, depth - 1),
        position="relative" if TABLE in tensors else "absolute",
        layer_scale=LAYER_SCALE if "transformer.blocks.0.gamma_1" in tensors else 0.0,
        num_answers=tensors[ANSWERS].shape[0] if ANSWERS in tensors else NUM_ANSWERS,
        **official_parts(tensors),
    )


def _check_tensors(tensors: Mapping[str, Any]) -> None:
    """Refuses tensors that lack what tells the sizes."""
    missing = [name for name in (PATCH, WORDS, FIRST, TYPES) if name not in tensors]
    if missing:
        raise ValueError(f"this is no VLMo: missing {missing}{_hint(tensors)}")
    check_ranks(
        "VLMo",
        tensors,
        {PATCH: 4, WORDS: 2, TYPES: 2, FIRST: 2, TABLE: 2, POSITIONS: 3, TEXT_POSITIONS: 2}
        | {ANSWERS: 2},
    )
    if (TABLE in tensors) == (POSITIONS in tensors):
        raise ValueError(
            f"a VLMo has either {TABLE} or {POSITIONS}; this file has"
            f" {'both' if TABLE in tensors else 'neither'}"
        )


def _numbers(pattern: str, names: Mapping[str, Any]) -> set[int]:
    """The numbers that a pattern's group finds at the start of names."""
    matches = [re.match(pattern, name) for name in names]
    return {int(match[1]) for match in matches if match}


def _absolute_grid(tokens: int) -> int:
    """Patches a side of absolute positions of `tokens` tokens."""
    grid = math.isqrt(max(tokens - 1, 0))
    if not grid or grid**2 + 1 != tokens:
        raise ValueError(
            f"{POSITIONS}: {tokens} tokens are not those of a square grid of patches, w^2 + 1"
        )
    return grid


def _relative_sizes(rows: int, grid: int | None, text_positions: int | None) -> tuple[int, int]:
    """Patches a side and longest text of a relative table of `rows` rows."""
    if grid:
        text, odd = divmod(rows - num_rows(grid, 0), 2)
        if odd or text < 2 or text_positions not in (None, text):
            raise ValueError(
                f"{TABLE}: {rows} rows do not fit {grid} x {grid} patches; give another"
                " --image_size"
            )
        return grid, text
    text = text_positions or STAGE_2_LENGTH
    side = math.isqrt(max(rows - num_rows(1, text) + 1, 0))
    if side % 2 == 0 or num_rows((side + 1) // 2, text) != rows:
        left = {grid: rows - num_rows(grid, 0) for grid in range(1, math.isqrt(rows) // 2 + 2)}
        fits = [(grid, offsets // 2) for grid, offsets in left.items() if offsets >= 4]
        raise ValueError(
            f"{TABLE}: {rows} rows are not those of texts of {text} tokens and any image size; give"
            " --image_size (pixels) or --text_positions (tokens of the longest text) of the model."
            f" Patches a side and tokens that fit: {fits}"
        )
    return (side + 1) // 2, text


def _hint(tensors: Mapping[str, Any]) -> str:
    if "patch_embed.proj.weight" in tensors or any(name.startswith("beit.") for name in tensors):
        return "; it looks like a BEiT: use --from=beit"
    if "transformer.blocks.0.mlp.fc1.weight" in tensors or any(
        name.startswith("vilt.") for name in tensors
    ):
        return "; it looks like a ViLT: use --from=vilt"
    if any(re.match(r"((en|de)coder\.)?blocks\.(input|group_1)\.", name) for name in tensors):
        return "; it looks like DALL-E's discrete VAE: use --from=dalle"
    return f"; it has {', '.join(sorted(tensors)[:3])}, ..."
