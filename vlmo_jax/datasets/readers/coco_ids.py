"""Names of records that say which image of COCO they hold, in whatever data set, so that images of
an evaluation are found among those of training.
"""

import re


def coco_record_id(coco_id: int) -> str:
    """The id of a record that holds an image of COCO: "coco/391895"."""
    return f"coco/{coco_id}"


def coco_id_of(record_id: str) -> int | None:
    """The number that COCO gives the image of a record, None where its id does not say it.

    Args:
        record_id: such as "coco/391895", or "vg/2370799/coco/391895" of Visual Genome.
    """
    found = re.search(r"(?:^|/)coco/(\d{1,12})$", record_id)
    return int(found[1]) if found else None
