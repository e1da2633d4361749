"""The one way from a config to a module, used by runs, evaluation, conversion and warm starts."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from flax import nnx

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.commands.fields import Anything, Kind, check_fields
from vlmo_jax.models import (
    albef,
    albef_fields,
    beit,
    classifier,
    clip,
    dual_vlmo,
    dvae,
    flops,
    late_vlmo,
    memory,
    segmenter,
    twin_vlmo,
    vilbert,
    vilbert_fields,
    vilt,
    vilt_fields,
    vlmo,
    vlmo_fields,
    vlmo_variants,
    vse_flops,
    vse_infinity,
)
from vlmo_jax.models.sizes import DTYPES, MeshShape, compute_dtype


class ModelKind(NamedTuple):
    """What a kind of model brings.

    Attributes:
        module: its constructor, whose arguments are the fields of `config.model` beside `kind`.
        fields: what they may be.
        check_sizes: function of such fields and a mesh's shape that refuses what does not go
            together.
        num_params, num_values: of memory.py, what it takes at least.
        pass_flops: function of such fields, what its passes cost; None for a model that is not
            searched with or asked.
    """

    module: type[nnx.Module]
    fields: Mapping[str, Kind]
    check_sizes: Callable[[Mapping[str, Any], MeshShape], None]
    num_params: Callable[[Mapping[str, Any]], int]
    num_values: Callable[..., tuple[int, int]]
    pass_flops: Callable[[Mapping[str, Any]], flops.PassFlops] | None = None


# What `config.model.kind` may be.
MODELS = {
    "vlmo": ModelKind(
        vlmo.VLMo,
        vlmo_fields.FIELDS,
        vlmo_fields.check_sizes,
        memory.count_vlmo,
        memory.values_of_transformer,
        flops.vlmo_passes,
    ),
    "dual_vlmo": ModelKind(
        dual_vlmo.DualVLMo,
        vlmo_fields.FIELDS,
        dual_vlmo.check_sizes,
        memory.count_dual_vlmo,
        memory.values_of_dual_vlmo,
        flops.vlmo_passes,
    ),
    "separate_vlmo": ModelKind(
        vlmo_variants.SeparateVLMo,
        vlmo_fields.FIELDS,
        vlmo_variants.check_separate,
        vlmo_variants.count_separate,
        memory.values_of_transformer,
        flops.vlmo_passes,
    ),
    "two_expert_vlmo": ModelKind(
        vlmo_variants.TwoExpertVLMo,
        vlmo_variants.TWO_EXPERT_FIELDS,
        vlmo_variants.check_two_experts,
        vlmo_variants.count_two_experts,
        memory.values_of_transformer,
        flops.vlmo_passes,
    ),
    "late_vlmo": ModelKind(
        late_vlmo.LateVLMo,
        vlmo_fields.FIELDS,
        late_vlmo.check_sizes,
        memory.count_vlmo,
        memory.values_of_transformer,
        flops.late_passes,
    ),
    "twin_vlmo": ModelKind(
        twin_vlmo.TwinVLMo,
        vlmo_fields.FIELDS,
        twin_vlmo.check_sizes,
        twin_vlmo.count_params,
        twin_vlmo.values_at_once,
        flops.late_passes,
    ),
    "beit": ModelKind(
        beit.BEiT,
        beit.FIELDS,
        beit.check_sizes,
        memory.count_beit,
        memory.values_of_transformer,
    ),
    "image_classifier": ModelKind(
        classifier.ImageClassifier,
        classifier.FIELDS,
        classifier.check_sizes,
        memory.count_image_classifier,
        memory.values_of_transformer,
    ),
    "image_segmenter": ModelKind(
        segmenter.ImageSegmenter,
        segmenter.FIELDS,
        segmenter.check_sizes,
        segmenter.count_params,
        segmenter.values_at_once,
    ),
    "discrete_vae": ModelKind(
        dvae.DiscreteVAE,
        dvae.FIELDS,
        dvae.check_sizes,
        memory.count_discrete_vae,
        memory.values_of_discrete_vae,
    ),
    "vilbert": ModelKind(
        vilbert.ViLBERT,
        vilbert_fields.FIELDS,
        vilbert_fields.check_sizes,
        vilbert_fields.count_params,
        vilbert_fields.num_values,
        vilbert_fields.pass_flops,
    ),
    "vilt": ModelKind(
        vilt.ViLT,
        vilt_fields.FIELDS,
        vilt_fields.check_sizes,
        vilt_fields.count_params,
        vilt_fields.num_values,
        vilt_fields.pass_flops,
    ),
    "vse_infinity": ModelKind(
        vse_infinity.VSEInfinity,
        vse_infinity.FIELDS,
        vse_infinity.check_sizes,
        vse_infinity.count_params,
        vse_infinity.values_at_once,
        vse_flops.pass_flops,
    ),
    "albef": ModelKind(
        albef.ALBEF,
        albef_fields.FIELDS,
        albef_fields.check_sizes,
        albef_fields.count_params,
        albef_fields.num_values,
        albef_fields.pass_flops,
    ),
    "clip": ModelKind(
        clip.CLIP,
        clip.FIELDS,
        clip.check_sizes,
        clip.count_params,
        clip.num_values,
        clip.pass_flops,
    ),
}

ModelMaker = Callable[[nnx.Rngs], nnx.Module]


def model_maker(fields: Mapping[str, Any], **changes: Any) -> ModelMaker:
    """The constructor of a model with all its arguments but the random numbers.

    Args:
        fields: mapping like `config.model`: `kind` out of MODELS, `dtype` by name, and arguments.
        changes: arguments that take the place of fields, such as `decoder=False`.

    Raises:
        ConfigError: an unknown kind.
    """
    arguments = {**fields, **changes}
    kind = _find_kind(arguments.pop("kind", None))
    arguments["dtype"] = DTYPES[compute_dtype(arguments.get("dtype", "float32"))]
    return functools.partial(_construct, kind.module, arguments)


def check_model(fields: Mapping[str, Any], mesh_shape: MeshShape) -> None:
    """Refuses a model that is impossible, or does not lie on the mesh.

    Args:
        fields: mapping like `config.model`.
        mesh_shape: (data, fsdp, tensor), of `parallel.sharding.mesh_shape`.

    Raises:
        ConfigError: at the first impossible value, an unknown kind included.
    """
    kind = _find_kind(fields.get("kind"))
    check_fields("model", fields, {"kind": Anything(), **kind.fields}, closed=True)
    kind.check_sizes(fields, mesh_shape)


def pass_flops(fields: Mapping[str, Any]) -> flops.PassFlops:
    """What an example's passes through a model cost.

    Args:
        fields: mapping like `config.model`, of a kind that is searched with or asked.
    """
    count = _find_kind(fields.get("kind")).pass_flops
    assert count is not None, "a model of another kind is refused before"
    return count(fields)


def _find_kind(kind: str | None) -> ModelKind:
    if not isinstance(kind, str) or kind not in MODELS:
        raise ConfigError(
            f"config.model.kind={kind!r} is not known; use one of {', '.join(MODELS)}"
        )
    return MODELS[kind]


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
