"""A trace of the steps that were asked for, in which the parts of a step have names."""

import gzip
import json

import jax
import jax.numpy as jnp
import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.profiling import Profile


def trace(folder, steps, made):
    said = []
    profile = Profile(steps, folder, wait=lambda: None, say=said.append)
    run = jax.jit(lambda x: jnp.sin(x).sum())
    for number in made:
        with profile.step(number):
            jax.block_until_ready(run(jnp.ones(8)))
    profile.close()
    return said


def test_the_steps_asked_for_are_traced(tmp_path):
    [line] = trace(tmp_path / "profile", (3, 4), range(1, 7))
    assert line.startswith(f"The trace of steps 3 to 4 lies in {tmp_path / 'profile'}")
    [file] = (tmp_path / "profile").rglob("*.trace.json.gz")
    assert str(file) in line and list(file.parent.glob("*.xplane.pb"))
    events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
    steps = {event["args"]["step_num"] for event in events if event.get("name") == "train"}
    assert steps == {"3", "4"}


def test_a_run_that_ends_early_leaves_what_it_has(tmp_path):
    [line] = trace(tmp_path, (2, 9), range(1, 4))
    assert "steps 2 to 3" in line
    jax.profiler.start_trace(tmp_path / "next")  # none is open
    jax.profiler.stop_trace()


@pytest.mark.parametrize("steps, made", [((), range(1, 4)), ((1, 2), range(3, 5))])
def test_nothing_is_written_unasked(tmp_path, steps, made):
    assert trace(tmp_path, steps, made) == [] and not list(tmp_path.iterdir())


@pytest.mark.parametrize("steps", [(5, 4), (11, 12), (1,), (0, 3)])
def test_steps_that_cannot_be_are_refused(steps):
    with pytest.raises(ConfigError, match="config.profile="):
        Recipe(tiny.config(profile=steps)).check(1)
    Recipe(tiny.config(profile=(2, 30))).check(1)


def test_parts_of_a_step_have_names():
    mesh = tiny.mesh_of((1, 1, 1))
    with jax.set_mesh(mesh):
        program = tiny.program(tiny.config(), mesh)
        text = program.step.lower(
            program.abstract_state, {}, program.recipe.abstract_batch()
        ).as_text(debug_info=True)
    for name in (
        "encode_image",
        "encode_text",
        "encode_fused",
        "lower_blocks",
        "upper_blocks",
        "attention",
        "text_expert",
        "contrastive_loss",
        "fetch_negatives",
        "fused_losses",
        "optimizer",
    ):
        assert f"{name}/" in text or f"{name})/" in text, name
