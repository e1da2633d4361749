"""CLIP: what its vectors depend on, what it costs, and which sizes are refused."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.build import (
    MODELS,
    abstract_params,
    check_model,
    count_params,
    model_maker,
    pass_flops,
    random_params,
)
from vlmo_jax.models.flops import block_flops
from vlmo_jax.tasks.abilities import AnswersQuestions, FusesPairs, LearnsToRetrieve

FIELDS = dict(
    kind="clip",
    image_size=16,
    patch_size=8,
    width=16,
    depth=2,
    num_heads=2,
    mlp_dim=48,
    vocab_size=40,
    text_length=8,
    text_width=24,
    text_depth=3,
    text_num_heads=4,
    text_mlp_dim=96,
    embed_dim=12,
    activation="quick_gelu",
    heads=("retrieval", "vqa"),
    num_answers=5,
    dtype="float32",
    remat="none",
)


@pytest.fixture(scope="module")
def model():
    with nnx.use_eager_sharding(False):
        return model_maker(FIELDS)(nnx.Rngs(0))


def texts():
    ids = np.random.default_rng(0).integers(1, 40, (3, 8)).astype(np.int32)
    mask = np.arange(8) < np.array([[8], [5], [3]])
    return ids * mask, mask


def images():
    return jnp.asarray(np.random.default_rng(1).normal(size=(3, 16, 16, 3)), jnp.float32)


def test_vectors_have_length_one(model):
    for vectors in (model.retrieval_image(images()), model.retrieval_text(*texts())):
        assert vectors.shape == (3, 12) and vectors.dtype == jnp.float32
        np.testing.assert_allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert model.retrieval_scale() == pytest.approx(np.log(1 / 0.07))


def test_padding_changes_nothing_and_the_end_token_everything(model):
    ids, mask = texts()
    expected = model.retrieval_text(ids, mask)
    padded = np.where(mask, ids, 7)
    np.testing.assert_allclose(model.retrieval_text(padded, mask), expected, atol=1e-6)
    last = np.where(np.arange(8) == mask.sum(1, keepdims=True) - 1, 11, ids)
    assert np.abs(model.retrieval_text(last, mask) - expected).max(axis=1).min() > 1e-3


def test_no_token_sees_a_later_one(model):
    ids, _ = texts()
    states = model.encode_text(ids)
    later = model.encode_text(np.where(np.arange(8) < 4, ids, 9))
    np.testing.assert_allclose(later[:, :4], states[:, :4], atol=1e-6)
    assert np.abs(later[:, 4:] - states[:, 4:]).max() > 1e-2


def test_answers_read_both_vectors(model):
    ids, mask = texts()
    logits = model.answer(images(), ids, mask)
    vectors = [model.image_vector(images()), model.text_vector(ids, mask)]
    expected = model.vqa_head(jnp.concatenate(vectors, axis=-1))
    np.testing.assert_allclose(logits, expected, atol=1e-6)
    assert logits.shape == (3, 5)


def test_what_it_can_do():
    kind = MODELS["clip"].module
    assert issubclass(kind, LearnsToRetrieve) and issubclass(kind, AnswersQuestions)
    assert not issubclass(kind, FusesPairs)


@pytest.mark.parametrize("heads", [("retrieval",), ("vqa",), ("retrieval", "vqa")])
def test_parameters_are_counted_exactly(heads):
    fields = {**FIELDS, "heads": heads}
    assert MODELS["clip"].num_params(fields) == count_params(abstract_params(model_maker(fields)))


def test_a_pass_costs_its_blocks_and_patches():
    flops = pass_flops(FIELDS)
    assert flops.image == 2 * block_flops(5, 16, 48) + 2 * 4 * 3 * 64 * 16
    assert flops.text == 3 * block_flops(8, 24, 96) and flops.match == 0
    assert flops.answer == flops.image + flops.text + 2 * 2 * 16 * (40 + 5)


def test_it_starts_as_the_official_code_does():
    fields = {**FIELDS, "width": 64, "depth": 8, "mlp_dim": 256}
    params = random_params(model_maker(fields), 0)
    blocks = params["image_encoder"]["blocks"]
    for array, deviation in (
        (blocks["attention"]["qkv"], 64**-0.5),
        (blocks["attention"]["out"], 64**-0.5 * 16**-0.5),
        (blocks["feed_forward"]["up"]["kernel"], 128**-0.5),
        (params["text_embedding"]["word"], 0.02),
        (params["itc"]["text"]["kernel"], 24**-0.5),
    ):
        assert float(jnp.std(array)) == pytest.approx(0.88 * deviation, rel=0.1)


@pytest.mark.parametrize(
    "changes, message",
    [
        (dict(patch_size=5), "config.model.image_size=16"),
        (dict(text_num_heads=5), "config.model.text_width=24"),
        (dict(heads=("itm",)), "must be some of retrieval, vqa"),
        (dict(text_length=2), "use at least 3"),
        (dict(activation="relu"), "use one of quick_gelu, gelu"),
        (dict(drop_path_rate=0.1), "config.model.drop_path_rate is not known"),
    ],
)
def test_impossible_ones_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        check_model({**FIELDS, **changes}, (1, 1, 1))
    check_model(FIELDS, (1, 1, 1))
    with pytest.raises(ConfigError, match="tensor"):
        check_model(FIELDS, (1, 1, 3))


def test_remat_and_unrolling_change_nothing(model):
    params = nnx.to_pure_dict(nnx.state(model))
    expected = model.retrieval_image(images())
    for changes in (dict(remat="block"), dict(scan_layers=False)):
        with nnx.use_eager_sharding(False):
            graphdef = nnx.graphdef(model_maker({**FIELDS, **changes})(nnx.Rngs(1)))
        found = nnx.merge(graphdef, params).retrieval_image(images())
        np.testing.assert_allclose(found, expected, atol=1e-5)
