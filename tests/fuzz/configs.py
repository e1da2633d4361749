"""Configs: every field of every recipe, one or two at a time, with values that people and scripts
give by mistake, on the command line and in a recipe of their own.

A case passes if the config is refused in one line that names a field that was changed, or if it
runs: the step is traced, and a batch is made and has the shapes that the step wants.
"""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from tests.fuzz.case import Case, WrongError
from tests.recipes.full_size import SETTINGS
from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.endings import UserError
from vlmo_jax.models.build import MODELS
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.program import build_program

SIZES = {
    "visual_tokenizer": ("tiny", "dalle"),
    "stage1": ("tiny", "base", "base_plus", "large"),
    "stage2": ("tiny", "base", "base_plus", "large"),
    "stage3": ("tiny", "tiny_long", "base", "base_plus", "large"),
    # The official sizes need data of the official splits and answers.
    "finetune_vqa": ("tiny",),
    "finetune_caption": ("tiny",),
    "finetune_nlvr2": ("tiny",),
}
DEVICES = 8
MEMORY = 64 * 2**30  # of each
LARGEST_TRACED = 30_000_000  # parameters of a step that is traced here
WHOLE = (0, 1, -1, 2, 3, 5, 7, 8, 16, 64, 100, 1000, 10**6, 2**31 - 1, 2**31, 2**32, 2**63, 10**30)
REAL = (0.0, -0.0, 1.0, -1.0, 0.5, 0.999999999, 2.0, 1e-9, 1e-45, 1e-300, 1e9, 1e38, 1e39, 1e308)
REAL += (float("nan"), float("inf"), float("-inf"))
WORDS = ("", " ", "none", "None", "a", "x" * 300, "x" * 5000, "a/b", "../..", "/", ".", "~", "a b")
WORDS += ("ü", "日本語", "a\nb", "\0", "(", "*", ".*", "emoji", "glosses", "train", "auto", "tiny")
RULES = ("(", "*", "[", "a{2", r"\1", "(?P<n", ".*", "nothing", r".*bias", "", "(?i", "a**", "\\")
# What a value of another type may be in a recipe of one's own.
OTHER = (None, True, 3, 3.5, "text", (), (1,), [0.5], {}, {"a": 1}, b"bytes", object, np.int64(3))


def draw(rng: np.random.Generator) -> Case:
    """One config of a recipe with one or two fields changed."""
    kind = str(rng.choice(list(SIZES)))
    size = str(rng.choice(SIZES[kind])) if rng.random() < 0.4 else SIZES[kind][0]
    fields = _leaves(f"{kind}:{size}")
    count = 1 if rng.random() < 0.6 else 2
    keys = [str(key) for key in rng.choice(sorted(fields), count, replace=False)]
    changes = {key: _draw_value(fields[key], rng) for key in keys}
    typed = rng.random() < 0.6
    shown = ", ".join(f"{key}={repr(value)[:50]}" for key, value in changes.items())
    where = "on the command line" if typed else "in a recipe"
    run = functools.partial(_try_config, f"{kind}:{size}", changes, typed)
    return Case(f"{kind}:{size} with {shown} {where}", run)


@functools.cache
def _leaves(recipe: str) -> Mapping[str, Any]:
    """Field -> value of a recipe."""
    leaves: dict[str, Any] = {}

    def walk(part: ConfigDict, prefix: str) -> None:
        for name, value in part.items():
            if isinstance(value, ConfigDict):
                walk(value, f"{prefix}{name}.")
            else:
                leaves[prefix + name] = value

    walk(read_config(recipe, {}), "")
    return leaves


def _draw_value(old: Any, rng: np.random.Generator) -> Any:
    pick = lambda values: values[int(rng.integers(len(values)))]
    if rng.random() < 0.15:
        return pick(OTHER)
    if isinstance(old, bool):
        return pick((True, False))
    if isinstance(old, int):
        near = (old + 1, old - 1, 2 * old, old // 2, -old)
        return pick(WHOLE if rng.random() < 0.6 else near)
    if isinstance(old, float):
        return pick(REAL if rng.random() < 0.7 else (old * 2, old / 2, -old, int(old)))
    if isinstance(old, (str, type(None))):
        return pick(WORDS)
    return _draw_tuple(tuple(old), rng, pick)


def _draw_tuple(old: tuple, rng: np.random.Generator, pick: Any) -> tuple:
    """A tuple like the old one with some other items, or of another length."""
    if not old or isinstance(old[0], str):
        items = [pick(RULES + WORDS[:4] + OTHER[:4]) for _ in range(rng.integers(3))]
    elif isinstance(old[0], (tuple, list)):
        items = [pick(((pick(RULES), pick(REAL)), (pick(RULES), "copy"), (pick(RULES), "skip")))]
        items += list(old) if rng.random() < 0.5 else []
    else:
        values = WHOLE[:12] + (300, 255) if isinstance(old[0], int) else REAL
        items = [pick(values) if rng.random() < 0.5 else item for item in old]
    if rng.random() < 0.2:
        items = items[:-1] if rng.random() < 0.5 else [*items, *items, pick(OTHER)]
    return tuple(items)


def _try_config(recipe: str, changes: Mapping[str, Any], typed: bool, folder: Path) -> None:
    """Runs a config as far as it is quick, or is told why it cannot run."""
    try:
        config = _make_config(recipe, changes, typed)
        built = Recipe(config)
        built.check(1 if "tiny" in recipe else DEVICES, MEMORY)
        built.open()
        if config.mode == "train":
            _run(built)
    except UserError as error:
        # A field that was changed, or that it must agree with, stands in the message.
        names = [name for key in changes for name in (key.split(".")[-1], key)]
        if not any(name in str(error) for name in names):
            raise WrongError(f"does not name {', '.join(changes)}: {error}") from error
        raise


def _make_config(recipe: str, changes: Mapping[str, Any], typed: bool) -> ConfigDict:
    given = dict(setting.split("=") for setting in SETTINGS[recipe.partition(":")[0]])
    if typed:
        return read_config(recipe, {**given, **changes})
    config = read_config(recipe, given)
    with config.unlocked(), config.ignore_type():
        for key, value in changes.items():
            part, _, name = key.rpartition(".")
            holder = functools.reduce(lambda c, n: c[n], filter(None, part.split(".")), config)
            holder[name] = value
    return config


def _run(recipe: Recipe) -> None:
    """Traces the step where that is quick, and makes a batch."""
    config = recipe.config
    if _num_params(config) > LARGEST_TRACED or _is_large(config):
        return
    mesh = sharding.make_mesh(config.mesh, jax.devices()[:1])
    with jax.set_mesh(mesh):
        program = build_program(recipe, mesh)
        recipe.make_evaluations(program.update.graphdef, mesh)
        jax.eval_shape(
            program.step,
            program.abstract_state,
            recipe.abstract_frozen(),
            recipe.abstract_batch(),
        )
    # One process is enough to see whether a batch can be made, and many would be too many here.
    config.data.update(num_workers=0, num_threads=1, prefetch=1)
    with recipe.batches(0) as batches:
        batch = next(batches)
    for name, shape in recipe.abstract_batch().items():
        if (batch[name].shape, batch[name].dtype) != (shape.shape, shape.dtype):
            raise WrongError(f"{name} is {batch[name].shape}, not {shape.shape}")


def _is_large(config: ConfigDict) -> bool:
    """Whether a batch or the trace of a step takes long."""
    sizes = (config.batch_size, config.model.image_size, 16 * config.model.get("depth", 1))
    return max(sizes) > 256 or config.data.get("tokenizer_image_size", 0) > 256


def _num_params(config: ConfigDict) -> int:
    return MODELS[config.model.kind].num_params(config.model)
