"""Sheets of drawings: always the same, and artists of one split are in no other."""

import numpy as np

from vlmo_jax.datasets.images import decode_image
from vlmo_jax.datasets.made import masks
from vlmo_jax.datasets.masks import decode_mask
from vlmo_jax.datasets.sources import open_segmentation_source


def test_no_two_splits_share_an_artist():
    artists = {
        split: {masks._artist(source[number].image_id) for number, _ in drawn}
        for split, (source, drawn) in masks._drawings().items()
    }
    assert artists.keys() == masks.SIZES.keys()
    assert artists["untouched_artist"] == {masks.UNTOUCHED_ARTIST}
    assert sum(map(len, artists.values())) == len(set.union(*artists.values())) == 7


def test_a_sheet_is_always_the_same_and_its_mask_follows_the_drawings():
    source = open_segmentation_source("emoji_masks", "untouched_artist")
    record, again = source[3], source[3]
    assert record.image == again.image and record.image_id == "untouched_artist/3"
    sheet, mask = np.asarray(decode_image(record.image)), decode_mask(record.mask.tobytes())
    assert sheet.shape == (masks.SIDE, masks.SIDE, 3) and mask.shape == sheet.shape[:2]
    assert 2 <= len(np.unique(mask)) <= 1 + masks.MOST


def test_white_inside_a_drawing_belongs_to_it():
    pixels = np.full((9, 9, 3), 255, np.uint8)
    pixels[2:7, 2:7] = 0
    pixels[4, 4] = 255
    wanted = np.zeros((9, 9), bool)
    wanted[2:7, 2:7] = True
    np.testing.assert_array_equal(masks.silhouette_of(pixels), wanted)
