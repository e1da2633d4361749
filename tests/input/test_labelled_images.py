"""Rows of images with a class: labels, mixes of a step, erasing, and the middle of an image."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.labels import ClassOf
from vlmo_jax.input.attempts import BrokenDataError
from vlmo_jax.input.images import erasing, pixels
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.labelled_images import LabelledExamples, LabelledRows
from vlmo_jax.input.mixed_images import Mixing
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.plain_images import CroppedRows, ImageRows

PLAIN = Mixing()
VIEWS = Augmentation(crop_scale=(1.0, 1.0), flip=False, randaugment=())


def run(records, ids, *, mixing=PLAIN, batch_size=4, start=0, end=3):
    rows = LabelledRows(ImageRows(8), len(ids), mixing.mixes)
    tell = ClassOf("text", {})
    maker = LabelledExamples(records, rows, 3, tell, ids, VIEWS, mixing, batch_size)
    stream = dict(batch_size=batch_size, start_step=start, end_step=end)
    with stream_batches(maker, **stream, loading=Loading(num_threads=1)) as batches:
        return list(batches)


@pytest.fixture
def classes(make_plain_records):
    records = make_plain_records(6)
    return records, {records[number].texts[0]: number for number in range(6)}


def test_labels_are_those_of_their_images(classes, numbers_shown):
    batch, *_ = run(*classes)
    assert batch.keys() == {"image", "label"} and batch["label"].dtype == np.int32
    shown = numbers_shown(np.concatenate([b["image"] for b in run(*classes)]))
    labels = np.concatenate([b["label"] for b in run(*classes)])
    assert labels.tolist() == [int(number) for number in shown]


def test_a_class_that_is_not_in_the_list_is_named(classes):
    records, ids = classes
    with pytest.raises(BrokenDataError, match="its class '.*' is not in the list"):
        run(records, {f"other {name}": number for name, number in ids.items()})


def test_a_step_is_mixed_as_a_whole_and_by_its_number_alone(classes):
    mixing = Mixing(mixup=0.8, cutmix=1.0)
    batches = run(*classes, mixing=mixing, end=40)
    shares = [set(batch["mix_share"].tolist()) for batch in batches]
    assert all(len(one) == 1 for one in shares) and len(set.union(*shares)) > 30
    cut = np.array([batch["mix_box"][0].any() for batch in batches])
    assert 10 < cut.sum() < 30
    for batch in np.array(batches)[cut]:
        top, bottom, left, right = batch["mix_box"][0]
        outside = 1 - (bottom - top) * (right - left) / 64
        np.testing.assert_allclose(batch["mix_share"][0], outside, rtol=1e-6)
    later = run(*classes, mixing=mixing, start=30, end=40)
    for one, other in zip(batches[30:], later, strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("strength, cuts", [(dict(mixup=1.0), False), (dict(cutmix=1.0), True)])
def test_one_kind_of_mix_alone(strength, cuts):
    mixes = [Mixing(**strength).draw(0, step, 32) for step in range(60)]
    assert [mix.box is not None for mix in mixes].count(cuts) > 50
    assert 0.4 < np.mean([mix.share for mix in mixes]) < 0.8


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Mixing(mixup=-1.0), "config.data.mixup=-1.0"),
        (lambda: Mixing(cutmix=1e6), "config.data.cutmix"),
        (lambda: Mixing(switch=1.1), "config.data.mix_switch=1.1"),
        (lambda: Augmentation(erasing=1.5), "config.data.erasing=1.5"),
        (lambda: CroppedRows(8, 0.0), "config.data.crop_share=0.0"),
    ],
)
def test_impossible_draws_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_erasing_fills_a_box_of_the_usual_size_with_noise():
    image, rng = np.full((60, 80, 3), 7, np.uint8), np.random.default_rng(0)
    shares = []
    for _ in range(50):
        changed = (erasing.erase(image, rng) != image).any(axis=2)
        rows, columns = np.flatnonzero(changed.any(1)), np.flatnonzero(changed.any(0))
        inside = changed[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        assert inside.mean() > 0.9  # a full box, but for noise that fell on 7
        shares.append(inside.size / changed.size)
    assert min(shares) > 0.01 and 0.25 < max(shares) < 0.36
    assert (image == 7).all()
    views = Augmentation(crop_scale=(1.0, 1.0), flip=False, randaugment=(), erasing=0.25)
    picture = Image.fromarray(image)
    seen = [(views.view(picture, 16, rng) != 7).any() for _ in range(200)]
    assert 30 < sum(seen) < 75


def test_the_middle_of_an_image_at_a_share_of_its_side():
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (100, 140, 3), np.uint8))
    resized = image.resize((44, 32), Image.Resampling.BICUBIC)
    wanted = np.asarray(resized.crop((8, 2, 36, 30)), int)
    found = np.asarray(pixels.resize_centre(image, 28, 0.875), int)
    # The official code rounds pixels before it crops, and the longer side to whole pixels.
    assert np.abs(found - wanted).mean() < 3
    assert np.array_equal(pixels.resize_centre(image, 28), pixels.resize_centre(image, 28, 1.0))
    form = CroppedRows(28, 0.875)
    assert (
        form.preprocessing["crop_share"] == 0.875
        and "crop_share" not in CroppedRows(28).preprocessing
    )
