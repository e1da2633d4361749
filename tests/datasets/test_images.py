import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from tests.pictures import as_array, gradient, noise
from vlmo_jax.datasets import images


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP", "GIF", "BMP"])
def test_usual_formats_decode(encoded_image, image_format):
    image = images.decode_image(encoded_image(1, image_format, (20, 10)))
    assert image.mode == "RGB" and image.size == (20, 10)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "I;16", "1"])
def test_other_modes_become_rgb(mode):
    file = io.BytesIO()
    Image.new(mode, (5, 4)).save(file, "TIFF")
    assert images.decode_image(file.getvalue()).mode == "RGB"


@pytest.mark.parametrize("image_format", ["PNG", "JPEG", "WEBP"])
def test_cut_files_are_refused(encoded_image, image_format):
    data = encoded_image(1, image_format, (64, 64))
    with pytest.raises(ValueError):
        images.decode_image(data[: len(data) // 2])


def test_what_is_no_image_is_refused():
    with pytest.raises(ValueError, match="UnidentifiedImageError"):
        images.decode_image(b"<html>404</html>")


@pytest.fixture
def encode():
    """A function from a Pillow image to the bytes of a file."""

    def encode(image, file_format="PNG", **options):
        file = io.BytesIO()
        image.save(file, file_format, **options)
        return file.getvalue()

    return encode


@pytest.mark.parametrize(
    "file_format, options",
    [("PNG", {}), ("WEBP", {"lossless": True}), ("BMP", {}), ("TIFF", {}), ("PPM", {})],
)
def test_lossless_formats_come_back_pixel_for_pixel(encode, file_format, options):
    image = noise(17, 9)
    assert (
        as_array(images.decode_image(encode(image, file_format, **options))) == np.asarray(image)
    ).all()


@pytest.mark.parametrize("file_format", ["PNG", "WEBP"])
def test_transparency_is_laid_over_white(encode, file_format):
    rgba = np.zeros((4, 6, 4), np.uint8)
    rgba[..., 0] = 200
    rgba[:, 2:4, 3], rgba[:, 4:, 3] = 128, 255
    options = {"lossless": True, "exact": True} if file_format == "WEBP" else {}
    decoded = as_array(images.decode_image(encode(Image.fromarray(rgba), file_format, **options)))
    np.testing.assert_allclose(
        decoded[0, [0, 2, 4]], [[255, 255, 255], [227, 127, 127], [200, 0, 0]], atol=1
    )


def test_grey_with_alpha_and_palette_with_a_transparent_colour_lie_on_white(encode):
    grey = Image.merge("LA", [Image.new("L", (2, 2), 10), Image.new("L", (2, 2), 0)])
    assert (as_array(images.decode_image(encode(grey))) == 255).all()
    palette = Image.new("P", (2, 1))
    palette.putpalette([0, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    for file_format in ("PNG", "GIF"):
        decoded = as_array(images.decode_image(encode(palette, file_format, transparency=0)))
        assert decoded.tolist() == [[[255, 255, 255], [0, 0, 255]]]


def test_greys_bits_and_cmyk_become_rgb(encode):
    ramp = np.array([[0, 100, 255]], np.uint8)
    assert as_array(images.decode_image(encode(Image.fromarray(ramp)))).tolist() == [
        [[v] * 3 for v in (0, 100, 255)]
    ]
    assert as_array(images.decode_image(encode(Image.fromarray(ramp > 50)))).tolist() == [
        [[v] * 3 for v in (0, 255, 255)]
    ]
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    np.testing.assert_allclose(
        as_array(images.decode_image(encode(red, "JPEG", quality=95)))[4, 4], [255, 0, 0], atol=5
    )


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_16_bit_greys_are_scaled_not_clipped(encode, file_format):
    grey = Image.fromarray(np.array([[0, 0x7F00, 0xFFFF]], np.uint16))
    assert as_array(images.decode_image(encode(grey, file_format)))[0, :, 1].tolist() == [
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
    assert (as_array(images.decode_image(data)) == upright).all()


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
        with pytest.raises(images.BrokenImageError, match=reason):
            images.decode_image(data)


def test_an_image_too_large_to_be_honest_is_refused(encode, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(images.BrokenImageError, match="Bomb"):
        images.decode_image(encode(noise(32, 32)))


@pytest.mark.parametrize(
    "data, what",
    [
        (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC picture; convert"),
        (b'<?xml version="1.0"?>\n<!-- x -->\n<svg xmlns="">', "SVG drawing; convert"),
        (b"<!DOCTYPE html><html>404", "HTML page"),
        (b'{"error": "not found"}', "JSON"),
        (b"<Error><Code>AccessDenied</Code></Error>", "XML"),
        (b"%PDF-1.7\n", "PDF document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "video"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        (b"\0" * 100, "zeros"),
        (b"", "empty"),
    ],
)
def test_other_files_are_named_for_what_they_are(data, what):
    with pytest.raises(images.BrokenImageError, match=what) as refused:
        images.decode_image(data)
    assert "0x" not in str(refused.value) and "\n" not in str(refused.value)


def test_a_large_colour_profile_drops_no_picture(encode):
    image = noise(17, 9)
    data = encode(image, icc_profile=bytes(2**21))
    assert (as_array(images.decode_image(data)) == np.asarray(image)).all()
    assert images.read_header(data) == ("PNG", (17, 9))


def test_pictures_of_too_many_pixels_are_refused_by_name(encode):
    data = bytearray(encode(Image.new("1", (20, 20))))
    data[16:24] = struct.pack(">II", 20000, 20000)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(images.BrokenImageError, match="too many pixels.*400000000"):
        images.decode_image(bytes(data))
