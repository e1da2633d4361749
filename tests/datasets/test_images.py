import io

import pytest
from PIL import Image

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
