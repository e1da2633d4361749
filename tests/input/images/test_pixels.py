import numpy as np
import pytest
from PIL import Image

from tests.pictures import as_array, gradient, noise
from vlmo_jax.datasets.images import decode_image
from vlmo_jax.input.images import pixels
from vlmo_jax.input.images.augmentation import Augmentation


def test_resize_square_is_pillows_bicubic():
    image = noise(50, 33)
    expected = np.asarray(image.resize((24, 24), Image.Resampling.BICUBIC))
    assert (as_array(pixels.resize_square(image, 24)) == expected).all()


def test_crops_lie_in_the_image_and_have_the_allowed_area_and_shape():
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(1000):
        left, top, right, bottom = pixels.draw_crop(120, 80, rng, scale=(0.3, 0.8))
        assert 0 <= left < right <= 120 and 0 <= top < bottom <= 80
        width, height = right - left, bottom - top
        areas.append(width * height / (120 * 80))
        assert 0.73 < width / height < 1.37
    assert 0.29 < min(areas) < 0.33 and 0.75 < max(areas) < 0.81


def test_an_image_too_narrow_for_any_crop_gives_its_centre():
    rng = np.random.default_rng(0)
    assert pixels.draw_crop(400, 30, rng, scale=(0.5, 1.0)) == (180, 0, 220, 30)
    assert pixels.draw_crop(30, 400, rng, scale=(0.5, 1.0)) == (0, 180, 30, 220)
    assert pixels.draw_crop(1, 1, rng, scale=(0.5, 1.0)) == (0, 0, 1, 1)


def test_a_random_crop_is_a_resize_of_its_box():
    image = noise(64, 64)
    whole = Augmentation(crop_scale=(1.0, 1.0)).crop(image, 64, np.random.default_rng(0))
    box = pixels.draw_crop(64, 64, np.random.default_rng(0), scale=(1.0, 1.0))
    assert (
        as_array(whole) == np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=box))
    ).all()
    part = Augmentation(crop_scale=(0.3, 0.4)).crop(
        gradient(300, 200), 32, np.random.default_rng(5)
    )
    box = pixels.draw_crop(300, 200, np.random.default_rng(5), scale=(0.3, 0.4))
    cut_first = gradient(300, 200).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(as_array(part).astype(int) - np.asarray(cut_first)).max() <= 3


def test_jpegs_are_shrunk_while_decoding_only_where_a_crop_has_pixels_to_spare(encode):
    data = encode(gradient(800, 600), "JPEG", quality=95)
    assert decode_image(data).size == (800, 600)
    least = pixels.min_pixels_for_crop(64, (0.5, 1.0))
    small = decode_image(data, min_pixels=least)
    assert small.size == (400, 300) and small.width * small.height >= least
    assert decode_image(data, min_pixels=pixels.min_pixels_for_crop(224, (0.5, 1.0))).size == (
        800,
        600,
    )
    full = np.asarray(pixels.resize_square(decode_image(data), 64)).astype(int)
    assert np.abs(full - np.asarray(pixels.resize_square(small, 64))).mean() < 1


def test_flip_is_the_mirror_image():
    image = noise(5, 4)
    assert (as_array(pixels.flip_horizontally(image)) == np.asarray(image)[:, ::-1]).all()


@pytest.mark.parametrize("shape", [(20, 33, 3), (41, 16, 3), (24, 24, 3), (16, 400, 3)])
def test_resize_centre_is_a_resize_of_the_shorter_side_and_a_crop(shape):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, np.uint8))
    shorter, size = min(image.size), 12
    whole = image.resize([int(size * side / shorter) for side in image.size], Image.BICUBIC)
    left, top = (round((side - size) / 2) for side in whole.size)
    expected = np.asarray(whole.crop((left, top, left + size, top + size))).astype(int)
    found = np.asarray(pixels.resize_centre(image, size)).astype(int)
    assert found.shape == (size, size, 3) and np.abs(found - expected).max() <= 1
