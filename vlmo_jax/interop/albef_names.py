"""Official names of an ALBEF's tensors, and their places in ours."""

from collections.abc import Iterator, Mapping
from typing import Any

from vlmo_jax.interop.places import (
    ROW,
    ROWS,
    SAME,
    NamedPlace,
    Place,
    dense_places,
    norm_places,
    patch_layout,
)
from vlmo_jax.interop.vit import vit_block_places
from vlmo_jax.interop.whole_bert import bert_places, language_head_places
from vlmo_jax.models.albef_fields import HEADS

# The first part of the names of what has a momentum tower, whose names end this part by "_m".
TOWERS = ("visual_encoder", "text_encoder", "vision_proj", "text_proj")


def momentum_name(name: str) -> str:
    """The name of a tensor's momentum tower; names without one come back as they are."""
    first, dot, rest = name.partition(".")
    return f"{first}_m{dot}{rest}" if first in TOWERS else name


def albef_places(fields: Mapping[str, Any], *, prefix: str = "bert.") -> dict[str, Place]:
    """Every official tensor of a model after `vit.split_biases`, without momentum towers, and its
    place in ours.

    Args:
        fields: of `config.model`.
        prefix: between `text_encoder.` and BERT's names; files of fine-tuning have none.

    Returns:
        dict official name -> Place.
    """
    places = {
        **dict(_vision_places(fields)),
        **bert_places(
            f"text_encoder.{prefix}",
            ("text_encoder",),
            depth=fields["depth"],
            num_heads=fields["num_heads"],
            fusion_depth=fields["fusion_depth"],
        ),
    }
    built = {HEADS[head] for head in fields["heads"]}
    if "itc" in built:
        places["temp"] = Place(("itc", "temperature"), (), SAME)
        places |= dense_places("vision_proj", ("itc", "image"))
        places |= dense_places("text_proj", ("itc", "text"))
    if "itm_head" in built:
        places |= dense_places("itm_head", ("itm_head",))
    if "mlm_head" in built:
        places |= language_head_places("text_encoder.cls.predictions.", ("mlm_head",))
    return places


def _vision_places(fields: Mapping[str, Any]) -> Iterator[NamedPlace]:
    """(name, Place) of the ViT."""
    name, root = "visual_encoder.", ("image_encoder", "blocks")
    embedding, num_heads = ("image_embedding",), fields["vision_num_heads"]
    yield f"{name}cls_token", Place((*embedding, "class_token"), (), ROW)
    yield f"{name}pos_embed", Place((*embedding, "position"), (), ROWS)
    patch = patch_layout(fields["patch_size"])
    yield f"{name}patch_embed.proj.weight", Place((*embedding, "patch"), (), patch)
    yield f"{name}patch_embed.proj.bias", Place((*embedding, "patch_bias"), (), SAME)
    for number in range(fields["vision_depth"]):
        yield from vit_block_places(f"{name}blocks.{number}.", root, number, num_heads)
    yield from norm_places(f"{name}norm", ("image_norm",))
