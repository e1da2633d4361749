"""Names of records that say which image of COCO they hold, in whatever data set, so that images of
an evaluation are found among those of training.
"""

import re

# As `coco_record_id` writes it, at the end, or as COCO's files of 2014 and 2015 are called.
_COCO = re.compile(r"(?:(?:^|/)coco/(\d{1,12})|(?:^|/)COCO_[a-z]+\d{4}_(\d{12})(?:\.\w+)?)$")


def coco_record_id(coco_id: int) -> str:
    """The id of a record that holds an image of COCO: "coco/391895"."""
    return f"coco/{coco_id}"


def coco_id_of(record_id: str) -> int | None:
    """The number that COCO gives the image of a record, None where its id does not say it.

    Args:
        record_id: such as "coco/391895", "vg/2370799/coco/391895" of Visual Genome, or a path or
            name of COCO's, "val2014/COCO_val2014_000000391895.jpg".
    """
    found = _COCO.search(record_id)
    return int(found[1] or found[2]) if found else None
