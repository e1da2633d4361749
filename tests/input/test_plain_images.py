"""One random view of each image: shapes, order, determinism, broken records."""

import numpy as np
import pytest

from vlmo_jax.input import attempts
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.pipeline import Loading, stream_batches
from vlmo_jax.input.plain_images import ImageExamples, ImageRows

STREAM = dict(batch_size=4, start_step=0, end_step=3, loading=Loading(num_threads=1))


def run(records, stream=(), image_size=8, seed=3, **options):
    augmentation = Augmentation(**(dict(crop_scale=(0.08, 1.0), randaugment=()) | options))
    maker = ImageExamples(records, ImageRows(image_size), seed, augmentation)
    with stream_batches(maker, **(STREAM | dict(stream))) as batches:
        found = list(batches)
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def test_every_record_comes_once_an_epoch_in_another_view(
    make_records, make_plain_records, numbers_shown
):
    found = run(make_records(6))
    assert found.keys() == {"image"}
    assert found["image"].shape == (12, 8, 8, 3) and found["image"].dtype == np.uint8
    numbers = numbers_shown(run(make_plain_records(6))["image"])
    assert sorted(numbers[:6]) == sorted(numbers[6:]) == list(range(6))
    for number in range(6):
        first, second = found["image"][np.equal(numbers, number)]
        assert (first != second).any()


def test_whole_images_are_mirrored_half_of_the_time(make_records):
    records = make_records(40)
    plain, flipped = (
        run(records, dict(end_step=10), crop_scale=(1.0, 1.0), flip=flip)["image"]
        for flip in (False, True)
    )
    same = (plain == flipped).all((1, 2, 3))
    mirrored = (plain[:, :, ::-1] == flipped).all((1, 2, 3))
    assert (same ^ mirrored).all() and 8 < mirrored.sum() < 32


@pytest.mark.parametrize(
    "stream", [dict(loading=Loading(num_threads=3)), dict(start_step=1)], ids=str
)
def test_an_example_depends_on_seed_and_position_alone(make_records, stream):
    records = make_records(9)
    whole, part = run(records), run(records, stream)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][4 * stream.get("start_step", 0) :])
    assert (run(records, seed=4)["image"] != whole["image"]).any()


def test_broken_images_give_way_to_others(make_records, make_plain_records, numbers_shown):
    some = dict(loading=Loading(max_broken_fraction=0.5))
    numbers = numbers_shown(run(make_plain_records(12, broken={2, 5}), some)["image"])
    assert len(numbers) == 12 and not {2, 5} & set(numbers)
    with pytest.raises(attempts.BrokenDataError, match="were all broken.*'record"):
        run(make_records(3, broken={0, 1, 2}))


@pytest.mark.parametrize(
    "options, message",
    [(dict(image_size=0), "image_size=0"), (dict(crop_scale=(0.0, 1.0)), "crop_scale")],
    ids=str,
)
def test_impossible_arguments_are_refused(make_records, options, message):
    with pytest.raises(ValueError, match=message):
        run(make_records(4), **options)
