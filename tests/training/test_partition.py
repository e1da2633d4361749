"""What rules freeze has no gradient and no moments; the rest trains as if nothing were frozen."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from vlmo_jax.training.partition import Partition, rule_paths

FROZEN = (
    r"transformer/(lower|upper)/(attention|norm)/.*",
    r"transformer/(lower|upper)/experts/image/.*",
    r"image_embedding/.*",
)


def flat(tree):
    return {
        "/".join(map(str, path)): leaf
        for path, leaf in nnx.traversals.flatten_mapping(tree).items()
    }


def test_stacked_experts_are_known_by_name():
    path = ("transformer", "lower", "experts", "stacked", "up", "kernel")
    assert rule_paths(path, (4, 2, 8, 16)) == [
        "transformer/lower/experts/image/up/kernel",
        "transformer/lower/experts/text/up/kernel",
    ]
    assert rule_paths(("itm_head", "bias"), (2,)) == ["itm_head/bias"]


def test_the_parts_make_up_the_whole():
    params = tiny.params()
    partition = Partition.by_rules(params, FROZEN)
    trainable = partition.trainable(params)
    names, whole = flat(trainable), flat(params)
    assert not any("attention/" in name or name.startswith("image_embedding/") for name in names)
    stack = "transformer/lower/experts/stacked/up/kernel"
    np.testing.assert_array_equal(names[stack], whole[stack][:, 1:])
    jax.tree.map(np.testing.assert_array_equal, partition.insert(params, trainable), params)
    moved = flat(partition.insert(params, jax.tree.map(lambda x: x + 1, trainable)))
    np.testing.assert_array_equal(moved[stack][:, 0], whole[stack][:, 0])
    np.testing.assert_allclose(moved[stack][:, 1], whole[stack][:, 1] + 1, rtol=1e-6)
    np.testing.assert_array_equal(moved["image_embedding/patch"], whole["image_embedding/patch"])


@pytest.mark.parametrize(
    "rules, message",
    [
        (
            ("text_embeding/.*",),
            r"config.optimizer.frozen: 'text_embeding/.\*' matches no parameter",
        ),
        ((".*",), "leaves nothing to train"),
    ],
)
def test_useless_rules_are_refused(rules, message):
    with pytest.raises(ValueError, match=message):
        Partition.by_rules(tiny.params(), rules)


def test_a_step_trains_what_is_not_frozen_as_without_freezing():
    """The first update of AdamW at equal gradients: the same for what trains, none for the rest."""
    states = []
    for frozen in ((), FROZEN):
        mesh = tiny.mesh_of((1, 2, 1))
        with jax.set_mesh(mesh):
            program = tiny.program(
                tiny.config(optimizer=dict(epsilon=1e-4, warmup_steps=0, frozen=frozen)), mesh
            )
            batch = program.place_batch(tiny.make_batch())
            state, _ = program.step(tiny.state(program, tiny.params()), {}, batch)
            states.append(jax.device_get(state))
    everything, some = states
    before, partition = tiny.params(), program.update.optimizer.partition
    trained = partition.trainable(everything.params)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        partition.trainable(some.params),
        trained,
    )
    jax.tree.map(
        np.testing.assert_array_equal,
        partition.insert(some.params, partition.trainable(before)),
        before,
    )
    moments = sum(leaf.size for leaf in jax.tree.leaves(some.opt_state))
    assert moments == 2 * sum(leaf.size for leaf in jax.tree.leaves(trained)) + 1
    for moment, sharded in zip(
        jax.tree.leaves(some.opt_state),
        jax.tree.leaves(program.abstract_state.opt_state),
        strict=True,
    ):
        assert moment.shape == sharded.shape
