"""The MoME Transformer: blocks of shared attention and switched experts, lower and upper.

The lower blocks know image and text experts and run as one scan. The few upper blocks also know
the vision-language expert; they are unrolled, since the first may branch and the last computes
only the tokens that are read.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.layers.attention import SelfAttention, read_tokens
from vlmo_jax.layers.linear import INIT_STD, LayerNorm, drop_path, param
from vlmo_jax.layers.modality_experts import ModalityExperts
from vlmo_jax.layers.relative_position import position_bias
from vlmo_jax.parallel.sharding import constrain

REMAT_POLICIES = {
    "none": None,
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class MomeBlock(nnx.Module):
    """x += drop_path(gamma_1 attention(norm x)), then x += drop_path(gamma_2 expert(x))."""

    def __init__(
        self,
        num_experts,
        width,
        num_heads,
        mlp_dim,
        *,
        layer_scale=None,
        norm_epsilon=1e-6,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        layers = dict(dtype=dtype, init_std=init_std, rngs=rngs)
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)
        self.attention = SelfAttention(width, num_heads, **layers)
        self.experts = ModalityExperts(
            num_experts, width, mlp_dim, norm_epsilon=norm_epsilon, **layers
        )
        gamma = nnx.initializers.constant(layer_scale) if layer_scale else None
        self.attention_scale = param(gamma, (width,), (None,), rngs) if gamma else None
        self.expert_scale = param(gamma, (width,), (None,), rngs) if gamma else None

    def attend(self, x, *, mask, bias, rate, key, read=None):
        """The attention half. x [B, N, D] -> [B, N or R, D]; see SelfAttention for the rest."""
        y = self.attention(self.norm(x), mask=mask, bias=bias, read=read)
        x = x if read is None else read_tokens(x, read)
        return constrain(x + drop_path(_scaled(y, self.attention_scale), rate, key), "batch")

    def feed(self, x, spans, *, rate, key):
        """The expert half for a sequence of spans, each served by one expert.

        Args:
            x: [B, N, D].
            spans: (expert name, number of tokens) pairs that cover the N tokens in order. Each span
                draws its own drop-path mask.
            rate, key: drop-path rate and key.
        """
        keys = _split(key, len(spans))
        ends = np.cumsum([length for _, length in spans])
        parts = jnp.split(x, ends[:-1], axis=1) if len(spans) > 1 else [x]
        fed = [
            part
            + drop_path(
                _scaled(self.experts.serve(part, expert), self.expert_scale), rate, part_key
            )
            for (expert, _), part, part_key in zip(spans, parts, keys)
        ]
        return constrain(jnp.concatenate(fed, axis=1) if len(fed) > 1 else fed[0], "batch")

    def feed_branches(self, x, experts, *, rate, key):
        """The expert half for G branches: x [B, G, N, D], branch g served by `experts[g]`."""
        y = _scaled(self.experts(x, experts), self.expert_scale)
        keys = _split(key, len(experts))
        y = (
            jnp.stack([drop_path(y[:, g], rate, keys[g]) for g in range(len(experts))], axis=1)
            if key is not None
            else y
        )
        return constrain(x + y, "batch")


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
        drop_path_rate: rate of the last block; it grows linearly from 0 over depth.
        remat: "none", "block" (keep block inputs only) or "dots" (keep matrix products).
        scan_layers: False unrolls the lower blocks.
        dtype: compute type.
        init_std: deviation that matrices start from.
    """

    def __init__(
        self,
        depth,
        num_upper,
        width,
        num_heads,
        mlp_dim,
        *,
        lower_experts=2,
        upper_experts=3,
        layer_scale=None,
        table_rows=None,
        shared_table=False,
        norm_epsilon=1e-6,
        drop_path_rate=0.0,
        remat="none",
        scan_layers=True,
        dtype=jnp.float32,
        init_std=INIT_STD,
        rngs,
    ):
        self.depth, self.num_upper = depth, num_upper
        self.remat, self.scan_layers = remat, scan_layers
        self.drop_path_rates = tuple(float(r) for r in np.linspace(0.0, drop_path_rate, depth))

        def stack(size, num_experts):
            @nnx.split_rngs(splits=size)
            @nnx.vmap(axis_size=size, transform_metadata={nnx.PARTITION_NAME: "layers"})
            def make(rngs):
                return MomeBlock(
                    num_experts,
                    width,
                    num_heads,
                    mlp_dim,
                    layer_scale=layer_scale,
                    norm_epsilon=norm_epsilon,
                    dtype=dtype,
                    init_std=init_std,
                    rngs=rngs,
                )

            return make(rngs)

        self.lower = stack(depth - num_upper, lower_experts)
        self.upper = stack(num_upper, upper_experts)
        table = (1 if shared_table else depth, table_rows, num_heads)
        zeros = nnx.initializers.zeros
        self.relative_position_bias = (
            param(zeros, table, ("layers", None, None), rngs) if table_rows else None
        )
        self.norm = LayerNorm(width, epsilon=norm_epsilon, rngs=rngs)

    def __call__(self, x, spans, upper_experts, *, mask=None, index=None, read=None, key=None):
        """Runs all blocks and the final norm.

        Args:
            x: [B, N, D].
            spans: (expert, tokens) pairs of the lower blocks; see `MomeBlock.feed`.
            upper_experts: G names; the states after the lower blocks go through the upper blocks
                once with each of these experts. The first upper block's attention is computed once
                for all branches (with drop-path on, branches therefore share that one mask).
            mask: [B, N] bool, True for real tokens.
            index: int32 [N, N], rows of the relative position table.
            read: [B, R] int32, the tokens that a head reads; the last block computes no other.
            key: random key; None turns drop-path off.

        Returns:
            [B, G, N or R, D], after the final norm.
        """
        x = self.run_lower(x, spans, mask=mask, index=index, key=key)
        return self.norm(
            self.run_upper(x, upper_experts, mask=mask, index=index, read=read, key=key)
        )

    def run_lower(self, x, spans, *, mask=None, index=None, key=None):
        graphdef, blocks = nnx.split(self.lower)
        num_lower = self.depth - self.num_upper

        def apply(x, layer):
            params, number, rate, table = layer
            block = nnx.merge(graphdef, params)
            attend_key, feed_key = _split(
                None if key is None else jax.random.fold_in(key, number), 2
            )
            bias = None if table is None else position_bias(table, index)
            x = block.attend(x, mask=mask, bias=bias, rate=rate, key=attend_key)
            return block.feed(x, spans, rate=rate, key=feed_key), None

        tables = self._tables()
        tables = None if tables is None else tables[:num_lower]
        layers = (
            blocks,
            np.arange(num_lower),
            np.asarray(self.drop_path_rates[:num_lower], np.float32),
            tables,
        )
        apply = self._remat(apply, scanned=self.scan_layers)
        if self.scan_layers:
            return jax.lax.scan(apply, x, layers)[0]
        for number in range(num_lower):
            x, _ = apply(x, jax.tree.map(lambda leaf: leaf[number], layers))
        return x

    def run_upper(self, x, experts, *, mask=None, index=None, read=None, key=None):
        """The upper blocks without the final norm: x [B, N, D] -> [B, G, N or R, D]."""
        graphdef, blocks = nnx.split(self.upper)
        branches = len(experts)

        def fold(
            x,
        ):  # branches sit beside the batch axis, so that folding moves nothing between devices
            return x.reshape(-1, *x.shape[2:])

        def apply(x, params, table, *, number, read):
            block, layer = nnx.merge(graphdef, params), self.depth - self.num_upper + number
            rate = self.drop_path_rates[layer]
            attend_key, feed_key = _split(
                None if key is None else jax.random.fold_in(key, layer), 2
            )
            bias = None if table is None else position_bias(table, index)
            repeat = 1 if number == 0 else branches
            tile = lambda a: (
                None if a is None else jnp.repeat(a, repeat, axis=0) if repeat > 1 else a
            )
            y = block.attend(
                fold(x), mask=tile(mask), bias=bias, rate=rate, key=attend_key, read=tile(read)
            )
            y = y.reshape(len(x), -1, *y.shape[1:])
            y = jnp.broadcast_to(y, (len(x), branches, *y.shape[2:]))
            return block.feed_branches(y, experts, rate=rate, key=feed_key)

        x, tables = x[:, None], self._tables()
        for number in range(self.num_upper):
            params = jax.tree.map(lambda leaf: leaf[number], blocks)
            table = None if tables is None else tables[self.depth - self.num_upper + number]
            last = number == self.num_upper - 1
            block = functools.partial(apply, number=number, read=read if last else None)
            x = self._remat(block, scanned=False)(x, params, table)
        return x

    def _tables(self):
        """The table of every layer [layers, rows, H], or None."""
        if self.relative_position_bias is None:
            return None
        tables = self.relative_position_bias[...]
        return (
            tables
            if len(tables) == self.depth
            else jnp.broadcast_to(tables, (self.depth, *tables.shape[1:]))
        )

    def _remat(self, function, *, scanned):
        if self.remat == "none":
            return function
        # Outside a scan the compiler would merge what is computed again with the first time, and
        # keep it all in memory.
        return jax.checkpoint(function, policy=REMAT_POLICIES[self.remat], prevent_cse=not scanned)


def _scaled(x, gamma):
    return x if gamma is None else x * gamma[...].astype(x.dtype)


def _split(key, count):
    return [None] * count if key is None else jax.random.split(key, count)
