"""ViLBERT: what it may be made of, that padding changes nothing, and its answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny, tiny_vilbert
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.layers.regions import Regions
from vlmo_jax.models.build import MODELS, abstract_params, check_model, count_params, model_maker
from vlmo_jax.models.vilbert_fields import HEADS

HEADED = dict(heads=HEADS, num_answers=7)
TASKS = dict(num_tasks=3, task_row=2)


@pytest.fixture(scope="module")
def batch():
    return jax.tree.map(jnp.asarray, tiny_vilbert.make_batch())


def seen(batch):
    return Regions(batch["regions"], batch["boxes"], batch["region_mask"])


@pytest.mark.parametrize(
    "fields", [{}, HEADED, TASKS, tiny_vilbert.PATCHES, {"region_classes": 0}], ids=str
)
def test_parameters_are_counted(fields):
    model = tiny_vilbert.config(model=fields).model
    kind = MODELS["vilbert"]
    check_model(model, (1, 1, 1))
    assert kind.num_params(model) == count_params(abstract_params(model_maker(model)))
    assert kind.pass_flops(model).match > 0
    one, two = (kind.num_values(model, images=n, text=True) for n in (1, 2))
    assert 0 < one[0] < two[0] and one[1] > 0


def test_flops_are_those_of_the_published_model():
    from configs import vilbert

    model = vilbert.get_config("base").model
    text = 12 * (8 * 36 * 768**2 + 4 * 36**2 * 768 + 4 * 36 * 768 * 3072)
    vision = 6 * (8 * 37 * 1024**2 + 4 * 37**2 * 1024 + 4 * 37 * 1024 * 1024)
    co_text = 4 * 36 * 768 * 1024 + 4 * 37 * 1024 * 1024 + 4 * 36 * 37 * 1024 + 4 * 36 * 768 * 3072
    co_vision = 4 * 37 * 1024 * 1024 + 4 * 36 * 768 * 1024 + 4 * 36 * 37 * 1024 + 4 * 37 * 1024**2
    embedding = 2 * 37 * (2048 + 5) * 1024
    wanted = text + vision + 6 * (co_text + co_vision) + embedding
    assert MODELS["vilbert"].pass_flops(model).match == wanted


def test_padding_of_either_stream_changes_nothing(batch):
    model = tiny_vilbert.model(**HEADED)
    texts = batch["token_ids"], batch["token_mask"]
    regions = seen(batch)
    other = jnp.where(regions.mask[..., None], regions.features, 9.0)
    words = jnp.where(texts[1], texts[0], 7)
    for ask in (model.pair_logits, model.answer):
        one = ask(regions, *texts)
        assert np.ptp(np.asarray(one), axis=0).max() > 1e-3
        np.testing.assert_allclose(
            one, ask(regions._replace(features=other), words, texts[1]), atol=1e-5
        )
    shape = model.compare(regions, regions, *texts).shape
    assert shape == (tiny.BATCH, 2)


def test_match_is_the_second_logit_and_ranks_take_its_place(batch):
    texts = batch["token_ids"], batch["token_mask"]
    model = tiny_vilbert.model()
    model.itm_head.bias[...] = jnp.asarray([5.0, -5.0])  # the official first: aligned
    logits = model.pair_logits(seen(batch), *texts)
    assert (logits[:, 1] > logits[:, 0]).all()
    model = tiny_vilbert.model(**HEADED)
    logits = model.pair_logits(seen(batch), *texts)
    np.testing.assert_array_equal(logits[:, 1], model.rank_scores(seen(batch), *texts))


def test_images_are_seen_as_patches(batch):
    model = tiny_vilbert.model(**tiny_vilbert.PATCHES)
    image = batch["image"].astype(jnp.float32)
    assert model.see(image).features.shape == (tiny.BATCH, 4, 192)
    texts = batch["token_ids"], batch["token_mask"]
    given = model.see(image)
    one = model.pair_logits(image, *texts)
    order = jnp.asarray([2, 0, 3, 1])  # a region is known by its box, not by its place
    model.patch_size = 0
    two = model.pair_logits(Regions(*(x[:, order] for x in given)), *texts)
    np.testing.assert_allclose(one, two, atol=1e-5)


def test_a_row_of_the_task_stands_behind_the_first_token(batch):
    texts = batch["token_ids"], batch["token_mask"]
    one, other = (
        tiny_vilbert.model(**{**TASKS, "task_row": row}).pair_logits(seen(batch), *texts)
        for row in (0, 2)
    )
    assert np.abs(np.asarray(one - other)).max() > 1e-3


@pytest.mark.parametrize(
    "fields, message",
    [
        (dict(co_blocks=(1, 2)), "must be as many"),
        (dict(co_blocks=(3,)), "co_blocks=.3,. must rise from 0 to at most config.model.depth=2"),
        (dict(vision_co_blocks=(2,)), "at most config.model.vision_depth=1"),
        (dict(patch_size=8), "patches of images or a detector's regions"),
        (dict(num_regions=0), "patches of images or a detector's regions"),
        (dict(heads=("itc",)), "heads=.* must be some of itm, mlm, region"),
        (dict(co_num_heads=5), "co_width"),
        (dict(text_length=99), "text_length=99 is more than config.model.text_positions"),
        (dict(task_row=1), "task_row=1 is none of the config.model.num_tasks=0 rows"),
        (dict(fusion="concat"), "fusion"),
        (dict(region_classes=-1), "region_classes=-1 must be 0"),
    ],
)
def test_impossible_ones_are_refused(fields, message):
    with pytest.raises(ConfigError, match=message):
        check_model(tiny_vilbert.config(model=fields).model, (1, 1, 1))
    with pytest.raises(ConfigError, match="mesh.tensor"):
        check_model(tiny_vilbert.config().model, (1, 1, 3))
