"""How inputs of a loaded model become rows, and go through its functions in batches."""

import contextlib
import functools
import logging
from collections.abc import Iterable, Mapping
from typing import Any

from vlmo_jax.inference.batches import Batches, Collected, Function, OnError
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.inference.inputs import (
    BrokenInputError,
    ImageInput,
    Row,
    RowMaker,
    image_row,
    text_row,
)
from vlmo_jax.inference.parts import Loaded
from vlmo_jax.inference.several import how_many, is_single, pair_up
from vlmo_jax.input.image_form import image_form
from vlmo_jax.input.schema import Column
from vlmo_jax.input.text.plain_texts import text_columns

# What a checkpoint says of images.
_PIXELS = ("image_size", "longest_side", "patch_size", "resize", "crop_share", "mean", "std")
_log = logging.getLogger(__name__)


class Asking:
    """The part of a `Model` that does not depend on what is asked of it.

    Args:
        loaded: the checkpoint.
        params: the parameters.
        batch_size: most rows of a batch.
        show_progress: whether what takes long shows a bar.
    """

    def __init__(
        self, loaded: Loaded, params: dict[str, Any], *, batch_size: int, show_progress: bool
    ) -> None:
        self.name, self.config, self.params = loaded.name, loaded.config, params
        self.tokenizer = loaded.tokenizer
        self.image_size = int(self.config.model.image_size)
        self.text_length = int(self.config.model.get("text_length", 0))
        self.texts_cut = 0
        self.preprocessing = {k: v for k, v in loaded.meta["preprocessing"].items() if k in _PIXELS}
        self.image_form = image_form(self.preprocessing)
        self._mean, self._std = (tuple(self.preprocessing[key]) for key in ("mean", "std"))
        self._mesh = loaded.mesh
        self._batches = Batches(self._mesh, batch_size, show_progress)

    @functools.cached_property
    def _image_columns(self) -> dict[str, Column]:
        return self.image_form.columns

    @functools.cached_property
    def _text_columns(self) -> dict[str, Column]:
        return text_columns(self.text_length)

    def _image_row(self, image: Any) -> Row:
        return image_row(image, self.image_form)

    def _read_once(self, image: ImageInput) -> Row:
        [made] = self._batches.make([image], self._image_row, self._image_columns)
        return Row({name: values[0] for name, values in made.arrays.items()})

    def _text_row(self) -> RowMaker:
        if self.tokenizer is None:
            raise UnfitModelError(
                f"{self.name} does not carry its tokenizer, and it is not where it was; give"
                " the file: vlmo_jax.load(..., tokenizer=FILE)"
            )
        return functools.partial(text_row, tokenizer=self.tokenizer, length=self.text_length)

    def _run_pairs(
        self, function: Function, images: Any, texts: Any, on_error: OnError, description: str
    ) -> Collected:
        to_text = self._text_row()
        to_image: RowMaker = self._image_row
        if is_single(images) and not is_single(texts):
            # Read once for all texts; where it is broken, each pair is.
            with contextlib.suppress(BrokenInputError):
                once = self._read_once(images)
                to_image = lambda _: once

        def make(pair: tuple[Any, Any]) -> Row:
            image, text = to_image(pair[0]), to_text(pair[1])
            return Row({**image.arrays, **text.arrays}, text.cut)

        columns = {**self._image_columns, **self._text_columns}
        count = how_many(images, texts)
        return self._run(
            function, pair_up(images, texts), make, columns, on_error, description, count
        )

    def _run(
        self,
        function: Function,
        items: Iterable[Any],
        make: RowMaker,
        columns: Mapping[str, Column],
        on_error: OnError,
        description: str,
        count: int | None = None,
    ) -> Collected:
        found = self._batches.run(
            function,
            self.params,
            items,
            make,
            columns,
            on_error=on_error,
            description=description,
            count=how_many(items) if count is None else count,
        )
        self._tell_cut(found.cut)
        return found

    def _tell_cut(self, count: int) -> None:
        if count and not self.texts_cut:
            _log.warning(
                "%d texts are longer than the %d tokens that this model reads, and were cut;"
                " model.texts_cut counts on, and this is said once",
                count,
                self.text_length,
            )
        self.texts_cut += count
