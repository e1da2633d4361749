"""Refusals and counts of sizes that several models share; each model's own stand beside it.

`fields` are those of `config.model`, and a mesh's shape is (data, fsdp, tensor), see
`parallel.sharding.mesh_shape`. Refusals raise ConfigError at the first impossible value.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from vlmo_jax.commands.config_errors import multiple, require
from vlmo_jax.commands.fields import Choice, Extra, Flag, Kind, Number, Whole
from vlmo_jax.layers.attention_paths import PATHS, why_not_cudnn
from vlmo_jax.layers.transformer import REMAT_POLICIES

# What `config.model.dtype` may be, beside "auto".
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

MeshShape = tuple[int, int, int]

DEEPEST = 1000  # blocks, which are compiled one by one where they are not scanned
SIZE = Whole(above=0)
DTYPE = Choice(("auto", *DTYPES))

# What the fields of a model with a MoME Transformer may be.
TRANSFORMER_FIELDS: dict[str, Kind] = {
    "image_size": SIZE,
    "patch_size": SIZE,
    "vocab_size": SIZE,
    "width": SIZE,
    "depth": Whole(above=0, high=DEEPEST),
    "num_heads": SIZE,
    "mlp_dim": SIZE,
    "num_upper": Whole(),
    "position": Choice(("relative", "absolute")),
    "layer_scale": Number(low=0, high=1000, zero="none"),
    "drop_path_rate": Number(low=0, below=1),
    "init_std": Number(above=0, high=100),
    "dtype": DTYPE,
    "remat": Choice(tuple(REMAT_POLICIES)),
    "scan_layers": Extra(Flag()),
    "attention": Extra(Choice(PATHS)),
}


def compute_dtype(name: str) -> str:
    """The type that a model computes in: "auto" is float32 on CPU and bfloat16 elsewhere."""
    if name != "auto":
        return name
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def check_transformer(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses sizes that no model with a MoME Transformer can have."""
    multiple(
        "model.image_size", fields["image_size"], fields["patch_size"], "config.model.patch_size"
    )
    multiple("model.width", fields["width"], fields["num_heads"], "config.model.num_heads")
    require(
        1 <= fields["num_upper"] < fields["depth"],
        f"config.model.num_upper={fields['num_upper']} must be at least 1 and less than"
        f" config.model.depth={fields['depth']}",
    )
    _, fsdp, tensor = mesh_shape
    multiple("model.num_heads", fields["num_heads"], tensor, "config.mesh.tensor")
    multiple("model.mlp_dim", fields["mlp_dim"], tensor, "config.mesh.tensor")
    multiple("model.width", fields["width"], fsdp, "config.mesh.fsdp")
    if fields.get("attention") == "cudnn":
        dtype = DTYPES[compute_dtype(fields["dtype"])]
        reason = why_not_cudnn(dtype, fields["width"] // fields["num_heads"], tensor)
        require(
            not reason, f"config.model.attention='cudnn' cannot be: {reason}; use 'auto' or 'xla'"
        )


def check_vocabulary(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses words or codes that do not divide over the mesh."""
    multiple("model.vocab_size", fields["vocab_size"], mesh_shape[2], "config.mesh.tensor")


def count_block(width: int, mlp_dim: int) -> int:
    """Parameters of a PreNormBlock, or of a PostNormBlock without a memory."""
    return 4 * width**2 + 2 * width * mlp_dim + 9 * width + mlp_dim
