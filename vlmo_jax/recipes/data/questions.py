"""Questions about images, with answers out of a list."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from vlmo_jax.commands.config_errors import naming, require
from vlmo_jax.commands.fields import Choice, Extra, Kind, Text
from vlmo_jax.datasets import records
from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text, find_answers, read_answers
from vlmo_jax.datasets.examples import ExampleSource, keep_examples
from vlmo_jax.datasets.identity import identify
from vlmo_jax.datasets.sources import open_records
from vlmo_jax.input.answers import MATCHINGS, AnswerTargets
from vlmo_jax.input.pipeline import TrainBatches
from vlmo_jax.input.questions import QuestionExamples, QuestionRows
from vlmo_jax.recipes.data import opening
from vlmo_jax.recipes.data.views_and_texts import ViewsAndTexts
from vlmo_jax.recipes.visual import canvas_of


def open_questions(source: str, split: str) -> Sequence:
    """Opens one split of images with questions, as `sources.open_source` does for captions."""
    return open_records(source, split, [records.QUESTIONS])


class QuestionsData(ViewsAndTexts):
    """Each question of each image once an epoch; those none of whose answers is in the list are
    left out. See `protocols.Data`.
    """

    allowed: Mapping[str, Kind] = {
        **ViewsAndTexts.allowed,
        "answers": Extra(Text(optional=True)),
        "answer_matching": Choice(MATCHINGS),
    }
    unit = texts = "questions"
    _targets: AnswerTargets | None = None
    _images: Sequence = ()

    @property
    def rows(self) -> QuestionRows:
        """Sizes that say what a batch consists of."""
        model = self.config.model
        return QuestionRows(
            model.image_size, model.text_length, model.num_answers, canvas_of(self.config)
        )

    @property
    def targets(self) -> AnswerTargets:
        """The answers that the model chooses from, once the data are open."""
        assert self._targets is not None
        return self._targets

    def check_inputs(self) -> None:
        """See `protocols.Data`."""
        opening.check_source(
            self.config,
            build="build --format=vqav2 (or question_rows)",
            embedded="emoji_questions for questions about the embedded drawings",
        )
        opening.check_tokenizer(self.config)

    def check(self) -> None:
        """See `protocols.Data`."""
        _ = self.rows  # refuses impossible sizes
        super().check()

    def open(self, *, training: bool) -> None:
        """See `protocols.Data`."""
        self.tokenizer = opening.open_tokenizer(self.config)
        if training:
            self._images = opening.open_train_source(self.config, open_questions)
        self._targets = self._open_targets()
        if training:
            self.source = keep_examples(self._images, self.targets.answerable)
            require(
                len(self.source) > 0,
                f"config.data.source={self.config.data.source!r}, split"
                f" {self.config.data.split!r}: none of its {self._num_left_out:,} questions has an"
                f" answer among the {len(self.targets.answers):,} of the model; give the list of"
                " these data with config.data.answers=FILE, or"
                " --config.data.answer_matching=normalised, or train on a split with answers",
            )

    def _open_targets(self) -> AnswerTargets:
        """Reads the list of answers.

        Raises:
            ConfigError: there is none, or it is not as long as the model has answers.
        """
        data, model = self.config.data, self.config.model
        sources = {"data.source": data.source}
        sources |= {f"evals.{name}.source": part.source for name, part in self.config.evals.items()}
        field = next(field for field, source in sources.items() if source)
        with naming(self.config, "data.answers" if data.get("answers") else field):
            path = find_answers(sources[field], data.get("answers"))
            answers = read_answers(path)
        require(
            len(answers) == model.num_answers,
            f"config.model.num_answers={model.num_answers} but {path} lists {len(answers)} answers;"
            f" set --config.model.num_answers={len(answers)}, or give another list with"
            " --config.data.answers=FILE",
        )
        return AnswerTargets(tuple(answers), data.answer_matching)

    def identity(self) -> dict[str, Any]:
        """See `protocols.Data`."""
        return {**identify(self._images), "questions": len(self.source)}

    def batches(self, start_step: int) -> TrainBatches:
        """See `protocols.Data`."""
        assert self.tokenizer is not None  # the data are open
        maker = QuestionExamples(
            self.source,
            self.tokenizer,
            self.rows,
            self.config.seed,
            self.targets,
            augmentation=self.augmentation,
        )
        return opening.stream(self.config, maker, start_step)

    @property
    def _num_left_out(self) -> int:
        parts = getattr(self.source, "parts", (self.source,))
        return sum(part.num_left_out for part in parts if isinstance(part, ExampleSource))

    def describe(self) -> str:
        """See `protocols.Data`."""
        out, answers = self._num_left_out, len(self.targets.answers) if self._targets else 0
        found = (
            f"{len(self.source):,} training questions about {len(self._images):,} images from"
            f" {self.config.data.source}, {answers:,} answers to choose from"
        )
        if out:
            share = out / (out + len(self.source))
            found += (
                f"; {out:,} questions ({share:.1%}) are left out, since none of their answers is"
                f" among these (config.data.answer_matching={self.config.data.answer_matching!r})"
            )
        found += opening.describe_mixture(self.config, self.source)
        return found + self.describe_texts(self._images)

    def files(self) -> dict[str, bytes]:
        """See `protocols.BringsFiles`."""
        return {ANSWERS: answers_text(self.targets.answers).encode()}

    def preprocessing(self) -> dict[str, Any]:
        """See `protocols.Data`; with what the answers are by whose ids the model answers."""
        if self._targets is None:
            return super().preprocessing()
        text = answers_text(self._targets.answers)
        answers = {"number": len(self._targets.answers), "sha256": text_digest(text)}
        return {**super().preprocessing(), "answers": answers}


def text_digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()
