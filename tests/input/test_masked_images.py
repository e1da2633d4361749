"""Two views of one crop with block masks: shapes, shared geometry, determinism, broken records."""

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.input import attempts
from vlmo_jax.input.masked_images import MaskedImageExamples, MaskedViews
from vlmo_jax.input.pipeline import Loading, stream_batches

SIZES = dict(image_size=32, tokenizer_image_size=16, patch_size=8, num_masked=6, min_block=2)
STREAM = dict(batch_size=4, start_step=0, end_step=3, loading=Loading(num_threads=1))


def run(records, stream=(), **options):
    maker = MaskedImageExamples(records, MaskedViews(**SIZES), **(dict(seed=3) | options))
    with stream_batches(maker, **(STREAM | dict(stream))) as batches:
        found = list(batches)
    return {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}


def test_a_batch_is_what_the_task_expects(make_plain_records, numbers_shown):
    found = run(make_plain_records(12), color_jitter=())
    shapes = {name: (value.dtype.type, value.shape) for name, value in found.items()}
    assert shapes == {
        "image": (np.uint8, (12, 32, 32, 3)),
        "tokenizer_image": (np.uint8, (12, 16, 16, 3)),
        "masked_positions": (np.int32, (12, 6)),
    }
    assert sorted(numbers_shown(found["image"])) == list(range(12))
    assert numbers_shown(found["tokenizer_image"]) == numbers_shown(found["image"])
    positions = found["masked_positions"]
    assert positions.min() >= -1 and positions.max() < 16 and (positions[:, 0] >= 0).all()
    for row in positions:
        used = row[row >= 0]
        assert (np.diff(used) > 0).all() and (row[len(used) :] == -1).all()
    assert len({tuple(row) for row in positions.tolist()}) > 6


def gradient_image(width=90, height=60):
    """Red tells the column, green the row: a view's pixels say where they come from."""
    columns, rows = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(
        np.stack([columns, rows, np.full_like(rows, 128)], axis=-1).astype(np.uint8)
    )


def maker(**options):
    return MaskedImageExamples([None], MaskedViews(**SIZES), 3, **(dict(color_jitter=()) | options))


def test_both_views_show_the_same_crop_mirrored_alike():
    boxes = []
    for seed in range(40):
        image, tokenizer_image = maker().two_views(gradient_image(), np.random.default_rng(seed))
        assert image.shape == (32, 32, 3) and tokenizer_image.shape == (16, 16, 3)
        halved = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(tokenizer_image.astype(float), halved, atol=4)
        boxes.append(
            (int(image[0, 0, 0]) - int(image[0, -1, 0]), image[..., 0].min(), image[..., 1].min())
        )
    mirrored = np.mean([slope > 0 for slope, *_ in boxes])
    assert 0.25 < mirrored < 0.75 and len(set(boxes)) > 30


def test_colours_are_jittered_before_the_views_part():
    jittered = maker(color_jitter=(0.4, 0.4, 0.4, 0.0), flip=False, crop_scale=(1.0, 1.0))
    plain = maker(flip=False, crop_scale=(1.0, 1.0)).two_views(
        gradient_image(32, 32), np.random.default_rng(0)
    )[0]
    changes = []
    for seed in range(10):
        image, tokenizer_image = jittered.two_views(
            gradient_image(32, 32), np.random.default_rng(seed)
        )
        halved = image.reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
        np.testing.assert_allclose(tokenizer_image.astype(float), halved, atol=8)
        changes.append(np.abs(image.astype(int) - plain).mean())
    assert max(changes) > 15


@pytest.mark.parametrize(
    "stream", [dict(loading=Loading(num_threads=3)), dict(start_step=1)], ids=str
)
def test_an_example_depends_on_seed_and_position_alone(make_records, stream):
    records = make_records(9)
    whole, part = run(records), run(records, stream)
    first = 4 * stream.get("start_step", 0)
    for name in whole:
        np.testing.assert_array_equal(part[name], whole[name][first:])
    assert (run(records, seed=4)["masked_positions"] != whole["masked_positions"]).any()


def test_broken_images_give_way_to_others(make_records, make_plain_records, numbers_shown):
    some = dict(loading=Loading(max_broken_fraction=0.5))
    found = run(make_plain_records(12, broken={2, 5}), some, color_jitter=())
    numbers = numbers_shown(found["image"])
    assert len(numbers) == 12 and not {2, 5} & set(numbers)
    with pytest.raises(attempts.BrokenDataError, match="were all broken.*'record"):
        run(make_records(3, broken={0, 1, 2}))


@pytest.mark.parametrize(
    "options, message",
    [
        (dict(crop_scale=(0.0, 1.0)), "crop_scale"),
        (dict(color_jitter=(0.4, 0.4, 0.4)), "color_jitter"),
    ],
    ids=str,
)
def test_impossible_arguments_are_refused(make_records, options, message):
    with pytest.raises(ValueError, match=message):
        run(make_records(4), **options)
    with pytest.raises(ValueError, match="no records"):
        run([])


@pytest.mark.parametrize(
    "size", [dict(patch_size=5), dict(num_masked=16), dict(tokenizer_image_size=0)], ids=str
)
def test_impossible_sizes_are_refused(size):
    with pytest.raises(ValueError, match="=".join(map(str, *size.items()))):
        MaskedViews(**(SIZES | size))
