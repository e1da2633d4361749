"""Tiny models of each stage as shapes, random parameters and saved checkpoints."""

import functools

import jax
import numpy as np
from flax import nnx

from configs import common
from tests import tiny
from vlmo_jax.checkpoints.param_names import named_parameters
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.checkpoints.store import Checkpoints, abstract_like
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.models import build
from vlmo_jax.parallel.sharding import param_shardings

STAGES = {
    "stage2": dict(experts=("image", "text"), heads=("mlm",)),
    "stage3": dict(heads=("itc", "itm", "mlm")),
    "retrieval": dict(heads=("retrieval",)),
    "vqa": dict(heads=("vqa",), num_answers=5),
    "nlvr2": dict(heads=("nlvr2",)),
}
TOKENIZER = {"file": "words.model", "sha256": "a1" * 32}


def fields_of(**model):
    return {**tiny.MODEL, "num_upper": 1, **model}


def make_model(stage, **model):
    fields = fields_of(**model)
    if stage == "stage1":
        fields = {name: value for name, value in fields.items() if not name.startswith("text_")}
        return build.model_maker({"kind": "beit", **fields})
    if stage == "classify":
        texts = ("text_length", "text_positions", "vocab_size")
        fields = {name: value for name, value in fields.items() if name not in texts}
        return build.model_maker({"kind": "image_classifier", **fields, "num_classes": 3})
    if stage == "segment":
        texts = ("text_length", "text_positions", "vocab_size")
        fields = {name: value for name, value in fields.items() if name not in texts}
        heads = {"num_classes": 3, "blocks": (0, 0, 1, 2), "head_channels": 4}
        return build.model_maker({"kind": "image_segmenter", **fields, **heads})
    return build.model_maker({"kind": "vlmo", **fields, **STAGES[stage]})


@functools.lru_cache
def _abstract(stage, model):
    return build.abstract_model(make_model(stage, **dict(model)))[1]


def abstract(stage, mesh_shape=(1, 1, 1), **model):
    """Shapes and shardings of the parameters."""
    state = _abstract(stage, tuple(model.items()))
    return abstract_like(nnx.to_pure_dict(state), param_shardings(state, tiny.mesh_of(mesh_shape)))


def seeded(stage, **model):
    """The function that initialises the parameters of a model, as a run does."""
    return lambda: build.random_params(make_model(stage, **model), seed=3)


def drawn(stage, seed=1, **model):
    """As `seeded`, but faster to compile: the values of `random_params`."""
    return lambda: jax.tree.map(jax.numpy.asarray, random_params(stage, seed, **model))


def never():
    raise AssertionError("parameters were initialised")


def random_params(stage, seed=0, **model):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), abstract(stage, **model)
    )


def save(workdir, params, model, *, step=5, meta=()):
    """Saves parameters as a run does, with what a warm start reads of its meta."""
    checkpoints = Checkpoints(workdir / "checkpoints", keep_last=2)
    state = TrainState(np.asarray(step), params, {"moments": np.zeros(1)}, {})
    checkpoints.save(
        state, {"config": {"model": fields_of(**model)}, "tokenizer": TOKENIZER, **dict(meta)}
    )
    checkpoints.close()
    return workdir


def start(
    workdir,
    stage,
    initialise=never,
    *,
    mesh_shape=(1, 1, 1),
    rules=None,
    fresh=None,
    tokenizer=TOKENIZER,
    **model,
):
    """A warm start by the recipe's rules, or by those given."""
    recipe = common.WARM_STARTS[stage]
    return warm_start(
        workdir,
        abstract(stage, mesh_shape, **model),
        initialise,
        rules=recipe["init_rules"] if rules is None else rules,
        fresh=recipe["init_fresh"] if fresh is None else fresh,
        model=fields_of(**model),
        tokenizer=tokenizer,
    )


def by_name(params):
    """Named parameters as numpy arrays, layers of both stacks joined."""
    flat = {
        tuple(map(str, path)): np.asarray(leaf)
        for path, leaf in nnx.traversals.flatten_mapping(params).items()
    }
    named = {}
    for name, param in named_parameters(flat).items():
        joined = np.concatenate([slot.view(flat[slot.path]) for slot in param.slots])
        named[name] = joined if param.slots[0].stacked else joined[0]
    return named
