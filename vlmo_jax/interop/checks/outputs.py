"""Every output of the official model's forward passes, by its official name, computed with our
model.
"""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.layers.relative_position import image_index, joint_index, text_index


def _fused(model, token_ids, mask, image):
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
    blocks = range(model.transformer.depth)
    after = model.transformer.block_states(
        x, spans, "vision_language", blocks, mask=mask, index=index
    )
    return out | {f"block{number}": state for number, state in enumerate(after)}


def _text(model, token_ids, mask):
    """Outputs of `infer_text`, `infer_text_ft` and `infer_text_mlm`."""
    text, length = model.embed_text(token_ids), token_ids.shape[1]
    index = text_index(model.grid, length, model.text_positions) if model.relative else None
    last = model.transformer.depth - 1
    [raw] = model.transformer.block_states(
        text, (("text", length),), "text", [last], mask=mask, index=index
    )
    states = model.encode_text(text, mask)[:, 0]
    out = {"text_feats": states, "raw_cls_feats": raw[:, 0]}
    if model.itc_vl:
        out["cls_feats"], out["cls_vlffn_feats"] = model.text_features(token_ids, mask)
    if model.mlm_head:
        out["mlm_logits"] = model.mlm_head(states)
    return out


def _image(model, image):
    """Outputs of `infer_image` and `infer_image_ft`."""
    x = model.embed_image(image)
    index = image_index(model.grid) if model.relative else None
    spans, last = (("image", x.shape[1]),), model.transformer.depth - 1
    [raw] = model.transformer.block_states(x, spans, "image", [last], index=index)
    out = {"image_feats": model.encode_image(x)[:, 0], "raw_cls_feats": raw[:, 0]}
    if model.itc_vl:
        out["cls_feats"], out["cls_vlffn_feats"] = model.image_features(image)
    return out


def _text_ft(model, token_ids, mask):
    return _text(model, token_ids, mask) | (
        {"cls_feats": model.retrieval_text(token_ids, mask)} if model.itc else {}
    )


def _image_ft(model, image):
    return _image(model, image) | ({"cls_feats": model.retrieval_image(image)} if model.itc else {})


MODES = {
    "infer": lambda model, batch, kind: _fused(
        model, batch["token_ids"], batch["token_mask"], model.embed_image(batch["image"], kind)
    ),
    "infer_mlm": lambda model, batch, kind: _fused(
        model, batch["mlm_token_ids"], batch["token_mask"], model.embed_image(batch["image"], kind)
    ),
    "infer_text": lambda model, batch, kind: _text(model, batch["token_ids"], batch["token_mask"]),
    "infer_text_ft": lambda model, batch, kind: _text_ft(
        model, batch["token_ids"], batch["token_mask"]
    ),
    "infer_text_mlm": lambda model, batch, kind: _text(
        model, batch["mlm_token_ids"], batch["token_mask"]
    ),
    "infer_image": lambda model, batch, kind: _image(model, batch["image"]),
    "infer_image_ft": lambda model, batch, kind: _image_ft(model, batch["image"]),
}


@functools.partial(jax.jit, static_argnames=("graphdef", "names", "image_type"))
def model_outputs(
    graphdef: nnx.GraphDef,
    params: Any,
    batch: Mapping[str, jax.Array],
    names: tuple[str, ...],
    image_type: int = 1,
) -> dict[str, jax.Array]:
    """Outputs named MODE/OUTPUT as in fixtures, in float32.

    Args:
        graphdef, params: our model.
        batch: of `reference.official_batch`.
        names: tuple of outputs that are wanted; no other is computed.
        image_type: modality type of fused images, 2 for NLVR2's second.

    Returns:
        dict name -> array.

    Raises:
        ValueError: names outputs that the model does not have.
    """
    model = nnx.merge(graphdef, params)
    out: dict[str, jax.Array] = {}
    for mode in sorted({name.rpartition("/")[0] for name in names} & set(MODES)):
        out |= {
            f"{mode}/{name}": value for name, value in MODES[mode](model, batch, image_type).items()
        }
    unknown = sorted(set(names) - set(out))
    if unknown:
        raise ValueError(
            f"outputs that are not known of this model: {unknown}; known modes: {', '.join(MODES)}"
        )
    return {name: out[name] for name in names}
