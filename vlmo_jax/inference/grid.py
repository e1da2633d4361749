"""What a trained image Transformer says of each patch of an image, kept as regions of it."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.digests import digest_tree
from vlmo_jax.checkpoints.saved_params import SavedParams, find_checkpoint, load_params
from vlmo_jax.checkpoints.store import abstract_like
from vlmo_jax.datasets import Record, RegionsRecord
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.input.attempts import Report, decode_image, needed_record, read_record
from vlmo_jax.input.evaluation import split_batches
from vlmo_jax.input.images.pixels import resize_square
from vlmo_jax.input.plain_images import EvalImages, ImageRows
from vlmo_jax.input.schema import Batch, Column
from vlmo_jax.models.build import MODELS, abstract_model, model_maker
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.abilities import EncodesPatches
from vlmo_jax.tasks.visual import visual_input


@dataclasses.dataclass(frozen=True)
class _SizedImages(EvalImages):
    """Rows of images with the sizes that they had."""

    @property
    def columns(self) -> dict[str, Column]:
        """Those of `EvalImages`, and extent int32 [2], width and height in pixels."""
        return {**super().columns, "extent": Column((2,), np.int32)}

    def write(self, batch: Batch, row: int, position: int, index: int) -> Report:
        """Writes record `index` into a row; see `EvalImages.write`."""
        with needed_record(index):
            record = read_record(self.source, index)
            image = decode_image(record.image, record.image_id)
        batch["image"][row] = np.asarray(resize_square(image, self.rows.image_size))
        batch["extent"][row] = image.size
        batch["index"][row], batch["valid"][row] = position, True
        return Report(seen=1)


class GridEncoder:
    """A frozen image Transformer: states of the patches after its last norm.

    Args:
        path: work folder or checkpoint of a VLMo or a BEiT, trained or converted.

    Attributes:
        name: folder of the checkpoint.
        grid: G, patches a side.
        width: F, of the states.
        fingerprint: digest of the parameters.

    Raises:
        FileNotFoundError: there is no checkpoint.
        UnfitModelError: it is of another model.
    """

    def __init__(self, path: str | Path) -> None:
        directory, step = find_checkpoint(path)
        self.name = directory / str(step)
        meta = SavedParams(self.name).meta
        fields, self._preprocessing = meta["config"]["model"], meta["preprocessing"]
        kind = MODELS.get(fields.get("kind"))
        if kind is None or not issubclass(kind.module, EncodesPatches):
            raise UnfitModelError(
                f"{self.name} holds a config.model.kind={fields.get('kind')!r}; features of a grid"
                " are those of a VLMo or a BEiT: give a work folder of configs/stage1.py or"
                " stage3.py, or one that was converted"
            )
        if "mean" not in self._preprocessing:
            raise UnfitModelError(
                f"{self.name} was trained without images; give a work folder of configs/stage1.py"
                " or stage3.py"
            )
        self.width, self.image_size = fields["width"], fields["image_size"]
        self.grid = self.image_size // fields["patch_size"]
        self._mesh = sharding.make_mesh(devices=jax.local_devices())
        with jax.set_mesh(self._mesh):
            graphdef, abstract = abstract_model(model_maker(fields))
            shardings = sharding.param_shardings(abstract, self._mesh)
            shapes = abstract_like(nnx.to_pure_dict(abstract), shardings)
            self._params = load_params(self.name, shapes)[0]
            self.fingerprint = digest_tree(self._params)
        mean, std = self._preprocessing["mean"], self._preprocessing["std"]

        def encode(params: Any, image: jax.Array) -> jax.Array:
            model = nnx.merge(graphdef, params)
            states = model.patch_states(visual_input({"image": image}, mean, std))
            return states.astype(jnp.float32)

        self._encode = jax.jit(encode)

    def facts(self) -> dict[str, Any]:
        """What the features are of: plain JSON values."""
        return {
            "checkpoint": "/".join(self.name.parts[-3:]),
            "fingerprint": self.fingerprint,
            "preprocessing": self._preprocessing,
            "grid": self.grid,
            "width": self.width,
        }

    def records(self, source: Sequence[Record], batch_size: int) -> Iterator[RegionsRecord]:
        """The records of a split, in order, with the states of its patches as regions.

        Args:
            source: images with captions.
            batch_size: images that go through the model together; it is rounded up to a multiple
                of the devices.

        Raises:
            BrokenDataError: an image is broken.
        """
        devices = self._mesh.devices.size
        batch_size = -(-batch_size // devices) * devices
        maker = _SizedImages(source, ImageRows(self.image_size))
        with jax.set_mesh(self._mesh):
            for batch in split_batches(maker, batch_size=batch_size):
                image = sharding.place_batch({"image": batch["image"]}, self._mesh)["image"]
                states = np.asarray(self._encode(self._params, image))
                for row in np.flatnonzero(batch["valid"]):
                    record = source[int(batch["index"][row])]
                    yield self._as_regions(record, states[row], *batch["extent"][row])

    def _as_regions(
        self, record: Record, states: np.ndarray, width: int, height: int
    ) -> RegionsRecord:
        return RegionsRecord(
            features=states,
            boxes=patch_boxes(self.grid, width, height),
            width=np.asarray(width, np.int32),
            height=np.asarray(height, np.int32),
            classes=np.zeros((0, 1), np.float32),
            texts=record.texts,
            keywords=record.keywords,
            image_id=record.image_id,
        )


def patch_boxes(grid: int, width: int, height: int) -> np.ndarray:
    """The patches of an image that is cut into grid x grid of them, row by row: [G * G, 4] float32,
    x1 y1 x2 y2 in pixels.
    """
    rows, columns = (places.ravel() for places in np.mgrid[:grid, :grid])
    boxes = np.stack([columns, rows, columns + 1, rows + 1], axis=1) / grid
    return (boxes * [width, height, width, height]).astype(np.float32)
