"""What the model of a recipe sees: how its data are opened and put into rows.

`config.model.num_regions` says so: models without it, or with 0, see images. Those with a
`longest_side` see images of their own shape, others squares.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from vlmo_jax.datasets import open_region_source, open_source
from vlmo_jax.evals.retrieval import PicturedMaker
from vlmo_jax.input.canvas import CanvasRows
from vlmo_jax.input.plain_images import CroppedRows, EvalImages, ImageForm, ImageRows
from vlmo_jax.input.regions import EvalRegions, RegionRows
from vlmo_jax.tasks import visual

# What `config.data.resize` may be: all of an image as a square, or the square in its middle.
RESIZES = ("square", "centre_crop")


class Seen(NamedTuple):
    """What a model sees.

    Attributes:
        columns: names of the arrays of a batch.
        open_split: opens captioned records of a data set and a split.
        maker: function of such records that makes the rows of an evaluation.
        normalised: whether `config.data.mean` and `std` are read.
    """

    columns: tuple[str, ...]
    open_split: Callable[[str, str], Sequence]
    maker: Callable[[Sequence], PicturedMaker]
    normalised: bool


def sees_regions(config: ConfigDict) -> bool:
    """Whether the model of a recipe reads regions."""
    return config.model.get("num_regions", 0) > 0


def region_rows(config: ConfigDict) -> RegionRows:
    """Sizes of the regions that the model of a recipe reads.

    Raises:
        ConfigError: it reads none.
    """
    model = config.model
    sizes = (model.get(name, 0) for name in ("num_regions", "region_width", "region_classes"))
    return RegionRows(*sizes)


def canvas_of(config: ConfigDict) -> CanvasRows | None:
    """The canvas of images that keep their shape; None: the model of the recipe sees squares."""
    model = config.model
    if "longest_side" not in model:
        return None
    return CanvasRows(model.image_size, model.longest_side, model.patch_size)


def image_form_of(config: ConfigDict) -> ImageForm:
    """What images become for the model of a recipe that reads images."""
    if canvas := canvas_of(config):
        return canvas
    size, data = config.model.image_size, config.data
    if data.get("resize", "square") == "centre_crop":
        return CroppedRows(size, data.get("crop_share", 1.0))
    return ImageRows(size)


def seen_by(config: ConfigDict) -> Seen:
    """What the model of a recipe sees."""
    if sees_regions(config):
        rows = dataclasses.replace(region_rows(config), num_classes=0)  # which nothing scores
        regions = lambda source: EvalRegions(source, rows)
        return Seen(visual.REGIONS, open_region_source, regions, normalised=False)
    form = image_form_of(config)
    images = lambda source: EvalImages(source, form)
    return Seen(tuple(form.columns), open_source, images, normalised=True)
