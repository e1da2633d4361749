"""Views that are made in less time: how far they are from the exact ones, and that they are drawn
alike.
"""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from tests.pictures import gradient
from vlmo_jax.datasets.images import BrokenImageError, decode_image, open_image
from vlmo_jax.input import masked_images
from vlmo_jax.input.benchmark import synthetic_photos
from vlmo_jax.input.images import randaugment
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.pipeline import Loading, stream_batches

EXACT = Augmentation()
FAST = Augmentation(fast=True)
SIZE = 224


@pytest.fixture(scope="module")
def photos():
    return [record.image for record in synthetic_photos(4)]


def differences(photos, augmentations, size, draws=6):
    exact, fast = augmentations
    found = []
    for data in photos:
        for seed in range(draws):
            one = exact.crop(decode_image(data), size, np.random.default_rng(seed))
            other = fast.crop(open_image(data), size, np.random.default_rng(seed))
            found.append(np.abs(np.asarray(one).astype(int) - np.asarray(other)))
    return np.stack(found)


def test_pixels_differ_by_as_much_as_the_documents_say(photos):
    # Of noise whose neighbouring pixels differ by 25, four times as much as in photographs.
    crops = Augmentation(randaugment=()), Augmentation(randaugment=(), fast=True)
    sharp = differences(photos, crops, SIZE)
    assert 1 < sharp.mean() < 4 and sharp.max() < 50
    # From a half and a quarter of the pixels a side, which the decoder has smoothed.
    assert differences(photos, crops, 100).mean() < 5
    smooth = io.BytesIO()
    gradient(640, 480).save(smooth, "JPEG", quality=95)
    assert differences([smooth.getvalue()], crops, SIZE).max() <= 4


def test_a_fast_view_shows_the_same_crop_and_changes(photos):
    for seed in range(8):
        exact, fast = (
            augmentation.view(open_as(photos[0]), SIZE, np.random.default_rng(seed))
            for augmentation, open_as in ((EXACT, decode_image), (FAST, open_image))
        )
        # Coarse enough, both are the same picture, wherever RandAugment has moved it.
        coarse = [
            np.asarray(Image.fromarray(v).resize((16, 16))).astype(int) for v in (exact, fast)
        ]
        assert np.abs(coarse[0] - coarse[1]).mean() < 2


def test_crops_of_pictures_that_lie_on_their_side_and_of_no_jpegs(encode):
    lying = Image.Exif()
    lying[0x0112] = 6
    for data in (
        encode(gradient(300, 200), "JPEG", quality=95, exif=lying),
        encode(gradient(300, 200), "PNG"),
        encode(gradient(300, 200).convert("L"), "JPEG", quality=95),
    ):
        assert open_image(data).size == decode_image(data).size
        crops = Augmentation(randaugment=()), Augmentation(randaugment=(), fast=True)
        assert differences([data], crops, 64).mean() < 2


def test_a_large_jpeg_is_decoded_at_the_scale_that_its_crop_allows(encode):
    data = encode(gradient(800, 600), "JPEG", quality=95)
    for size, sides in ((301, (800, 600)), (300, (400, 300)), (70, (100, 75))):
        opened = open_image(data)
        crop = Augmentation(crop_scale=(1.0, 1.0), fast=True).crop(
            opened, size, np.random.default_rng(0)
        )
        assert crop.size == (size, size)
        assert opened.size == sides


def test_a_cut_off_file_gives_way_to_another_record(photos, make_records, tokenizer):
    cut = photos[0][: len(photos[0]) // 2]
    with pytest.raises(BrokenImageError, match="truncated"):
        FAST.view(open_image(cut), SIZE, np.random.default_rng(0))
    records = make_records(3)
    records[1] = dataclasses.replace(records[1], image=cut)
    maker = PairExamples(records, tokenizer, PairRows(16, 8, 3), seed=0, augmentation=FAST)
    with stream_batches(
        maker,
        batch_size=3,
        start_step=0,
        end_step=1,
        loading=Loading(num_workers=0, num_threads=1, max_broken_fraction=1.0),
    ) as batches:
        next(batches)
        assert batches.broken >= 1


def test_two_views_of_a_crop_in_less_time(photos):
    views = masked_images.MaskedViews(
        image_size=64, tokenizer_image_size=32, patch_size=16, num_masked=4, min_block=1
    )
    exact, fast = (
        masked_images.MaskedImageExamples([], views, seed=0, color_jitter=(), fast=fast)
        for fast in (False, True)
    )
    one = exact.two_views(decode_image(photos[0]), np.random.default_rng(1))
    other = fast.two_views(open_image(photos[0]), np.random.default_rng(1))
    for here, there in zip(one, other, strict=True):
        assert here.shape == there.shape
        assert np.abs(here.astype(int) - there).mean() < 6
    jittered = masked_images.MaskedImageExamples([], views, seed=0, fast=True)
    jittered = jittered.two_views(open_image(photos[0]), np.random.default_rng(1))
    assert jittered[0].shape == (64, 64, 3) and (jittered[0] != other[0]).any()


@pytest.mark.parametrize("name", ["translate_x", "translate_y"])
@pytest.mark.parametrize("strength", [0.7, -0.7, 0.0, 1.0, 0.33])
def test_moving_by_whole_pixels_is_what_a_bilinear_filter_gives(name, strength):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8))
    moved = 10 * strength
    matrix = (1, 0, moved, 0, 1, 0) if name == "translate_x" else (1, 0, 0, 0, 1, moved)
    expected = image.transform(
        image.size,
        Image.Transform.AFFINE,
        matrix,
        Image.Resampling.BILINEAR,
        fillcolor=(9, 8, 7),
    )
    found = randaugment.OPERATIONS[name](image, strength, (9, 8, 7))
    assert (np.asarray(found) == np.asarray(expected)).all()
