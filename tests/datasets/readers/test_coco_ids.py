import pytest

from vlmo_jax.datasets.readers import coco_ids


@pytest.mark.parametrize(
    "record_id, number",
    [
        (coco_ids.coco_record_id(391895), 391895),
        (f"vg/2370799/{coco_ids.coco_record_id(9)}", 9),
        ("COCO_val2014_000000391895", 391895),
        ("val2014/COCO_val2014_000000391895.jpg", 391895),
        ("test-dev2015/COCO_test2015_000000000001", 1),
        ("vg/2370799", None),
        ("nocaps/17", None),
        ("mycoco/17", None),
        ("coco/17/part", None),
        ("images/000000391895.jpg", None),
        ("coco/" + "9" * 5000, None),
    ],
)
def test_ids_say_which_image_of_coco(record_id, number):
    assert coco_ids.coco_id_of(record_id) == number
