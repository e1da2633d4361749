"""What the fields of `config.model` of a VLMo may be, and what its heads are built from."""

from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import ConfigError, require
from vlmo_jax.commands.fields import Extra, Kind, Several, Text
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.models.sizes import (
    SIZE,
    TRANSFORMER_FIELDS,
    MeshShape,
    check_transformer,
    check_vocabulary,
)

# What each head is built from; a model has the modules of its heads and no others.
HEADS = {
    "itc": ("itc", "itc_vl"),
    "itm": ("pooler", "itm_head"),
    "mlm": ("mlm_head",),
    "retrieval": ("itc",),
    "vqa": ("pooler", "vqa_head"),
    "nlvr2": ("pooler", "nlvr2_head"),
    "caption": ("mlm_head",),
}
PRETRAIN_HEADS = ("itc", "itm", "mlm")

# What the fields of `config.model` may be.
_NAMES = Several(Text(), what="names in brackets with a comma behind each", distinct=True)
FIELDS: dict[str, Kind] = {
    **TRANSFORMER_FIELDS,
    "text_length": SIZE,
    "text_positions": SIZE,
    "experts": Extra(_NAMES),
    "heads": Extra(_NAMES),
    "num_answers": Extra(SIZE),
}


def check_sizes(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a VLMo that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    check_transformer(fields, mesh_shape)
    experts, heads = fields.get("experts", tuple(EXPERTS)), fields.get("heads", PRETRAIN_HEADS)
    try:
        check_parts(experts, heads)
    except ValueError as error:
        raise ConfigError(f"config.model.{error}") from error
    fused = [head for head in heads if head != "mlm"]
    require(
        len(experts) == len(EXPERTS) or not fused,
        f"config.model.experts={tuple(experts)} has none for pairs, which {', '.join(fused)} of"
        f" config.model.heads read; use {tuple(EXPERTS)}",
    )
    check_vocabulary(fields, mesh_shape)
    length, positions = fields["text_length"], fields["text_positions"]
    require(
        length >= 3,
        f"config.model.text_length={length} has no room for [CLS], a token and [SEP];"
        " use at least 3",
    )
    require(
        length <= positions,
        f"config.model.text_length={length} is more than config.model.text_positions={positions};"
        " raise text_positions or shorten the texts",
    )


def check_parts(experts: Sequence[str], heads: Sequence[str]) -> None:
    """Raises ValueError unless VLMo can be built with these experts and heads."""
    allowed = [tuple(EXPERTS)[:count] for count in (2, 3)]
    if tuple(experts) not in allowed:
        raise ValueError(
            f"experts={tuple(experts)} is not allowed; use {allowed[0]} (stage 2) or {allowed[1]}"
        )
    unknown = [head for head in heads if head not in HEADS]
    if unknown:
        raise ValueError(
            f"heads={tuple(heads)}: {', '.join(map(repr, unknown))} unknown; use some of"
            f" {', '.join(HEADS)}"
        )
