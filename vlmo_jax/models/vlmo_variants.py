"""VLMos that lack one thing that the paper argues for, to be compared with."""

from collections.abc import Mapping
from typing import Any

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import require
from vlmo_jax.layers.modality_experts import EXPERTS
from vlmo_jax.layers.mome_block import Spans
from vlmo_jax.layers.separate_attention import SeparateBlock
from vlmo_jax.models import memory, vlmo, vlmo_fields
from vlmo_jax.models.sizes import MeshShape

_TWO = tuple(EXPERTS)[:2]
TWO_EXPERT_FIELDS = {name: kind for name, kind in vlmo_fields.FIELDS.items() if name != "experts"}


class SeparateVLMo(vlmo.VLMo):
    """A VLMo in whose blocks images and texts have attention weights of their own.

    Args:
        fields: as of VLMo.
    """

    block = SeparateBlock


class TwoExpertVLMo(vlmo.VLMo):
    """A VLMo without vision-language experts: in the upper blocks of a fused pass, too, tokens go
    to the expert of their modality. With them goes the second contrastive branch.

    Args:
        fields: as of VLMo without `experts`.
    """

    def __init__(self, *, rngs: nnx.Rngs, **fields: Any) -> None:
        super().__init__(experts=_TWO, **fields, rngs=rngs)

    def run_fused(self, x: jax.Array, spans: Spans, **where: Any) -> jax.Array:
        """See `VLMo.run_fused`."""
        return self.transformer.by_spans(x, spans, **where)


def check_separate(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a SeparateVLMo that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    _refuse_captions(fields, "separate_vlmo")
    vlmo_fields.check_sizes(fields, mesh_shape)


def check_two_experts(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a TwoExpertVLMo that is impossible, or does not lie on the mesh.

    Args:
        fields: of `config.model`.
        mesh_shape: (data, fsdp, tensor).

    Raises:
        ConfigError: at the first impossible value.
    """
    _refuse_captions(fields, "two_expert_vlmo")
    heads = tuple(fields.get("heads", vlmo_fields.PRETRAIN_HEADS))
    require(
        "itc" not in heads,
        f"config.model.heads={heads} has a contrastive branch of the vision-language expert, which"
        " a two_expert_vlmo has not; use 'retrieval' in the place of 'itc', and config.task.kind="
        "'one_branch_pretrain'",
    )
    vlmo_fields.check_sizes(fields, mesh_shape)


def _refuse_captions(fields, kind):
    """Captions are written by the cached blocks of VLMo itself."""
    heads = tuple(fields.get("heads", ()))
    require(
        "caption" not in heads,
        f"config.model.heads={heads} writes captions, which config.model.kind={kind!r} does not;"
        " use kind 'vlmo'",
    )


def count_separate(fields: Mapping[str, Any]) -> int:
    """Parameters of a SeparateVLMo."""
    attention = 4 * fields["width"] ** 2 + 3 * fields["width"]
    return memory.count_vlmo(fields) + fields["depth"] * attention


def count_two_experts(fields: Mapping[str, Any]) -> int:
    """Parameters of a TwoExpertVLMo."""
    return memory.count_vlmo({**fields, "experts": _TWO})
