"""Images of any shape in the corner of a canvas, by one road for training, evaluation and use."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets import Record
from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.image_form import image_form
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import stream_batches
from vlmo_jax.input.plain_images import EvalImages
from vlmo_jax.input.questions import QuestionRows
from vlmo_jax.input.schema import empty_batch
from vlmo_jax.input.statements import StatementRows

OFFICIAL = CanvasRows(384, 639, 32)
ROWS = CanvasRows(16, 30, 8)
PLAIN = Augmentation(crop_scale=(1.0, 1.0), flip=False, randaugment=())


def picture(width, height, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize(
    "size, fitted",
    [
        ((640, 480), (512, 384)),
        ((480, 640), (384, 512)),
        ((500, 375), (512, 384)),
        ((1000, 600), (608, 352)),  # 639 x 383: the longer side decides
        ((100, 100), (384, 384)),
        ((333, 500), (384, 576)),
        ((4000, 100), (608, 32)),  # no row of patches would be left of it
    ],
)
def test_sides_are_those_of_the_official_resize(size, fitted):
    assert OFFICIAL.fit(*size) == fitted and OFFICIAL.side == 608


def test_an_image_lies_in_the_corner_and_black_beside_it():
    batch = empty_batch(ROWS.columns, 1)
    batch["image"][:] = 7  # left by another record
    image = picture(40, 20)
    ROWS.write(batch, 0, image)
    assert batch["image"].shape == (1, 24, 24, 3) and batch["image_grid"].tolist() == [[1, 3]]
    wanted = np.asarray(image.resize((24, 8), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(batch["image"][0, :8], wanted)
    assert not batch["image"][0, 8:].any()


def test_a_view_of_the_whole_image_is_that_of_evaluation_and_crops_keep_the_shape():
    image, rng = picture(64, 32), np.random.default_rng(0)
    whole, view, crop = (empty_batch(ROWS.columns, 1) for _ in range(3))
    ROWS.write(whole, 0, image)
    ROWS.write_view(view, 0, image, PLAIN, rng)
    for name in whole:
        np.testing.assert_allclose(view[name], whole[name], atol=16)
    cropped = dataclasses.replace(PLAIN, crop_scale=(0.3, 0.5))
    ROWS.write_view(crop, 0, image, cropped, rng)
    assert crop["image_grid"].tolist() == whole["image_grid"].tolist()
    assert (crop["image"] != whole["image"]).any()


def test_rows_of_all_kinds_have_its_columns(encode, tokenizer):
    grid = {name: column.shape for name, column in ROWS.columns.items()}
    assert grid == {"image": (24, 24, 3), "image_grid": (2,)}
    pairs, questions = PairRows(16, 8, 2, ROWS), QuestionRows(16, 8, 3, ROWS)
    for rows in (pairs, questions):
        assert set(grid) <= set(rows.columns)
    sides = set(StatementRows(16, 8, ROWS).columns)
    assert {"image_0", "image_0_grid", "image_1", "image_1_grid"} <= sides
    for rows in (pairs, questions, StatementRows(16, 8, ROWS)):
        made = rows.synthetic(3, np.random.default_rng(0), vocab_size=50)
        assert {name: value.shape[1:] for name, value in made.items()} == {
            name: column.shape for name, column in rows.columns.items()
        }
    records = [
        Record(encode(picture(width, 20, width)), ("red apple",), (), str(width))
        for width in (10, 20, 40, 90)
    ]
    maker = PairExamples(records, tokenizer, pairs, seed=0, augmentation=PLAIN)
    with stream_batches(maker, batch_size=4, start_step=0, end_step=1) as batches:
        batch = next(batches)
    # 16 wide and 30 high, 16 x 16, 30 x 15 and 30 x 7 pixels, in whole patches.
    assert sorted(map(tuple, batch["image_grid"].tolist())) == [(1, 3), (1, 3), (2, 2), (3, 1)]
    shown = EvalImages(records, ROWS)
    row = empty_batch(shown.columns, 1)
    shown.write(row, 0, 0, 2)
    assert row["image_grid"].tolist() == [[1, 3]] and shown.picture(2).shape == (16, 16, 3)


def test_a_checkpoint_says_what_images_become():
    for form in (OFFICIAL, QuestionRows(16, 8, 3).images):
        assert image_form({**form.preprocessing, "mean": [0.5] * 3}) == form


def test_sizes_that_cannot_be():
    with pytest.raises(ConfigError, match="longest_side=8 is less than config.model.image_size=16"):
        CanvasRows(16, 8, 8)
    with pytest.raises(ConfigError, match="patch_size=32 must be 1 to config.model.image_size=16"):
        CanvasRows(16, 30, 32)
