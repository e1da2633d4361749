"""What images become in a batch: squares, their middle, or canvases with their own shape."""

from collections.abc import Callable, Mapping
from typing import Any

from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.plain_images import CROPPED, CroppedRows, ImageForm, ImageRows

# By what a checkpoint says of its images.
FORMS: dict[str, Callable[[Mapping[str, Any]], ImageForm]] = {
    "square bicubic": lambda said: ImageRows(said["image_size"]),
    CROPPED: lambda said: CroppedRows(said["image_size"], said.get("crop_share", 1.0)),
    "patches bicubic": lambda said: CanvasRows(
        said["image_size"], said["longest_side"], said["patch_size"]
    ),
}


def image_form(preprocessing: Mapping[str, Any]) -> ImageForm:
    """What images become by the preprocessing that a checkpoint keeps."""
    return FORMS[preprocessing.get("resize", "square bicubic")](preprocessing)
