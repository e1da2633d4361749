"""Kind `index_tables`: which row of a position table each pair of tokens reads."""

import re
from typing import Any

from vlmo_jax.interop.checks.reference import Arrays, Info
from vlmo_jax.layers.relative_position import image_index, joint_index, text_index

# Pixels a side, pixels a patch, tokens of a text, and text positions that the table is made for.
SIZES = r"img(\d+)_p(\d+)_txt(\d+)_init(\d+)"
PATCHES, TEXT = "relative_position_index", "text_relative_position_index"
# Text before image, as the official code has them.
BOTH = "text_imag_relative_position_index"


def check_index_tables(arrays: Arrays, info: Info, report: Any) -> None:
    """Compares the tables of every size that the names of the arrays tell.

    Raises:
        ValueError: a name tells no sizes.
    """
    for case in sorted({name.partition("/")[0] for name in arrays}):
        sizes = re.fullmatch(SIZES, case)
        if sizes is None:
            raise ValueError(f"{case!r} tells no sizes as in 'img224_p16_txt40_init196'")
        side, patch, length, positions = map(int, sizes.groups())
        grid = side // patch
        ours = {
            PATCHES: image_index(grid),
            TEXT: text_index(grid, length, positions),
            BOTH: joint_index(grid, length, positions),
        }
        theirs = {name.partition("/")[2] for name in arrays if name.startswith(f"{case}/")}
        report.compare_names(case, ours, theirs)
        for name in sorted(set(ours) & theirs):
            report.compare(f"{case}/{name}", ours[name], arrays[f"{case}/{name}"], 0)
