"""The MoME Transformer: blocks of shared attention and switched experts, lower and upper.

The lower blocks know image and text experts and run as one scan. The few upper blocks also know
the vision-language expert; they are unrolled, since the first may branch and the last computes
only the tokens that are read.
"""

import functools
from collections.abc import Callable, Collection, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from vlmo_jax.layers.attention import Mask, read_tokens
from vlmo_jax.layers.attention_paths import PaddedAtEnd, takes_cudnn
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, param, split_key
from vlmo_jax.layers.mome_block import MomeBlock, Spans
from vlmo_jax.layers.relative_position import position_bias

REMAT_POLICIES = {
    "none": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class MomeTransformer(nnx.Module):
    """`depth` MoME blocks, the last `num_upper` with a vision-language expert.

    Args:
        depth, num_upper, width, num_heads, mlp_dim: sizes.
        lower_experts, upper_experts: how many of image, text, vision-language, in this order, the
            blocks of each stack hold.
        layer_scale: initial value of gamma_1 and gamma_2, 0 or None for none.
        table_rows: rows of the relative position table, or None for no relative bias.
        shared_table: one table [1, rows, H] for all layers instead of one a layer.
        norm_epsilon: epsilon of all norms.
        final_norm: whether a call ends with a norm.
        drop_path_rate: rate of the last block; it grows linearly from 0 over depth.
        remat: "none", "block" (keep block inputs only) or "dots" (keep matrix products).
        scan_layers: False unrolls the lower blocks.
        attention: how it is computed, one of attention_paths.PATHS.
        dtype: compute type.
        init_std: deviation that matrices start from.
        block: what the stacks are made of.
    """

    def __init__(
        self,
        depth: int,
        num_upper: int,
        width: int,
        num_heads: int,
        mlp_dim: int,
        *,
        lower_experts: int = 2,
        upper_experts: int = 3,
        layer_scale: float | None = None,
        table_rows: int | None = None,
        shared_table: bool = False,
        norm_epsilon: float = 1e-6,
        final_norm: bool = True,
        drop_path_rate: float = 0.0,
        remat: str = "none",
        scan_layers: bool = True,
        attention: str = "xla",
        dtype: DTypeLike = jnp.float32,
        init_std: float = INIT_STD,
        block: type[MomeBlock] = MomeBlock,
        rngs: nnx.Rngs,
    ) -> None:
        self.depth, self.num_upper = depth, num_upper
        self.attention, self.dtype = attention, dtype
        self.head_shape = (num_heads, width // num_heads)
        self.remat, self.scan_layers = remat, scan_layers
        self.drop_path_rates = tuple(float(r) for r in np.linspace(0.0, drop_path_rate, depth))

        def stack(size: int, num_experts: int) -> MomeBlock:
            @nnx.split_rngs(splits=size)
            @nnx.vmap(axis_size=size, transform_metadata={nnx.PARTITION_NAME: "layers"})
            def make(rngs: nnx.Rngs) -> MomeBlock:
                return block(
                    num_experts,
                    width,
                    num_heads,
                    mlp_dim,
                    layer_scale=layer_scale,
                    norm_epsilon=norm_epsilon,
                    attention=attention,
                    dtype=dtype,
                    init_std=init_std,
                    rngs=rngs,
                )

            return make(rngs)

        self.lower = stack(depth - num_upper, lower_experts)
        self.upper = stack(num_upper, upper_experts)
        zeros, axes = nnx.initializers.zeros, ("layers", None, None)
        tables = 1 if shared_table else depth
        self.relative_position_bias = (
            param(zeros, (tables, table_rows, num_heads), axes, rngs) if table_rows else None
        )
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs) if final_norm else None

    def __call__(
        self,
        x: jax.Array,
        spans: Spans,
        upper_experts: Sequence[str],
        *,
        mask: Mask = None,
        index: np.ndarray | None = None,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """Runs all blocks and the final norm, if there is one.

        Args:
            x: [B, N, D].
            spans: (expert, tokens) pairs of the lower blocks; see `MomeBlock.feed`.
            upper_experts: G names; the states after the lower blocks go through the upper blocks
                once with each of these experts. The first upper block's attention is computed once
                for all branches (with drop-path on, branches therefore share that one mask).
            mask: [B, N] bool, True for real tokens, PaddedAtEnd, or query by key; see
                layers/attention.py.
            index: int32 [N, N], rows of the relative position table.
            read: [B, R] int32, the tokens that a head reads; the last block computes no other.
            key: random key; None turns drop-path off.

        Returns:
            [B, G, N or R, D].
        """
        tokens = x.shape[1]
        x, spans, mask, index = self._lay_out(x, spans, mask, index)
        x, _ = self.run_lower(x, spans, mask=mask, index=index, key=key)
        x, _ = self.run_upper(x, upper_experts, spans, mask=mask, index=index, read=read, key=key)
        x = x if read is not None else x[:, :, :tokens]
        return x if self.norm is None else self.norm(x)

    def by_spans(
        self,
        x: jax.Array,
        spans: Spans,
        *,
        mask: Mask = None,
        index: np.ndarray | None = None,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> jax.Array:
        """As a call, but in the upper blocks, too, each span is served by its own expert.

        Args:
            x, spans, mask, index, read, key: as there.

        Returns:
            [B, N or R, D], after the final norm.
        """
        tokens = x.shape[1]
        x, spans, mask, index = self._lay_out(x, spans, mask, index)
        x, _ = self.run_lower(x, spans, mask=mask, index=index, key=key)
        graphdef, blocks = nnx.split(self.upper)
        tables, num_lower = self.tables(), self.depth - self.num_upper

        def apply(x: jax.Array, layer: tuple) -> jax.Array:
            return _apply_spans(graphdef, x, layer, spans, mask=mask, index=index, key=key)

        for number in range(num_lower, self.depth):
            table = None if tables is None else tables[number]
            params = _slice(blocks, number - num_lower)
            layer = (params, number, self.drop_path_rates[number], table)
            x = self._remat(apply, scanned=False)(x, layer)
        x = x[:, :tokens] if read is None else read_tokens(x, read)
        return x if self.norm is None else self.norm(x)

    def block_states(
        self,
        x: jax.Array,
        spans: Spans,
        upper_expert: str,
        blocks: Sequence[int],
        *,
        mask: Mask = None,
        index: np.ndarray | None = None,
        key: jax.Array | None = None,
    ) -> list[jax.Array]:
        """What chosen blocks give, before the final norm.

        Args:
            x, spans, mask, index, key: as in a call.
            upper_expert: of the upper blocks.
            blocks: numbers of the blocks, 0 .. depth - 1.

        Returns:
            The states [B, N, D] after each of these blocks, in their order.
        """
        tokens = x.shape[1]
        x, spans, mask, index = self._lay_out(x, spans, mask, index)
        x, lower = self.run_lower(x, spans, mask=mask, index=index, key=key, keep=blocks)
        _, upper = self.run_upper(
            x, (upper_expert,), spans, mask=mask, index=index, key=key, keep=blocks
        )
        states = lower | {number: state[:, 0] for number, state in upper.items()}
        return [states[number][:, :tokens] for number in blocks]

    def _lay_out(
        self, x: jax.Array, spans: Spans, mask: Mask, index: np.ndarray | None
    ) -> tuple[jax.Array, Spans, Mask, np.ndarray | None]:
        """A sequence and what is said of it, for cuDNN's kernel with an even number of tokens: the
        last is padding where it was odd.
        """
        rows, tokens, _ = x.shape
        heads, head_width = self.head_shape
        shape = (rows, heads, tokens, head_width)
        biased = index is not None
        if tokens % 2 == 0 or not takes_cudnn(
            self.attention, shape, self.dtype, mask=mask, biased=biased
        ):
            return x, spans, mask, index
        real = mask.mask if isinstance(mask, PaddedAtEnd) else jnp.ones((rows, tokens), bool)
        *others, (expert, length) = spans
        return (
            jnp.pad(x, ((0, 0), (0, 1), (0, 0))),
            (*others, (expert, length + 1)),
            PaddedAtEnd(jnp.pad(real, ((0, 0), (0, 1)))),
            None if index is None else np.pad(index, (0, 1)),
        )

    @jax.named_scope("lower_blocks")
    def run_lower(
        self,
        x: jax.Array,
        spans: Spans,
        *,
        mask: Mask = None,
        index: np.ndarray | None = None,
        key: jax.Array | None = None,
        keep: Collection[int] = (),
    ) -> tuple[jax.Array, dict[int, jax.Array]]:
        """The lower blocks: x [B, N, D] to [B, N, D], and the same after those in `keep`."""
        graphdef, blocks = nnx.split(self.lower)
        num_lower = self.depth - self.num_upper
        kept = [number for number in range(num_lower) if number in keep]

        def apply(x: jax.Array, layer: tuple) -> tuple[jax.Array, jax.Array | None]:
            x = _apply_spans(graphdef, x, layer, spans, mask=mask, index=index, key=key)
            return x, x if kept else None

        tables = self.tables()
        tables = None if tables is None else tables[:num_lower]
        rates = np.asarray(self.drop_path_rates[:num_lower], np.float32)
        layers = (blocks, np.arange(num_lower), rates, tables)
        apply = self._remat(apply, scanned=self.scan_layers)
        if self.scan_layers:
            x, states = jax.lax.scan(apply, x, layers)
            return x, {number: states[number] for number in kept}
        states = {}
        for number in range(num_lower):
            x, states[number] = apply(x, _slice(layers, number))
        return x, {number: states[number] for number in kept}

    @jax.named_scope("upper_blocks")
    def run_upper(
        self,
        x: jax.Array,
        experts: Sequence[str],
        spans: Spans,
        *,
        mask: Mask = None,
        index: np.ndarray | None = None,
        read: jax.Array | None = None,
        key: jax.Array | None = None,
        keep: Collection[int] = (),
        numbers: Sequence[int] | None = None,
    ) -> tuple[jax.Array, dict[int, jax.Array]]:
        """The upper blocks, or those that `numbers` tells: x [B, N, D] to [B, G, N or R, D], and
        [B, G, N, D] after those in `keep`.
        """
        graphdef, blocks = nnx.split(self.upper)
        branches, num_lower = len(experts), self.depth - self.num_upper

        def apply(
            x: jax.Array, params: Any, table: jax.Array | None, *, number: int, read: Any
        ) -> jax.Array:
            block, rate = nnx.merge(graphdef, params), self.drop_path_rates[number]
            attend_key, feed_key = split_key(_layer_key(key, number), 2)
            bias = _bias(table, index)
            # The branches stand beside the rows of the batch, so that this moves nothing between
            # devices. Before the first upper block there is one.
            rows, count = x.shape[:2]
            y = block.attend(
                x.reshape(rows * count, *x.shape[2:]),
                mask=_repeat(mask, count),
                bias=bias,
                rate=rate,
                key=attend_key,
                read=_repeat(read, count),
                spans=spans,
            )
            y = y.reshape(rows, count, *y.shape[1:])
            y = jnp.broadcast_to(y, (rows, branches, *y.shape[2:]))
            return block.feed_branches(y, experts, rate=rate, key=feed_key)

        x, tables, states = x[:, None], self.tables(), {}
        for number in range(num_lower, self.depth) if numbers is None else numbers:
            last = number == self.depth - 1
            block = functools.partial(apply, number=number, read=read if last else None)
            params = _slice(blocks, number - num_lower)
            table = None if tables is None else tables[number]
            x = self._remat(block, scanned=False)(x, params, table)
            if number in keep:
                states[number] = x
        return x, states

    def tables(self) -> jax.Array | None:
        """The table of every layer [layers, rows, H], or None."""
        if self.relative_position_bias is None:
            return None
        tables = self.relative_position_bias[...]
        if len(tables) == self.depth:
            return tables
        return jnp.broadcast_to(tables, (self.depth, *tables.shape[1:]))

    def _remat(self, function: Callable, *, scanned: bool) -> Callable:
        if self.remat == "none":
            return function
        # Outside a scan the compiler would merge what is computed again with the first time, and
        # keep it all in memory.
        return jax.checkpoint(function, policy=REMAT_POLICIES[self.remat], prevent_cse=not scanned)


def _apply_spans(graphdef, x, layer, spans, *, mask, index, key):
    """A block [B, N, D] -> [B, N, D] whose experts serve spans."""
    params, number, rate, table = layer
    block = nnx.merge(graphdef, params)
    attend_key, feed_key = split_key(_layer_key(key, number), 2)
    bias = _bias(table, index)
    x = block.attend(x, mask=mask, bias=bias, rate=rate, key=attend_key, spans=spans)
    return block.feed(x, spans, rate=rate, key=feed_key)


def _bias(table, index):
    return None if table is None else position_bias(table, index)


def _layer_key(key, number):
    return None if key is None else jax.random.fold_in(key, number)


def _slice(stacked, number):
    """Layer `number` of a tree of arrays [layers, ...]."""
    return jax.tree.map(lambda leaf: leaf[number], stacked)


def _repeat(x, times):
    """Each row of `x` [B, ...] `times` times, one copy beside the other.

    None stays None, and [1, ...], which stands for all rows, stays as it is.
    """
    if isinstance(x, PaddedAtEnd):
        return PaddedAtEnd(_repeat(x.mask, times))
    return x if x is None or times == 1 or x.shape[0] == 1 else jnp.repeat(x, times, axis=0)
