"""Refusals of sizes that several models share; each model's own stand beside it.

`fields` are those of `config.model`, and a mesh's shape is (data, fsdp, tensor), see
`parallel.sharding.mesh_shape`. All raise ConfigError at the first impossible value.
"""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from vlmo_jax.commands.config_errors import multiple, one_of, positive, require
from vlmo_jax.layers.transformer import REMAT_POLICIES

# What `config.model.dtype` may be, beside "auto".
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MeshShape = tuple[int, int, int]


def check_transformer(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses sizes that no model with a MoME Transformer can have."""
    for name in ("image_size", "patch_size", "width", "num_heads", "mlp_dim", "init_std"):
        positive(f"model.{name}", fields[name])
    multiple(
        "model.image_size", fields["image_size"], fields["patch_size"], "config.model.patch_size"
    )
    multiple("model.width", fields["width"], fields["num_heads"], "config.model.num_heads")
    one_of("model.position", fields["position"], ("relative", "absolute"))
    one_of("model.remat", fields["remat"], tuple(REMAT_POLICIES))
    check_dtype(fields)
    require(
        1 <= fields["num_upper"] < fields["depth"],
        f"config.model.num_upper={fields['num_upper']} must be at least 1 and less than"
        f" config.model.depth={fields['depth']}",
    )
    require(
        fields["layer_scale"] >= 0,
        f"config.model.layer_scale={fields['layer_scale']} must be 0 (none) or more",
    )
    require(
        0 <= fields["drop_path_rate"] < 1,
        f"config.model.drop_path_rate={fields['drop_path_rate']} must be in [0, 1)",
    )
    _, fsdp, tensor = mesh_shape
    multiple("model.num_heads", fields["num_heads"], tensor, "config.mesh.tensor")
    multiple("model.mlp_dim", fields["mlp_dim"], tensor, "config.mesh.tensor")
    multiple("model.width", fields["width"], fsdp, "config.mesh.fsdp")


def check_vocabulary(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses words or codes that do not divide over the mesh."""
    positive("model.vocab_size", fields["vocab_size"])
    multiple("model.vocab_size", fields["vocab_size"], mesh_shape[2], "config.mesh.tensor")


def check_dtype(fields: Mapping[str, Any]) -> None:
    """Refuses unknown compute types."""
    one_of("model.dtype", fields["dtype"], ("auto", *DTYPES))
