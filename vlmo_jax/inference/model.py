"""A model that is asked."""

import contextlib
import functools
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.digests import digest_tree
from vlmo_jax.inference import portable
from vlmo_jax.inference.batches import Batches, Collected, Function, OnError
from vlmo_jax.inference.heads import UnfitModelError, require_head
from vlmo_jax.inference.inputs import (
    BrokenInputError,
    ImageInput,
    Row,
    RowMaker,
    image_row,
    text_row,
)
from vlmo_jax.inference.parts import Loaded, Tokens
from vlmo_jax.inference.several import as_items, how_many, is_single, pair_up
from vlmo_jax.input.image_form import image_form
from vlmo_jax.input.schema import Column
from vlmo_jax.input.text.plain_texts import text_columns
from vlmo_jax.input.text.prompts import fill_templates
from vlmo_jax.tasks import zero_shot
from vlmo_jax.tasks.classify import make_probabilities
from vlmo_jax.tasks.retrieval import make_encoders
from vlmo_jax.tasks.vqa import make_answerer

# What a checkpoint says of images.
_PIXELS = ("image_size", "longest_side", "patch_size", "resize", "crop_share", "mean", "std")
_log = logging.getLogger(__name__)


class Model:
    """A model with its preprocessing and its tokenizer; `vlmo_jax.load` makes it.

    Images are paths, open files, bytes of files, pictures of Pillow or arrays (uint8 [H, W, 3], or
    grey [H, W]), mixed at will. Where several are taken, so is a list, a generator of any length
    or a single one. They are read in batches; what does not fit into the memory at once need not.

    `on_error` says what is done about an input that cannot be used: "raise" names the first one,
    "skip" leaves it out, and a function is told of it (a `BrokenInputError`) and leaves it out.
    What is left out keeps its row in the result, filled with NaN (no answers): rows and inputs
    stay in step.

    Attributes:
        name: the checkpoint.
        config: ConfigDict of the run that made it.
        params: the parameters, a nested dict of arrays on the devices.
        preprocessing: how images become arrays: plain JSON values.
        image_size: S, pixels a side.
        image_form: what images become by that, such as squares or their middle.
        text_length: T, tokens of a text with those of its begin and end; 0 for one without texts.
        tokenizer: None where the checkpoint has none.
        answers: that it chooses from, by id; None where they are not known.
        classes: that a classifier was trained with, by number; None where they are not known.
        texts_cut: how many texts so far were longer than that, and were cut.
    """

    def __init__(
        self, loaded: Loaded, params: dict[str, Any], *, batch_size: int, show_progress: bool
    ) -> None:
        self.name, self.config, self.params = loaded.name, loaded.config, params
        self.tokenizer, self.answers = loaded.tokenizer, loaded.answers
        self.classes = loaded.classes
        self.image_size = int(self.config.model.image_size)
        self.text_length = int(self.config.model.get("text_length", 0))
        self.texts_cut = 0
        self._graphdef, self._mesh = loaded.graphdef, loaded.mesh
        self.preprocessing = {k: v for k, v in loaded.meta["preprocessing"].items() if k in _PIXELS}
        self.image_form = image_form(self.preprocessing)
        self._mean, self._std = (tuple(self.preprocessing[key]) for key in ("mean", "std"))
        self._encoders = make_encoders(self._graphdef, mean=self._mean, std=self._std)
        self._answerers: dict[int, Function] = {}  # by how many answers they give
        self._batches = Batches(self._mesh, batch_size, show_progress)

    def __repr__(self) -> str:
        return f"<vlmo_jax model of {self.name}, {self.image_size} px, {self.text_length} tokens>"

    @functools.cached_property
    def fingerprint(self) -> str:
        """A digest of the parameters, by which stored vectors know their model: 64 hexadecimal
        digits, the same on every machine.
        """
        return digest_tree(self.params)

    def encode_image(
        self, images: Iterable[ImageInput] | ImageInput, *, on_error: OnError = "raise"
    ) -> np.ndarray:
        """The dual encoder's vectors of images; the product with those of texts is the similarity.

        Args:
            images, on_error: see the class.

        Returns:
            float32 [N, D], each of length 1.

        Raises:
            BrokenInputError: an image cannot be used.
            UnfitModelError: the model has no dual encoder.
        """
        self._require("retrieval")
        return _with_gaps(
            self._run(
                self._encoders.encode_image,
                as_items(images),
                self._image_row,
                self._image_columns,
                on_error,
                "Encoding images",
            )
        )

    def encode_text(self, texts: Iterable[str] | str, *, on_error: OnError = "raise") -> np.ndarray:
        """The dual encoder's vectors of texts. What is longer than `text_length` is cut.

        Args:
            texts, on_error: see the class.

        Returns:
            float32 [N, D], each of length 1.

        Raises:
            BrokenInputError: something is no text.
            UnfitModelError: the model has no dual encoder, or no tokenizer.
        """
        self._require("retrieval")
        return _with_gaps(
            self._run(
                self._encoders.encode_text,
                as_items(texts),
                self._text_row(),
                self._text_columns,
                on_error,
                "Encoding texts",
            )
        )

    def match(
        self,
        images: Iterable[ImageInput] | ImageInput,
        texts: Iterable[str] | str,
        *,
        on_error: OnError = "raise",
    ) -> np.ndarray:
        """How probable it is that an image and a text belong together, by the fusion encoder.

        Args:
            images, texts: one text an image. A single one, not in a list, goes with all of the
                others.
            on_error: see the class.

        Returns:
            float32 [N], 0 to 1.

        Raises:
            BrokenInputError: an input cannot be used.
            UnfitModelError: the model has no head that matches, or no tokenizer.
        """
        self._require("itm")
        found = self._run_pairs(self._encoders.match, images, texts, on_error, "Matching")
        log_odds = found.values.astype(np.float64)
        return _with_gaps(found._replace(values=np.exp(-np.logaddexp(0, -log_odds))))

    def answer(
        self,
        images: Iterable[ImageInput] | ImageInput,
        questions: Iterable[str] | str,
        *,
        top_k: int = 3,
        on_error: OnError = "raise",
    ) -> list[list[tuple[str, float]]]:
        """Answers questions about images.

        Args:
            images, questions: one question an image. A single one, not in a list, goes with all of
                the others.
            top_k: answers to a question.
            on_error: see the class.

        Returns:
            For each question (answer, probability) pairs, best first; none where an input was left
            out. Each answer has its own probability, and they need not sum to 1.

        Raises:
            BrokenInputError: an input cannot be used.
            UnfitModelError: the model is not fine-tuned on VQA, or its answers are not known.
        """
        self._require("vqa")
        if self.answers is None:
            raise UnfitModelError(
                f"{self.name} answers by numbers, and does not say of what; give the list of its"
                " answers: vlmo_jax.load(..., answers=FILE)"
            )
        found = self._run_pairs(self._answerer(top_k), images, questions, on_error, "Answering")
        return [
            [
                (self.answers[number], float(probability))
                for number, probability in zip(numbers, probabilities, strict=True)
            ]
            if usable
            else []
            for numbers, probabilities, usable in zip(
                found.values.answer_ids, found.values.probability, found.usable, strict=True
            )
        ]

    def classify(
        self,
        images: Iterable[ImageInput] | ImageInput,
        labels: Sequence[str] | None = None,
        *,
        templates: Sequence[str] = ("{}",),
        on_error: OnError = "raise",
    ) -> np.ndarray:
        """Which class or label fits an image best: of those that a classifier was trained with,
        `self.classes`, or of any labels, by a dual encoder and without training for them.

        Args:
            images, on_error: see the class.
            labels: L, words or texts; None: the classes of a classifier.
            templates: texts with {} for the label, such as "a photo of {}"; the vectors of several
                are averaged.

        Returns:
            float32 [N, L], the probability of each label or class; rows sum to 1.

        Raises:
            BrokenInputError: an image cannot be used.
            UnfitModelError: the model is no classifier, or with labels no dual encoder, or has no
                tokenizer.
        """
        if labels is None:
            self._require("classes")
            items, columns = as_items(images), self._image_columns
            return _with_gaps(
                self._run(self._classify, items, self._image_row, columns, on_error, "Classifying")
            )
        texts = fill_templates(labels, templates)
        prototypes = zero_shot.average(self.encode_text(texts), [len(templates)] * len(labels))
        vectors = self.encode_image(images, on_error=on_error)
        return zero_shot.probabilities(vectors, prototypes, self._scale)

    def preprocess(self, images: Iterable[ImageInput] | ImageInput) -> np.ndarray:
        """Images as the model reads them: decoded, upright, over white, resized to squares, or, of
        a model that reads images of any shape, each in the corner of a black canvas. They are
        normalised on the device.

        Args:
            images: see the class.

        Returns:
            uint8 [N, S, S, 3], S pixels a side of the squares or of the canvases.
        """
        made = self._batches.make(as_items(images), self._image_row, self._image_columns)
        rows = [batch.arrays["image"][: len(batch.usable)] for batch in made]
        shape = (0, *self._image_columns["image"].shape)
        return np.concatenate(rows) if rows else np.zeros(shape, np.uint8)

    def tokenize(self, texts: Iterable[str] | str) -> Tokens:
        """Texts as the model reads them: begin, tokens, end, padding.

        Args:
            texts: see the class.

        Raises:
            UnfitModelError: the model has no tokenizer.
        """
        tokens = (
            [np.zeros((0, self.text_length), np.int32)],
            [np.zeros((0, self.text_length), bool)],
        )
        for batch in self._batches.make(as_items(texts), self._text_row(), self._text_columns):
            for rows, name in zip(tokens, Tokens._fields, strict=True):
                rows.append(batch.arrays[name][: len(batch.usable)])
            self._tell_cut(batch.cut)
        return Tokens(*map(np.concatenate, tokens))

    def export(self, path: str | os.PathLike) -> Path:
        """Writes both encoders with their parameters to one file, which JAX runs without this
        package; see docs/INFERENCE.md.

        Args:
            path: file to make, .npz.

        Returns:
            Its path.

        Raises:
            UnfitModelError: the model has no dual encoder.
            FileExistsError: there is something at `path`.
            ImportError: flatbuffers is not installed, with which jax.export writes.
        """
        self._require("retrieval")
        facts = {"mean": self._mean, "std": self._std, "checkpoint": "/".join(self.name.parts[-3:])}
        return portable.export_encoders(
            self._encoders,
            self.params,
            path,
            image_size=self.image_size,
            text_length=self.text_length,
            tokenizer=self.tokenizer,
            facts=facts,
        )

    def _require(self, head: str) -> None:
        require_head(head, self.params, f"{self.name} (config.task.kind={self.config.task.kind!r})")

    @functools.cached_property
    def _scale(self) -> float:
        """By which similarities are multiplied, as the contrast has learned it."""
        with jax.set_mesh(self._mesh):
            log_scale = nnx.merge(self._graphdef, self.params).retrieval_scale()
        return float(np.exp(np.asarray(log_scale, np.float64)))

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

    @functools.cached_property
    def _classify(self) -> Function:
        return make_probabilities(self._graphdef, mean=self._mean, std=self._std)

    def _answerer(self, top_k: int) -> Function:
        if top_k not in self._answerers:
            self._answerers[top_k] = make_answerer(
                self._graphdef, mean=self._mean, std=self._std, top_k=top_k
            )
        return self._answerers[top_k]

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


def _with_gaps(found: Collected) -> np.ndarray:
    """The rows in float32, NaN where an input was left out."""
    rows = found.values.astype(np.float32)
    rows[~found.usable] = np.nan
    return rows
