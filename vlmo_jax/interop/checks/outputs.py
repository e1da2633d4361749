"""Every output of the official model's forward passes, by its official name, computed with our
model.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.layers.relative_position import image_index, joint_index, position_bias, text_index
from vlmo_jax.layers.transformer import MomeBlock
from vlmo_jax.models.vlmo import VLMo

Batch = dict[str, jax.Array]
Outputs = dict[str, jax.Array]


def block_states(
    model: VLMo,
    x: jax.Array,
    spans: tuple[tuple[str, int], ...],
    upper_expert: str,
    *,
    mask: jax.Array | None,
    index: np.ndarray | None,
) -> Iterator[jax.Array]:
    """The states after every block, bottom up, before the final norm.

    Args:
        model: ours.
        x: embedded tokens [B, N, D].
        spans: (expert, tokens) pairs, which serve the tokens in the lower blocks.
        upper_expert: serves all tokens in the upper blocks.
        mask: tokens that are no padding, [B, N] bool, or None.
        index: rows of the relative position table, [N, N], or None.

    Yields:
        States [B, N, D].
    """
    transformer = model.transformer
    num_lower = transformer.depth - transformer.num_upper
    for number in range(transformer.depth):
        if number < num_lower:
            block, served = _block(transformer.lower, number), spans
        else:
            block = _block(transformer.upper, number - num_lower)
            served = ((upper_expert, x.shape[1]),)
        bias = None
        if index is not None:
            bias = position_bias(transformer.relative_position_bias[number], index)
        x = block.attend(x, mask=mask, bias=bias, rate=0.0, key=None)
        x = block.feed(x, served, rate=0.0, key=None)
        yield x


def _block(stack: MomeBlock, number: int) -> MomeBlock:
    """One of the blocks of a stack."""
    graphdef, params = nnx.split(stack)
    return nnx.merge(graphdef, jax.tree.map(lambda stacked: stacked[number], params))


def _fused(model: VLMo, token_ids: jax.Array, mask: jax.Array, image: jax.Array) -> Outputs:
    """Outputs of `infer` and `infer_mlm`: token_ids [B, T] with embedded images [B, P, D]."""
    text, length = model.embed_text(token_ids), token_ids.shape[1]
    states = model.encode_fused(text, mask, image)
    out = {
        "text_feats": states[:, :length],
        "image_feats": states[:, length:],
        "raw_cls_feats": states[:, 0],
    }
    if model.pooler:
        out["cls_feats"] = model.pooler(states[:, 0])
    if model.itm_head:
        out["itm_logits"] = model.itm_head(out["cls_feats"])
    if model.mlm_head:
        out["mlm_logits"] = model.mlm_head(states[:, :length])
    index = joint_index(model.grid, length, model.text_positions) if model.relative else None
    spans = (("text", length), ("image", image.shape[1]))
    mask = jnp.pad(mask, ((0, 0), (0, image.shape[1])), constant_values=True)
    x = jnp.concatenate([text, image], axis=1)
    blocks = block_states(model, x, spans, "vision_language", mask=mask, index=index)
    return out | {f"block{number}": state for number, state in enumerate(blocks)}


def _text(model: VLMo, token_ids: jax.Array, mask: jax.Array) -> Outputs:
    """Outputs of `infer_text`, `infer_text_ft` and `infer_text_mlm`."""
    text, length = model.embed_text(token_ids), token_ids.shape[1]
    index = text_index(model.grid, length, model.text_positions) if model.relative else None
    *_, raw = block_states(model, text, (("text", length),), "text", mask=mask, index=index)
    states = model.encode_text(text, mask)[:, 0]
    out = {"text_feats": states, "raw_cls_feats": raw[:, 0]}
    if model.itc_vl:
        out["cls_feats"], out["cls_vlffn_feats"] = model.text_features(token_ids, mask)
    if model.mlm_head:
        out["mlm_logits"] = model.mlm_head(states)
    return out


def _image(model: VLMo, image: jax.Array) -> Outputs:
    """Outputs of `infer_image` and `infer_image_ft`."""
    x = model.embed_image(image)
    index = image_index(model.grid) if model.relative else None
    *_, raw = block_states(model, x, (("image", x.shape[1]),), "image", mask=None, index=index)
    out = {"image_feats": model.encode_image(x)[:, 0], "raw_cls_feats": raw[:, 0]}
    if model.itc_vl:
        out["cls_feats"], out["cls_vlffn_feats"] = model.image_features(image)
    return out


def _infer(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    image = model.embed_image(batch["image"], image_type)
    return _fused(model, batch["token_ids"], batch["token_mask"], image)


def _infer_mlm(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    image = model.embed_image(batch["image"], image_type)
    return _fused(model, batch["mlm_token_ids"], batch["token_mask"], image)


def _infer_text(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    return _text(model, batch["token_ids"], batch["token_mask"])


def _infer_text_ft(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    out = _infer_text(model, batch, image_type)
    if model.itc:
        out["cls_feats"] = model.retrieval_text(batch["token_ids"], batch["token_mask"])
    return out


def _infer_text_mlm(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    return _text(model, batch["mlm_token_ids"], batch["token_mask"])


def _infer_image(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    return _image(model, batch["image"])


def _infer_image_ft(model: VLMo, batch: Batch, image_type: int) -> Outputs:
    out = _infer_image(model, batch, image_type)
    if model.itc:
        out["cls_feats"] = model.retrieval_image(batch["image"])
    return out


MODES: dict[str, Callable[[VLMo, Batch, int], Outputs]] = {
    "infer": _infer,
    "infer_mlm": _infer_mlm,
    "infer_text": _infer_text,
    "infer_text_ft": _infer_text_ft,
    "infer_text_mlm": _infer_text_mlm,
    "infer_image": _infer_image,
    "infer_image_ft": _infer_image_ft,
}


@functools.partial(jax.jit, static_argnames=("graphdef", "names", "image_type"))
def model_outputs(
    graphdef: nnx.GraphDef, params: Any, batch: Batch, names: tuple[str, ...], image_type: int = 1
) -> Outputs:
    """Outputs named MODE/OUTPUT as in fixtures, in float32.

    Args:
        graphdef: of our model.
        params: its parameters.
        batch: of `reference.official_batch`.
        names: outputs that are wanted; no other is computed.
        image_type: modality type of fused images, 2 for NLVR2's second.

    Returns:
        dict name -> array.

    Raises:
        ValueError: names outputs that the model does not have.
    """
    model = nnx.merge(graphdef, params)
    out: Outputs = {}
    wanted = {name.rpartition("/")[0] for name in names}
    for mode in sorted(wanted & set(MODES)):
        outputs = MODES[mode](model, batch, image_type)
        out |= {f"{mode}/{name}": value for name, value in outputs.items()}
    unknown = sorted(set(names) - set(out))
    if unknown:
        raise ValueError(
            f"outputs that are not known of this model: {unknown}; known modes: {', '.join(MODES)}"
        )
    return {name: out[name] for name in names}
