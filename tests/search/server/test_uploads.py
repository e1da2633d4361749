"""What was uploaded is kept for a while, and not without end."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.search.server.limits import Limits, RefusalError
from vlmo_jax.search.server.uploads import Upload, Uploads, read_upload

ONE = Upload(Image.new("RGB", (4, 4)), b"jpeg")


def test_a_picture_is_kept_as_long_as_it_is_asked_for():
    now = [0.0]
    uploads = Uploads(Limits(upload_seconds=60), clock=lambda: now[0])
    name = uploads.add(ONE)
    for now[0] in (50.0, 100.0):
        assert uploads.get(name) is ONE
    now[0] = 161.0
    with pytest.raises(RefusalError, match="kept for 1 minutes") as gone:
        uploads.get(name)
    assert gone.value.status == 410 and len(uploads) == 0


def test_the_one_that_was_not_asked_for_longest_goes_first():
    uploads = Uploads(Limits(uploads=2))
    first, second = uploads.add(ONE), uploads.add(ONE)
    uploads.get(first)
    third = uploads.add(ONE)
    assert uploads.get(first) and uploads.get(third) and len(uploads) == 2
    with pytest.raises(RefusalError):
        uploads.get(second)


def test_names_cannot_be_guessed():
    uploads = Uploads(Limits())
    names = {uploads.add(ONE) for _ in range(100)}
    assert len(names) == 100 and all(len(name) == 16 for name in names)


def test_a_picture_becomes_what_the_model_reads_and_a_thumbnail(tmp_path):
    def preprocess(picture):
        return np.asarray(picture.resize((8, 8)))[None]

    path = tmp_path / "a.png"
    Image.new("RGB", (600, 300), (10, 200, 30)).save(path)
    upload = read_upload(path.read_bytes(), preprocess, Limits())
    assert upload.image.size == (8, 8) and upload.image.getpixel((3, 3)) == (10, 200, 30)
    path.write_bytes(upload.thumbnail)
    assert Image.open(path).size == (256, 128)
