"""A model that is asked."""

import functools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.digests import digest_tree
from vlmo_jax.inference import portable
from vlmo_jax.inference.asking import Asking
from vlmo_jax.inference.batches import Function, OnError, as_answers, with_gaps
from vlmo_jax.inference.captions import Captioners, as_captions
from vlmo_jax.inference.heads import UnfitModelError, require_head
from vlmo_jax.inference.inputs import ImageInput
from vlmo_jax.inference.parts import Loaded, Tokens
from vlmo_jax.inference.several import as_items
from vlmo_jax.input.text.prompts import fill_templates
from vlmo_jax.tasks import zero_shot
from vlmo_jax.tasks.classify import make_probabilities
from vlmo_jax.tasks.retrieval import make_encoders
from vlmo_jax.tasks.vqa import make_answerer


class Model(Asking):
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
        super().__init__(loaded, params, batch_size=batch_size, show_progress=show_progress)
        self.answers, self.classes = loaded.answers, loaded.classes
        self._graphdef = loaded.graphdef
        self._encoders = make_encoders(self._graphdef, mean=self._mean, std=self._std)
        self._answerers: dict[int, Function] = {}  # by how many answers they give
        self._captioners = Captioners(loaded, self._mean, self._std)

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
        return with_gaps(
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
        return with_gaps(
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
        return with_gaps(found._replace(values=np.exp(-np.logaddexp(0, -log_odds))))

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
        return as_answers(found, self.answers)

    def caption(
        self,
        images: Iterable[ImageInput] | ImageInput,
        *,
        beams: int = 3,
        max_length: int | None = None,
        length_penalty: float = 0.6,
        on_error: OnError = "raise",
    ) -> list[tuple[str, float]]:
        """Writes captions of images.

        Args:
            images, on_error: see the class.
            beams: of the search; 1: greedy.
            max_length: tokens with those of begin and end; None: 64, or what the model can.
            length_penalty: 0 or more; with more, captions are longer.

        Returns:
            (text, score) of each image, ("", NaN) where one was left out. The score is the
            logarithm of the probability over the length to the power of `length_penalty`.

        Raises:
            BrokenInputError: an image cannot be used.
            UnfitModelError, WrongSearchError: it writes none; the search is impossible.
        """
        self._text_row()  # refuses a model without a tokenizer
        write = self._captioners.find(beams, max_length, length_penalty)
        found = self._run(
            write, as_items(images), self._image_row, self._image_columns, on_error, "Captions"
        )
        return as_captions(found, self.tokenizer)

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
            return with_gaps(
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
            facts={**facts, "preprocessing": self.preprocessing},
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
    def _classify(self) -> Function:
        return make_probabilities(self._graphdef, mean=self._mean, std=self._std)

    def _answerer(self, top_k: int) -> Function:
        if top_k not in self._answerers:
            self._answerers[top_k] = make_answerer(
                self._graphdef, mean=self._mean, std=self._std, top_k=top_k
            )
        return self._answerers[top_k]
