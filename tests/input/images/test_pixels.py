import numpy as np
import pytest
from PIL import Image

from vlmo_jax.input.images import pixels


def noise(width, height, mode="RGB", seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)
    return Image.fromarray(pixels if channels > 1 else pixels[..., 0], mode=None)


def gradient(width, height):
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 40)], -1).astype(
            np.uint8
        )
    )


def as_array(image):
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize(
    "file_format, options",
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {})],
)
def test_lossless_formats_come_back_pixel_for_pixel(encode, file_format, options):
    image = noise(17, 9)
    assert (
        as_array(pixels.decode_image(encode(image, file_format, **options))) == np.asarray(image)
    ).all()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(encode, file_format):
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 2:4, 3], rgba[:, 4:, 3] = 128, 255
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    decoded = as_array(pixels.decode_image(encode(Image.fromarray(rgba), file_format, **options)))
    np.testing.assert_allclose(
        decoded[0, [0, 2, 4]], [[255, 255, 255], [227, 127, 127], [200, 0, 0]], atol=1
    )


def test_grey_with_alpha_and_palette_with_a_transparent_colour_lie_on_white(encode):
    grey = Image.merge("LA", [Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)])
    assert (as_array(pixels.decode_image(encode(grey))) == 255).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    for file_format in ("PNG", "GIF"):
        decoded = as_array(pixels.decode_image(encode(palette, file_format, transparency=0)))
        assert decoded.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_greys_bits_and_cmyk_become_rgb(encode):
    ramp = np.array([[0, 100, 255]], np.uint8)
    assert as_array(pixels.decode_image(encode(Image.fromarray(ramp)))).tolist() == [
        [[v] * 3 for v in (0, 100, 255)]
    ]
    assert as_array(pixels.decode_image(encode(Image.fromarray(ramp > 50)))).tolist() == [
        [[v] * 3 for v in (0, 255, 255)]
    ]
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    np.testing.assert_allclose(
        as_array(pixels.decode_image(encode(red, "JPEG", quality=95)))[4, 4], [255, 0, 0], atol=5
    )


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_not_clipped(encode, file_format):
    grey = Image.fromarray(np.array([[0, 0x7F00, 0xFFFF]], np.uint16))
    assert as_array(pixels.decode_image(encode(grey, file_format)))[0, :, 1].tolist() == [
        0,
        0x7F,
        0xFF,
    ]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(encode, orientation):
    upright = np.asarray(gradient(24, 16))
    undo = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(Image.fromarray(np.ascontiguousarray(undo[orientation])), exif=exif)
    assert (as_array(pixels.decode_image(data)) == upright).all()


def test_damaged_and_foreign_files_are_refused_with_the_reason(encode):
    png, jpeg = encode(noise(32, 32)), encode(noise(32, 32), "JPEG")
    floats = encode(Image.fromarray(np.ones((4, 4), np.float32)), "TIFF")
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n"
    for data, reason in [
        (b"", "empty"),
        (b"no image", "cannot identify"),
        (png[:-200], "PNG|truncated|Truncated"),
        (jpeg[:-400], "truncated"),
        (floats, "floating point"),
        (postscript, "cannot identify"),
    ]:
        with pytest.raises(pixels.BrokenImageError, match=reason):
            pixels.decode_image(data)


def test_an_image_too_large_to_be_honest_is_refused(encode, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(pixels.BrokenImageError, match="Bomb"):
        pixels.decode_image(encode(noise(32, 32)))


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
    whole = pixels.random_resized_crop(image, 64, np.random.default_rng(0), scale=(1.0, 1.0))
    box = pixels.draw_crop(64, 64, np.random.default_rng(0), scale=(1.0, 1.0))
    assert (
        as_array(whole) == np.asarray(image.resize((64, 64), Image.Resampling.BICUBIC, box=box))
    ).all()
    part = pixels.random_resized_crop(
        gradient(300, 200), 32, np.random.default_rng(5), scale=(0.3, 0.4)
    )
    box = pixels.draw_crop(300, 200, np.random.default_rng(5), scale=(0.3, 0.4))
    cut_first = gradient(300, 200).crop(box).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.abs(as_array(part).astype(int) - np.asarray(cut_first)).max() <= 3


def test_jpegs_are_shrunk_while_decoding_only_where_a_crop_has_pixels_to_spare(encode):
    data = encode(gradient(800, 600), "JPEG", quality=95)
    assert pixels.decode_image(data).size == (800, 600)
    least = pixels.min_pixels_for_crop(64, (0.5, 1.0))
    small = pixels.decode_image(data, min_pixels=least)
    assert small.size == (400, 300) and small.width * small.height >= least
    assert pixels.decode_image(
        data, min_pixels=pixels.min_pixels_for_crop(224, (0.5, 1.0))
    ).size == (800, 600)
    full = np.asarray(pixels.resize_square(pixels.decode_image(data), 64)).astype(int)
    assert np.abs(full - np.asarray(pixels.resize_square(small, 64))).mean() < 1


def test_flip_is_the_mirror_image():
    image = noise(5, 4)
    assert (as_array(pixels.flip_horizontally(image)) == np.asarray(image)[:, ::-1]).all()
