"""Recipes built at full size on eight devices, without memory for their arrays."""

import functools
from typing import Any, NamedTuple

import jax

from tests import tiny
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import Program

# What a recipe asks for beside its defaults.
SETTINGS = {
    "visual_tokenizer": ("data.source=emoji",),
    "stage1": ("data.source=emoji", "visual_tokenizer=synthetic"),
    "stage2": ("data.source=glosses", "tokenizer=emoji", "init_from=none"),
    "stage3": ("data.source=emoji", "tokenizer=emoji"),
    "late_fusion": ("data.source=emoji", "tokenizer=emoji"),
    "albef": ("data.source=emoji", "tokenizer=emoji", "init_from=none"),
    "clip": ("data.source=emoji", "tokenizer=emoji"),
    "finetune_classify": ("data.source=emoji", "init_from=none"),
    "finetune_retrieval": ("data.source=emoji", "tokenizer=emoji", "init_from=none"),
    "vilt": ("data.source=emoji", "tokenizer=emoji"),
    "vilt:base,vqa": ("data.source=emoji_questions", "tokenizer=emoji", "init_from=none"),
    "vilt:base,nlvr2": ("data.source=emoji_statements", "tokenizer=emoji", "init_from=none"),
    "vilt:base,rank": ("data.source=emoji", "tokenizer=emoji", "init_from=none"),
    "finetune_caption": ("data.source=emoji", "tokenizer=emoji", "init_from=none"),
    "finetune_vqa": ("data.source=emoji_questions", "tokenizer=emoji", "init_from=none"),
    "finetune_segment": ("data.source=emoji_masks", "init_from=none"),
    "finetune_nlvr2": ("data.source=emoji_statements", "tokenizer=emoji", "init_from=none"),
}


class Built(NamedTuple):
    """A recipe, its program, and the shapes of the state and of the metrics that a step gives."""

    recipe: Any
    program: Program
    state: Any
    metrics: dict


@functools.lru_cache
def build(name):
    """Builds a recipe such as "stage3:base,384" on a mesh 2 x 2 x 2."""
    settings = SETTINGS.get(name, SETTINGS[name.partition(":")[0]])
    config = tiny.parse(name, "mesh.data=2", "mesh.fsdp=2", "mesh.tensor=2", *settings)
    recipe = Recipe(config)
    recipe.check(8)
    mesh = tiny.mesh_of((2, 2, 2))
    with jax.set_mesh(mesh):
        program = tiny.program(config, mesh)
        state, metrics = jax.eval_shape(
            program.step, program.abstract_state, recipe.abstract_frozen(), recipe.abstract_batch()
        )
    return Built(recipe, program, state, metrics)
