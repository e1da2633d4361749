"""Image-text contrast and the draw of hard negatives without ever holding the similarities of all
pairs: as contrastive.py and matching.py, in memory of local rows x chunk.

Each shard keeps its queries. The other modality comes past, shard by shard and chunk by chunk, and
of each row only statistics are kept. The gradient makes the similarities again:

    d loss / d image_i = scale / 2B * (sum_j (p_ij + q_ij) text_j - 2 text_i)

where p is the softmax of row i of image to text and q that of row j of text to image, which the
logarithms of both sums give. The gradient by the logarithm of the scale is sum_i image_i times
this.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.random import threefry2x32_p

from vlmo_jax.objectives.matching import Draw
from vlmo_jax.parallel.ring import first_row, map_shards, round_trip

Ids = tuple[jax.Array, ...]  # each [B]: rows that agree in any are no negatives of each other


class RowStatistics(NamedTuple):
    """What is kept of each query's similarities to all others, each [B].

    Attributes:
        log_sum: float32, logarithm of the sum of exponentials without those left out.
        own: float32, the logit of the query's own pair.
        best: int32, the column of the largest logit, the first of equal ones.
        hardest: float32, the largest logit that a draw may choose.
        lonely: bool, whether all others are left out, so that a draw is among all of them.
    """

    log_sum: jax.Array
    own: jax.Array
    best: jax.Array
    hardest: jax.Array
    lonely: jax.Array


class _Chunk(NamedTuple):
    """Similarities of a shard's queries to some columns, [b, chunk] each, and these columns."""

    logits: jax.Array
    own: jax.Array
    ignored: jax.Array
    columns: jax.Array
    rows: Any


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def chunked_contrast(
    image: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array,
    ids: Ids,
    chunk: int,
    how: Draw,
) -> tuple[jax.Array, RowStatistics, RowStatistics]:
    """Mean of both cross-entropies over the global batch; see `contrastive.contrastive_loss`.

    Args:
        image, text: [B, D] float32 of length 1, split by rows.
        logit_scale: scalar, logarithm of the scale.
        ids: arrays [B] of integers; rows that agree in one of them are no negatives.
        chunk: columns at a time, a divisor of the rows of a shard.
        how: hard negatives are drawn.

    Returns:
        Scalar float32; statistics of image to text, and of text to image, without gradient.
    """
    return _forward(image, text, logit_scale, ids, chunk, how)[0]


def _forward(image, text, logit_scale, ids, chunk, how):
    statistics = functools.partial(_statistics, chunk=chunk, how=how, size=len(image))

    def both(image, text, scale, ids):
        return statistics(image, text, scale, ids), statistics(text, image, scale, ids)

    to_text, to_image = map_shards(both, image, text, jnp.exp(logit_scale), ids)
    loss = 0.5 * sum((side.log_sum - side.own).mean() for side in (to_text, to_image))
    residuals = image, text, logit_scale, ids, to_text.log_sum, to_image.log_sum
    return (loss, to_text, to_image), residuals


def _backward(chunk, how, residuals, cotangents):
    image, text, logit_scale, ids, text_sums, image_sums = residuals
    scale = jnp.exp(logit_scale)

    def both(image, text, scale, ids, text_sums, image_sums):
        pull = functools.partial(_pull, chunk=chunk)
        return (
            pull(image, text_sums, text, image_sums, scale, ids),
            pull(text, image_sums, image, text_sums, scale, ids),
        )

    pulled = map_shards(both, image, text, scale, ids, text_sums, image_sums)
    factor = cotangents[0] * scale / (2 * len(image))
    by_image, by_text = jax.tree.map(lambda x: factor * x, pulled)
    return by_image, by_text, jnp.vdot(image, by_image).astype(logit_scale.dtype), None


chunked_contrast.defvjp(_forward, _backward)


def draw_chunked(
    key: jax.Array,
    query: jax.Array,
    other: jax.Array,
    logit_scale: jax.Array,
    statistics: RowStatistics,
    ids: Ids,
    chunk: int,
    how: Draw,
) -> jax.Array:
    """Draws for each row a column other than its own; see `matching.sample_hard_negatives`, which
    with this key draws the same, whatever the chunks and shards.

    Args:
        key: random key.
        query, other: [B, D] float32 of length 1.
        logit_scale, ids, chunk, how: as of `chunked_contrast`.
        statistics: of `query` to `other`.

    Returns:
        [B] int32.
    """
    words = jax.random.key_data(key)
    query, other = map(jax.lax.stop_gradient, (query, other))
    size = len(query)

    def draw(query, other, scale, ids, first, second, hardest, lonely):
        def visit(best, part):
            rows = first_row(len(query)) + jnp.arange(len(query))
            left_out = _own_or_elsewhere(part, rows, how, size)
            left_out |= part.ignored & ~lonely[:, None]
            logits = jnp.where(left_out, -jnp.inf, _drawable(part.logits, how))
            logits = logits - hardest[:, None]
            noise = _gumbel(first, second, rows, part.columns, size)
            return _larger(best, logits + noise, part.columns)

        return _walk(visit, _no_column(len(query)), query, {"x": other}, scale, ids, chunk)[1]

    scale = jnp.exp(jax.lax.stop_gradient(logit_scale))
    hardest, lonely = statistics.hardest, statistics.lonely
    return map_shards(draw, query, other, scale, ids, words[0], words[1], hardest, lonely)


def _statistics(query, other, scale, ids, *, chunk, how, size):
    """RowStatistics of a shard's queries out of a batch of a size."""
    rows = first_row(len(query)) + jnp.arange(len(query))
    nothing = jnp.full(len(query), -jnp.inf)

    def visit(carry, part):
        top, total, own, best, hardest, any_hardest = carry
        logits = jnp.where(part.ignored, -jnp.inf, part.logits)
        new_top = jnp.maximum(top, logits.max(axis=1))
        shift = jnp.where(jnp.isfinite(new_top), new_top, 0)
        total = total * jnp.exp(top - shift) + jnp.exp(logits - shift[:, None]).sum(axis=1)
        own = own + jnp.where(part.own, part.logits, 0).sum(axis=1)
        best = _larger(best, part.logits, part.columns)
        left_out = _own_or_elsewhere(part, rows, how, size)
        others = jnp.where(left_out, -jnp.inf, _drawable(part.logits, how))
        any_hardest = jnp.maximum(any_hardest, others.max(axis=1))
        others = jnp.where(part.ignored, -jnp.inf, others)
        hardest = jnp.maximum(hardest, others.max(axis=1))
        return new_top, total, own, best, hardest, any_hardest

    zeros = jnp.zeros(len(query))
    start = nothing, zeros, zeros, _no_column(len(query)), nothing, nothing
    top, total, own, best, hardest, any_hardest = _walk(
        visit, start, query, {"x": other}, scale, ids, chunk
    )
    shift = jnp.where(jnp.isfinite(top), top, 0)
    lonely = hardest == -jnp.inf
    return RowStatistics(
        jnp.log(total) + shift, own, best[1], jnp.where(lonely, any_hardest, hardest), lonely
    )


def _pull(query, query_sums, other, other_sums, scale, ids, *, chunk):
    """Sum over columns of both softmaxes times the column, less twice the own one: [b, D]."""

    def visit(total, part):
        logits = jnp.where(part.ignored, -jnp.inf, part.logits)
        shares = jnp.exp(logits - query_sums[:, None]) + jnp.exp(logits - part.rows["sums"][None])
        return total + jnp.matmul(shares, part.rows["x"], precision=jax.lax.Precision.HIGHEST)

    rows = {"x": other, "sums": other_sums}
    return _walk(visit, -2.0 * other, query, rows, scale, ids, chunk)


def _walk(visit, carry, query, rows, scale, ids, chunk):
    """Carries (carry, _Chunk) -> carry over all columns of a shard's queries."""
    size = len(query)
    row = first_row(size) + jnp.arange(size)

    def walk_shard(carry, visitor, shard):
        cut = jax.tree.map(lambda x: x.reshape(-1, chunk, *x.shape[1:]), visitor)
        starts = shard * size + jnp.arange(0, size, chunk)

        def step(carry, inputs):
            (rows, other_ids), start = inputs
            columns = start + jnp.arange(chunk)
            own = row[:, None] == columns[None]
            similar = jnp.matmul(query, rows["x"].T, precision=jax.lax.Precision.HIGHEST)
            part = _Chunk(scale * similar, own, _ignored(ids, other_ids, own), columns, rows)
            return visit(carry, part), None

        return jax.lax.scan(step, carry, (cut, starts))[0]

    return round_trip(walk_shard, carry, (rows, ids))


def _ignored(ids, other_ids, own):
    """[b, chunk] bool, pairs other than the own ones that agree in one of their ids."""
    ignored = jnp.zeros_like(own)
    for mine, theirs in zip(ids, other_ids, strict=True):
        ignored |= mine[:, None] == theirs[None]
    return ignored & ~own


def _own_or_elsewhere(part, rows, how, size):
    """[b, chunk] bool, the pairs that no draw may choose."""
    return part.own | how.elsewhere(rows, part.columns, size) if how.groups else part.own


def _drawable(logits, how):
    """What a draw goes by; never NaN."""
    return jnp.nan_to_num(how.soften(logits))


def _no_column(rows):
    """The best of no columns: (its logit, its number)."""
    return jnp.full(rows, -jnp.inf), jnp.zeros(rows, jnp.int32)


def _larger(best, logits, columns):
    """The larger of the best so far and the largest of a chunk, of equal ones the first column."""
    largest, column = logits.max(axis=1), columns[logits.argmax(axis=1)]
    found = (largest > best[0]) | ((largest == best[0]) & (column < best[1]))
    return jnp.where(found, largest, best[0]), jnp.where(found, column, best[1])


def _gumbel(first, second, rows, columns, size):
    """The entries at these rows and columns of jax.random.gumbel(key, [size, size]), [b, chunk].

    Threefry turns the number of an entry into its bits, so no other entry has to be made.

    Args:
        first, second: uint32, the words of the key.
        rows, columns: [b] and [chunk] int32.
        size: of the whole.
    """
    rows, columns = rows.astype(jnp.uint32)[:, None], columns.astype(jnp.uint32)[None]
    high, low = _entry_numbers(rows, columns, size)
    high, low = threefry2x32_p.bind(first, second, high, low)
    mantissa = jax.lax.shift_right_logical(high ^ low, jnp.uint32(9)) | jnp.uint32(0x3F800000)
    uniform = jax.lax.bitcast_convert_type(mantissa, jnp.float32) - 1.0
    tiny = jnp.finfo(jnp.float32).tiny
    return -jnp.log(-jnp.log(jnp.maximum(tiny, uniform * (1.0 - tiny) + tiny)))


def _entry_numbers(rows, columns, size):
    """The number rows * size + columns in 64 bits, as two uint32; size is below 2 ** 31."""
    upper, lower = rows >> 16, rows & 0xFFFF
    # rows * size = upper * size * 2 ** 16 + lower * size, each product in two halves.
    parts = []
    for factor, shift in ((upper, 16), (lower, 0)):
        near, far = factor * jnp.uint32(size & 0xFFFF), factor * jnp.uint32(size >> 16)
        parts += [(near, shift), (far, shift + 16)]
    high = jnp.zeros_like(rows + columns)
    low = high + columns
    for product, shift in parts:
        add_high, add_low = _shifted(product, shift)
        low = low + add_low
        high = high + add_high + (low < add_low).astype(jnp.uint32)
    return high, low


def _shifted(x, shift):
    """The number x * 2 ** shift in 64 bits, as two uint32; `shift` is 0, 16 or 32."""
    if shift == 0:
        return jnp.zeros_like(x), x
    if shift == 16:
        return x >> 16, x << 16
    return x, jnp.zeros_like(x)
