"""What ALBEF's task keeps from step to step, and what is refused before one is compiled."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny, tiny_albef
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.albef_fields import count_params, pretrain_flops
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.models.build import count_params as count
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.albef_pretrain import Context, Encoded, followed


@pytest.fixture(scope="module")
def config():
    return tiny_albef.config()


@pytest.fixture(scope="module")
def task(config):
    return Recipe(config).make_task()


@pytest.fixture(scope="module")
def prepared(config, task):
    """What is kept after each of three steps, as numpy, and alpha of each; the parameters move in
    between.
    """

    @jax.jit
    def prepare(batch, params, extra):
        done = task.prepare(batch, params, extra, {})
        return done.batch, done.extra, done.context.alpha

    kept, alphas, params = [], [], tiny_albef.params(config)
    extra = task.initial_extra(params)
    for step in range(3):
        batch = {name: tiny.make_batch(seed=step)[name] for name in task.reads}
        batch, extra, alpha = prepare(batch, params, extra)
        kept.append(jax.device_get((params, extra, batch)))
        alphas.append(float(alpha))
        params = jax.tree.map(lambda x: x + np.float32(0.1), params)
    return kept, alphas


def test_towers_follow_the_parameters_before_the_update(config, prepared):
    tower = followed(tiny_albef.params(config))
    assert set(tower) == {*tiny_albef.params(config)} - {"itm_head"}
    assert "temperature" not in tower["itc"]
    for params, extra, _ in prepared[0]:
        tower = jax.tree.map(lambda m, p: 0.9 * m + 0.1 * p, tower, followed(params))
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), extra["momentum"], tower
        )


def test_queues_hold_the_latest_batches_and_the_ramp_rises(prepared):
    kept, alphas = prepared
    np.testing.assert_allclose(alphas, [0.0, 0.1, 0.2], atol=1e-6)  # of 0.4, over four steps
    vectors = [batch["momentum_text"] for _, _, batch in kept]
    np.testing.assert_array_equal(
        kept[-1][1]["text_queue"], np.concatenate([vectors[2], vectors[1]])
    )
    assert [int(extra["pointer"]) for _, extra, _ in kept] == [8, 0, 8]


def test_queues_start_from_random_directions_of_the_seed(config, task):
    extra = task.initial_extra(tiny_albef.params(config))
    queue = extra["image_queue"]
    np.testing.assert_allclose(jnp.linalg.norm(queue, axis=1), 1.0, rtol=1e-5)
    assert jnp.abs(queue - extra["text_queue"]).max() > 0.1
    other = Recipe(tiny_albef.config(seed=1)).make_task()
    assert (
        jnp.abs(other.initial_extra(tiny_albef.params(config))["image_queue"] - queue).max() > 0.1
    )


def test_negatives_are_other_rows_and_can_be_drawn_at_random(config, task):
    def shares(task):
        features, context, batch = _like_vectors(task)
        draw = lambda key: task.contrast(features, batch, context, key)[1]
        drawn = jax.vmap(draw)(jax.random.split(jax.random.key(0), 300))
        return [np.bincount(row, minlength=8) / 300 for row in np.asarray(drawn.text).T]

    by_similarity = shares(task)
    at_random = shares(Recipe(tiny_albef.config(task={"random_negatives": True})).make_task())
    for row in range(8):
        assert by_similarity[row][row] == at_random[row][row] == 0
        assert by_similarity[row].max() > 0.9 and at_random[row].max() < 0.3


def _like_vectors(task):
    """Encoded rows each of which has one that is like it."""
    vectors = jnp.repeat(jnp.eye(4), 2, axis=0)
    queue = jnp.zeros((16, 4))
    batch = {"momentum_image": vectors, "momentum_text": vectors}
    features = Encoded(vectors, vectors, None, None, jnp.float32(0.07))
    return features, Context(queue, queue, jnp.float32(0.4), None), batch


def test_the_temperature_stays_within_bounds_and_keeps_its_gradient(config):
    for value, expected in ((0.9, 0.5), (-1.0, 0.001), (0.2, 0.2)):
        params = tiny_albef.params(config)

        def temperature(value, params=params):
            params["itc"]["temperature"] = value
            return tiny_albef.model(params, config).temperature()

        found, slope = jax.value_and_grad(temperature)(jnp.float32(value))
        np.testing.assert_allclose((found, slope), (expected, 1.0), rtol=1e-6)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"task": {"queue_size": 20}},
            "queue_size=20 is no multiple of config.batch_size=8, .* use 16 or 24",
        ),
        ({"task": {"queue_size": 4}}, "queue_size=4 is no multiple .* use 8 or 8"),
        ({"task": {"momentum": 1.5}}, "config.task.momentum=1.5"),
        ({"task": {"alpha": -0.1}}, "config.task.alpha=-0.1"),
        (
            {"model": {"heads": ("itc", "itm")}},
            "lacks mlm, which config.task.kind='albef_pretrain'",
        ),
        ({"model": {"heads": ("itc", "nlvr2")}}, "must be some of itc, itm, mlm, retrieval, vqa"),
        ({"model": {"text_positions": 4}}, "text_length=8 is more than .*text_positions=4"),
        ({"model": {"vision_num_heads": 5}}, "config.model.vision_width=24"),
        ({"batch_size": 1, "task": {"queue_size": 16}}, "leaves no negatives"),
    ],
)
def test_impossible_settings_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(tiny_albef.config(**changes)).check(1)


def test_masking_of_unknown_units_is_refused():
    config = tiny_albef.config()
    config.data.masking = "letters"
    with pytest.raises(ConfigError, match="config.data.masking='letters'"):
        Recipe(config).check(1)


@pytest.mark.parametrize("heads", [("itc", "itm", "mlm"), ("retrieval", "itm"), ("vqa",)])
def test_parameters_are_counted_before_they_are_made(heads):
    fields = tiny_albef.config(model={"heads": heads, "num_answers": 5}).model
    assert count_params(fields) == count(abstract_params(model_maker(fields)))


def test_operations_are_those_of_the_products(config):
    """Of one block each, by hand."""
    image, text, width, other, hidden = 5, 8, 16, 24, 32
    block = lambda n, d: 8 * n * d * d + 4 * n * n * d + 4 * n * d * hidden
    vision = 2 * 4 * 192 * other + block(image, other)
    cross = 2 * (2 * text * width * width + 2 * image * other * width + 2 * text * image * width)
    fusion = block(text, width) + cross
    words = 2 * text * width * (width + tiny.VOCAB)
    towers = vision + 2 * block(text, width) + fusion + words
    assert pretrain_flops(config.model) == towers + 3 * fusion + round(towers / 3)
