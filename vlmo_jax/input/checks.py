"""Refusals of impossible arguments, before any work begins."""

from collections.abc import Iterable

from vlmo_jax.input.images.color_jitter import MAX_HUE, NUM_STRENGTHS
from vlmo_jax.input.images.randaugment import MAX_MAGNITUDE
from vlmo_jax.input.text.captions import CAPTION_MODES
from vlmo_jax.input.text.tokenizer import Tokenizer


def _refuse_unless(claims: Iterable[tuple[bool, str]]) -> None:
    for holds, message in claims:
        if not holds:
            raise ValueError(message)


def check_images(num_records: int, image_size: int) -> None:
    """Raises ValueError unless there are records and images have a size."""
    _refuse_unless(
        [
            (
                num_records > 0,
                "the data has no records; give a data set and a split that have some",
            ),
            (image_size >= 1, f"image_size={image_size} must be at least 1 pixel"),
        ]
    )


def check_hosts(batch_size: int, host_index: int, host_count: int) -> None:
    """Raises ValueError unless a batch divides over the hosts and this host is one of them."""
    _refuse_unless(
        [
            (host_count >= 1, f"host_count={host_count} must be at least 1"),
            (
                0 <= host_index < host_count,
                f"host_index={host_index} must be 0 to host_count - 1 = {host_count - 1}",
            ),
            (batch_size >= 1, f"batch_size={batch_size} must be at least 1"),
            (
                batch_size % max(host_count, 1) == 0,
                (
                    f"batch_size={batch_size} does not divide over host_count={host_count} hosts;"
                    f" use a multiple of {host_count}"
                ),
            ),
        ]
    )


def check_text(text_length: int, tokenizer: Tokenizer) -> None:
    """Raises ValueError unless a text has room for a token between [CLS] and [SEP]."""
    _refuse_unless(
        [
            (
                text_length >= 3,
                f"text_length={text_length} must be at least 3: [CLS], one token and [SEP]",
            ),
            (
                tokenizer.vocab_size > len(tokenizer.special_ids),
                "the tokenizer has special tokens only; train one on some text",
            ),
        ]
    )


def check_stream(start_step: int, end_step: int, max_broken_fraction: float) -> None:
    """Raises ValueError unless the steps are in order and the limit of broken records is a share."""
    _refuse_unless(
        [
            (
                0 <= start_step <= end_step,
                f"start_step={start_step} must be 0 to end_step={end_step}",
            ),
            (
                0 <= max_broken_fraction <= 1,
                f"config.data.max_broken_fraction={max_broken_fraction} must be 0 to 1",
            ),
        ]
    )


def check_captions(captions: str) -> None:
    """Raises ValueError unless it is a way to draw captions."""
    _refuse_unless(
        [
            (
                captions in CAPTION_MODES,
                (
                    f"captions={captions!r} is unknown; use one of"
                    f" {', '.join(map(repr, CAPTION_MODES))}"
                ),
            ),
        ]
    )


def check_views(
    crop_scale: tuple[float, float],
    randaugment: tuple[int, float] | None = None,
    color_jitter: tuple[float, float, float, float] | None = None,
) -> None:
    """Raises ValueError unless random views of an image can be made with these strengths."""
    smallest, largest = crop_scale
    num_ops, magnitude = randaugment or (0, 0)
    jitter = tuple(color_jitter or (0,) * NUM_STRENGTHS)
    _refuse_unless(
        [
            (
                0 < smallest <= largest <= 1,
                (
                    f"crop_scale={crop_scale} must be (smallest, largest) share of the area with 0"
                    " < smallest <= largest <= 1"
                ),
            ),
            (
                num_ops >= 0 and 0 <= magnitude <= MAX_MAGNITUDE,
                (
                    f"randaugment={randaugment} must be (number of operations, magnitude of 0 to"
                    f" {MAX_MAGNITUDE}), or None for none"
                ),
            ),
            (
                len(jitter) == NUM_STRENGTHS
                and all(0 <= strength <= 1 for strength in jitter)
                and jitter[-1] <= MAX_HUE,
                (
                    f"color_jitter={color_jitter} must be strengths of brightness, contrast,"
                    f" saturation (0 to 1) and hue (0 to {MAX_HUE}), or None for none"
                ),
            ),
        ]
    )


def check_masking(mask_rate: float, max_masked_tokens: int) -> None:
    """Raises ValueError unless some tokens can be masked."""
    _refuse_unless(
        [
            (0 < mask_rate <= 1, f"mask_rate={mask_rate} must be above 0 and at most 1"),
            (max_masked_tokens >= 1, f"max_masked_tokens={max_masked_tokens} must be at least 1"),
        ]
    )


def check_block_masking(image_size: int, patch_size: int, num_masked: int, min_block: int) -> None:
    """Raises ValueError unless blocks of patches can be masked in an image."""
    grid = image_size // max(patch_size, 1)
    _refuse_unless(
        [
            (
                patch_size >= 1 and image_size % patch_size == 0 and grid >= 2,
                (
                    f"image_size={image_size} must be a multiple, at least the double, of"
                    f" patch_size={patch_size}"
                ),
            ),
            (
                1 <= num_masked < grid**2,
                f"num_masked={num_masked} patches must be at least 1 and fewer than all {grid**2}",
            ),
            (
                1 <= min_block <= num_masked,
                (
                    f"min_block={min_block} patches must be at least 1 and at most"
                    f" num_masked={num_masked}"
                ),
            ),
        ]
    )


def check_loading(num_workers: int, num_threads: int, prefetch: int) -> None:
    """Raises ValueError unless batches can be made with so many processes, threads and batches
    ahead.
    """
    _refuse_unless(
        [
            (num_workers >= 0, f"num_workers={num_workers} must be 0 (no processes) or more"),
            (num_threads >= 1, f"num_threads={num_threads} must be at least 1"),
            (prefetch >= 1, f"prefetch={prefetch} must be at least 1 batch"),
        ]
    )
