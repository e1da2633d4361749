"""A ViLT that is asked: images of any shape become what evaluation makes of them."""

import jax
import numpy as np
import pytest
from PIL import Image

import vlmo_jax
from tests import tiny
from tests.inference.models import pictures
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe

SMALL = (
    "tokenizer=emoji",
    "data.split=train[:8]",
    "model.image_size=32",
    "model.longest_side=56",
    "model.width=16",
    "model.depth=2",
    "model.num_heads=2",
    "model.mlp_dim=32",
)


def load(folder, recipe, *settings):
    opened = Recipe(tiny.parse(recipe, *SMALL, *settings))
    opened.open()
    rng = np.random.default_rng(0)
    shapes = abstract_params(opened.make_model)
    params = jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(x.dtype), shapes)
    save_params(folder / "checkpoints", params, opened.meta())
    return vlmo_jax.load(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return load(tmp_path_factory.mktemp("vilt"), "vilt:tiny", "data.source=emoji")


TEXTS = ["a red heart", "two cats", "a house in the snow"]


def test_pairs_are_matched_and_one_image_goes_with_all_texts(model):
    images = pictures(3)
    found = model.match(images, TEXTS)
    assert found.shape == (3,) and (found > 0).all() and (found < 1).all()
    one = model.match(images[0], TEXTS)
    np.testing.assert_allclose(one, model.match([images[0]] * 3, TEXTS), atol=1e-6)
    np.testing.assert_allclose(one[0], found[0], atol=1e-6)
    assert model.preprocessing["resize"] == "patches bicubic"


def test_images_keep_their_shape(model):
    wide = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    [canvas] = model.preprocess(wide)
    assert canvas.shape == (48, 48, 3) and not canvas[32:].any()
    np.testing.assert_array_equal(canvas[:32], wide)
    tall = np.asarray(Image.fromarray(wide).rotate(90, expand=True))
    assert (model.match([wide, tall], ["two cats"] * 2)[0] - model.match([tall], ["two cats"])) != 0


def test_it_has_no_vectors(model):
    with pytest.raises(UnfitModelError, match="has no part that encodes images and texts"):
        model.encode_image(pictures(1))
    with pytest.raises(UnfitModelError, match="has no part that answers questions"):
        model.answer(pictures(1), ["what?"])


def test_questions_are_answered(tmp_path):
    model = load(tmp_path, "vilt:tiny,vqa", "init_from=none")
    [answers] = model.answer(pictures(1), ["how many cats are there?"], top_k=4)
    assert len(answers) == 4 and all(word in model.answers for word, _ in answers)


def test_a_ranking_model_matches_by_its_rank(tmp_path):
    model = load(tmp_path, "vilt:tiny,rank", "data.source=emoji", "init_from=none")
    assert model.match(pictures(2), TEXTS[:2]).shape == (2,)
