"""The loss of classification: mixed as on the host, the same in parts, smoothed as timm does."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from tests.paths import DATA
from vlmo_jax.input.images.mixup import Box, Mix, mix_batch, smoothed_targets
from vlmo_jax.models.build import abstract_model, model_maker, random_params
from vlmo_jax.objectives.classes import class_losses
from vlmo_jax.parallel.sharding import batch_sharding
from vlmo_jax.tasks.classify import ClassifyTask, make_classifier, make_probabilities
from vlmo_jax.tasks.mixing import mix_images, mix_targets

FIELDS = {
    name: tiny.MODEL[name] for name in tiny.MODEL if name not in ("text_length", "vocab_size")
}
del FIELDS["text_positions"]
CLASSES = 5
MIXES = [
    Mix(0.3),
    Mix(0.75, Box(1, 9, 4, 12)),
    Mix(1.0),
    Mix(0.5),
    Mix(0.9, Box(0, 3, 0, 16)),
    Mix(0.6),
]


@pytest.fixture(scope="module")
def model():
    make = model_maker({"kind": "image_classifier", **FIELDS, "num_classes": CLASSES})
    params = random_params(make, 0)
    params["head"]["kernel"] = params["head"]["kernel"] * 1e4
    return abstract_model(make)[0], params


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return dict(
        image=rng.integers(0, 256, (6, 16, 16, 3), np.uint8),
        label=np.arange(6, dtype=np.int32) % CLASSES,
        mix_share=np.array([mix.share for mix in MIXES], np.float32),
        mix_box=np.array([mix.box or (0, 0, 0, 0) for mix in MIXES], np.int32),
    )


def test_images_and_targets_are_mixed_as_on_the_host(batch):
    images = np.random.default_rng(1).normal(size=(6, 16, 16, 3)).astype(np.float32)
    targets = smoothed_targets(batch["label"], CLASSES, 0.1)
    wanted, wanted_targets = mix_batch(images, targets, MIXES)
    mixed = mix_images(jnp.asarray(images), batch["mix_share"], batch["mix_box"])
    np.testing.assert_allclose(mixed, wanted, atol=1e-6)
    np.testing.assert_allclose(mix_targets(targets, batch["mix_share"]), wanted_targets, atol=1e-6)


def test_the_loss_of_soft_targets_is_timms():
    arrays = np.load(DATA / "downstream" / "mixup.npz")
    logits = jnp.asarray(arrays["in/logits"])
    for name in ("mixup_batch", "none_batch"):
        targets = arrays[f"{name}/targets"]
        log = jax.nn.log_softmax(logits)
        np.testing.assert_allclose(
            class_losses(logits, targets), -(targets * log).sum(1), rtol=1e-6
        )


def test_gradients_in_parts_are_those_of_the_whole_mixed_batch(model, batch):
    graphdef, params = model
    task = ClassifyTask(num_classes=CLASSES, smoothing=0.1, mixed=True)
    assert set(task.reads) == set(batch)
    prepared = task.prepare(batch, params, {}, {})
    build = lambda params: nnx.merge(graphdef, params)
    whole, parts = (
        jax.jit(lambda p, n=n: task.gradients(build, p, prepared, jax.random.key(0), n))(params)
        for n in (1, 3)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), whole, parts)
    assert set(whole[1]) == {"loss", "class_loss", "class_accuracy"}
    # Of all parameters only the class token's way to the mean is indirect; none is without one.
    largest = {
        path: float(np.abs(g).max()) for path, g in jax.tree_util.tree_leaves_with_path(whole[0])
    }
    assert min(largest.values()) > 0


def test_a_mesh_changes_nothing(model, batch):
    graphdef, params = model
    task = ClassifyTask(num_classes=CLASSES, mixed=True)
    doubled = {name: np.concatenate([value, value[:2]]) for name, value in batch.items()}
    mesh = tiny.mesh_of((4, 2, 1))

    def targets_and_loss(batch):
        prepared = task.prepare(batch, params, {}, {})
        sums = task.sums(nnx.merge(graphdef, params), prepared.batch, (), jax.random.key(0))
        return prepared.batch["target"], prepared.batch["image"], sums["class_loss"]

    alone = jax.jit(targets_and_loss)(doubled)
    with jax.set_mesh(mesh):
        spread = jax.jit(targets_and_loss, in_shardings=batch_sharding(mesh))(doubled)
    for one, other in zip(alone, spread, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_no_text_parameter_is_in_the_tree(model):
    assert set(model[1]) == {"image_embedding", "transformer", "pool_norm", "head"}
    assert model[1]["transformer"]["upper"]["experts"]["stacked"]["up"]["kernel"].shape[1] == 1
    assert "norm" not in model[1]["transformer"]


def test_the_likeliest_classes_come_first(model, batch):
    graphdef, params = model
    settings = dict(mean=(0.5,) * 3, std=(0.5,) * 3)
    shown = {"image": batch["image"]}
    every = np.asarray(make_probabilities(graphdef, **settings)(params, shown))
    np.testing.assert_allclose(every.sum(axis=1), 1, rtol=1e-5)
    best = make_classifier(graphdef, **settings, top_k=3)(params, shown)
    np.testing.assert_array_equal(best.class_ids, np.argsort(-every, axis=1)[:, :3])
    assert make_classifier(graphdef, **settings, top_k=9)(params, shown).class_ids.shape == (6, 5)
