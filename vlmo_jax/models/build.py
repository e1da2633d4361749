"""The one way from a config to a module, used by runs, evaluation, conversion and warm starts."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.models.beit import BEiT
from vlmo_jax.models.dvae import DiscreteVAE
from vlmo_jax.models.vlmo import VLMo

# What `config.model.kind` may be. The other fields of `config.model` are arguments of the module.
MODELS = {"vlmo": VLMo, "beit": BEiT, "discrete_vae": DiscreteVAE}

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}

ModelMaker = Callable[[nnx.Rngs], nnx.Module]


def compute_dtype(name: str) -> str:
    """The type that a model computes in: "auto" is float32 on CPU and bfloat16 elsewhere."""
    if name != "auto":
        return name
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def model_maker(fields: Mapping[str, Any], **changes: Any) -> ModelMaker:
    """The constructor of a model with all its arguments but the random numbers.

    Args:
        fields: mapping like `config.model`: `kind` out of MODELS, `dtype` by name, and arguments.
        changes: arguments that take the place of fields, such as `decoder=False`.

    Raises:
        ValueError: an unknown kind.
    """
    arguments = {**fields, **changes}
    kind = arguments.pop("kind", None)
    if kind not in MODELS:
        raise ValueError(f"config.model.kind={kind!r} is not known; use one of {', '.join(MODELS)}")
    arguments["dtype"] = DTYPES[compute_dtype(arguments.get("dtype", "float32"))]
    return functools.partial(_construct, MODELS[kind], arguments)


def _construct(module: Callable[..., nnx.Module], arguments: dict, rngs: nnx.Rngs) -> nnx.Module:
    return module(**arguments, rngs=rngs)


def abstract_model(make: ModelMaker) -> tuple[nnx.GraphDef, nnx.State]:
    """Shapes of a model without its memory.

    Args:
        make: function of nnx.Rngs that returns the module.

    Returns:
        graphdef, and the nnx.State whose Variables carry shapes and logical axes.
    """
    graphdefs = []

    def split() -> nnx.State:
        with nnx.use_eager_sharding(False):
            graphdef, state = nnx.split(make(nnx.Rngs(0)))
        graphdefs.append(graphdef)
        return state

    # Not nnx.eval_shape: under a mesh it reads our logical axes as mesh axes.
    abstract_state = jax.eval_shape(split)
    return graphdefs[-1], abstract_state


def abstract_params(make: ModelMaker) -> dict:
    """The parameters of `abstract_model` as a pure nested dict of jax.ShapeDtypeStruct."""
    return nnx.to_pure_dict(abstract_model(make)[1])


def random_params(make: ModelMaker, seed: int) -> dict:
    """The parameters that a seed gives, as a pure nested dict; may be traced."""
    with nnx.use_eager_sharding(False):
        return nnx.to_pure_dict(nnx.state(make(nnx.Rngs(seed))))


def count_params(params: Any) -> int:
    """Number of parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def check_model(fields, mesh_shape):
    """TEMPORARY"""
