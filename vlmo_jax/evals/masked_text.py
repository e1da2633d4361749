"""Masked language modelling on held-out text: loss and accuracy with fixed masks, and words that
the model fills in.
"""

import dataclasses
import itertools
import json
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets import TextRecord
from vlmo_jax.evals import collect
from vlmo_jax.evals.evaluation import check_batch_size, metric_names
from vlmo_jax.evals.masked import masked_predictions, score_split
from vlmo_jax.evals.predictions import write_predictions
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.masked_texts import EvalMaskedTexts
from vlmo_jax.input.text import captions
from vlmo_jax.input.text import rows as text_rows
from vlmo_jax.input.text.masked_rows import TextRows
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.masked_text import fill_in_page
from vlmo_jax.tasks.text_pretrain import MaskedTextModel

log = logging.getLogger(__name__)

EARLIER_NAME = "fill_in.json"  # of what version 0.1 kept of step 0


class FillIn(NamedTuple):
    """A text with blanks, and what a model says belongs there.

    Attributes:
        parts: the text around the blanks, one more than there are blanks.
        answers: the word that stood at each blank.
        guesses: for each blank the likeliest (word, probability) pairs, best first.
    """

    parts: list[str]
    answers: list[str]
    guesses: list[list[tuple[str, float]]]


class Blanks(NamedTuple):
    """Texts with some words blanked out, the same for every model that fills them in.

    Attributes:
        batch: token_mask and mlm_token_ids [N, T], mlm_positions and mlm_labels [N, M], on every
            process.
        parts, answers: see FillIn, one entry a text.
    """

    batch: dict[str, np.ndarray]
    parts: list[list[str]]
    answers: list[list[str]]


class MaskedTextEvaluator:
    """Scores a model by masked language modelling on one split: every text, with the same masks
    each time.

    Args:
        source: the records of the split; they are read and kept as rows of tokens.
        tokenizer: of `load_tokenizer`.
        rows: sizes.
        name: what the result is called.
        mask_rate, packing: as in training, see `EvalMaskedTexts`.
        batch_size: rows of a batch over all processes; a multiple of the batch shards of the mesh.
        mesh: the mesh of the job.

    Raises:
        ValueError: a size is impossible, or the split is empty.
    """

    def __init__(
        self,
        source: Sequence[TextRecord],
        tokenizer: Tokenizer,
        rows: TextRows,
        *,
        name: str,
        mask_rate: float,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        packing: bool = True,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        try:
            self._texts = EvalMaskedTexts(
                source, tokenizer, rows, mask_rate=mask_rate, packing=packing
            )
        except ValueError as error:
            raise ValueError(f"evaluator {name!r}: {error}") from error
        self.name, self.num_records = name, len(source)
        self._mesh, self._batch_size = mesh, batch_size

    def evaluate(self, model: MaskedTextModel, params: Any, step: int) -> dict[str, float]:
        """Scores every masked token of the split, prints the result and returns it.

        Args:
            model: the model's functions.
            params: its parameters.
            step: optimizer updates that made them, for messages.

        Returns:
            mlm_loss (mean over all masked tokens of the split) and mlm_accuracy (0 to 1).

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        return self.score(model, params, step)[0]

    def score(
        self, model: MaskedTextModel, params: Any, step: int
    ) -> tuple[dict[str, float], np.ndarray]:
        """Evaluates as `evaluate` does, and returns the sums of each row; see `score_split`."""
        host = Host(jax.process_index(), jax.process_count())
        metrics, sums = score_split(
            lambda batch: model.score(params, batch),
            self._texts.batches(self._batch_size, host),
            name=self.name,
            num_rows=len(self._texts),
            batch_size=self._batch_size,
            mesh=self._mesh,
            step=step,
            prefix="mlm",
            unit="rows",
        )
        if jax.process_index() == 0:
            announce(
                f"{self.name} at step {step}: {self.num_records:,} texts in {len(self._texts):,}"
                f" rows, {int(sums[:, 2].sum()):,} masked tokens, the same every time\n  MLM loss"
                f" {metrics['mlm_loss']:.4f}   accuracy {metrics['mlm_accuracy']:.2%}"
            )
        return metrics, sums


def draw_blanks(
    source: Sequence[TextRecord],
    tokenizer: Tokenizer,
    *,
    text_length: int,
    count: int = 8,
    blanks: int = 2,
    min_letters: int = 3,
    seed: int = 0,
) -> Blanks:
    """Draws texts and blanks out some of their words, all of which become [MASK].

    Args:
        source: the records; those with enough words that are one token are drawn from. Of texts
            that do not fit into a row, which come last, the beginning is taken.
        tokenizer: of `load_tokenizer`.
        text_length: T.
        count: how many texts; fewer if the source has no more.
        blanks: words blanked out of a text, never two in a row.
        min_letters: of the words.
        seed: of the draw.

    Raises:
        ValueError: there is no such text.
    """
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(source))
    chosen: list[tuple[list[int], list[int]]] = []

    def beginnings(*, whole):
        for number in order:
            windows = text_rows.cut_windows(tokenizer.encode(source[number].text), text_length - 2)
            if windows and whole == (len(windows) == 1):
                yield windows[0]

    for ids, words in itertools.chain(beginnings(whole=True), beginnings(whole=False)):
        single = [place for place, word in enumerate(words) if words.count(word) == 1]
        places = [
            place
            for place in single
            if _is_word(tokenizer.decode(ids[place : place + 1]), min_letters)
        ]
        drawn = sorted(rng.permutation(places)[:blanks].tolist())
        if len(drawn) == blanks and all(b - a > 1 for a, b in itertools.pairwise(drawn)):
            chosen.append((ids, drawn))
        if len(chosen) == count:
            break
    if not chosen:
        raise ValueError(
            f"no text has {blanks} words of {min_letters} letters that are one token each in its"
            f" first {text_length} tokens"
        )
    return _blank_out(chosen, tokenizer, text_length)


def _is_word(text: str, min_letters: int) -> bool:
    return text.isalpha() and len(text) >= min_letters


def _blank_out(chosen, tokenizer, text_length):
    shape = (len(chosen), text_length)
    token_ids, token_mask = np.empty(shape, np.int32), np.empty(shape, np.bool_)
    for row, (ids, _) in enumerate(chosen):
        captions.pack_tokens(ids, tokenizer, token_ids[row], token_mask[row])
    positions = np.array([places for _, places in chosen], np.int32) + 1
    rows = np.arange(len(chosen))[:, None]
    labels, masked = token_ids[rows, positions], token_ids.copy()
    masked[rows, positions] = tokenizer.mask_id
    batch = {
        "token_mask": token_mask,
        "mlm_token_ids": masked,
        "mlm_positions": positions,
        "mlm_labels": labels,
    }
    parts = []
    for ids, places in chosen:
        starts, ends = [0, *(place + 1 for place in places)], [*places, len(ids)]
        parts.append(
            [tokenizer.decode(ids[start:end]) for start, end in zip(starts, ends, strict=True)]
        )
    return Blanks(batch, parts, [[tokenizer.decode([i]) for i in row] for row in labels])


def fill_in_examples(
    model: MaskedTextModel,
    params: Any,
    blanks: Blanks,
    tokenizer: Tokenizer,
    mesh: jax.sharding.Mesh,
) -> list[FillIn]:
    """What a model fills into blanks.

    Args:
        model: the model's functions.
        params: its parameters.
        blanks: of `draw_blanks`.
        tokenizer: the one of the blanks.
        mesh: the mesh of the job.

    Returns:
        One entry a text, the same on every process.
    """
    guesses = collect.collect_examples(lambda batch: model.fill(params, batch), blanks.batch, mesh)

    def spell(row, blank):
        best = zip(guesses.token_ids[row, blank], guesses.probability[row, blank], strict=True)
        return [(_spell(int(token), tokenizer), float(probability)) for token, probability in best]

    return [
        FillIn(parts, answers, [spell(row, blank) for blank in range(len(answers))])
        for row, (parts, answers) in enumerate(zip(blanks.parts, blanks.answers, strict=True))
    ]


def _spell(token, tokenizer):
    """A token as a word, or with a hyphen before it where it is the rest of one."""
    if token in tokenizer.special_tokens:
        return tokenizer.special_tokens[token]
    word = tokenizer.decode([token]).removeprefix("##")
    return f"-{word}" if word.isalnum() and tokenizer.encode(word).ids != [token] else word


@dataclasses.dataclass
class MaskedTextEvaluation:
    """The masked-text evaluation of a run: an evaluator a split, and the words filled into blanks
    of the largest; see `evaluation.Evaluation`.

    Attributes:
        name: of the evaluation.
        evaluators: one a split.
        model: the model's functions.
        blanks: texts with blanks for the picture; None: there is none.
        tokenizer: of the texts.
        mesh: the mesh of the job.
    """

    name: str
    evaluators: list[MaskedTextEvaluator]
    model: MaskedTextModel
    blanks: Blanks | None
    tokenizer: Tokenizer
    mesh: jax.sharding.Mesh

    def run(
        self,
        params: Any,
        step: int,
        page: pathlib.Path | None = None,
        predictions: pathlib.Path | None = None,
    ) -> dict[str, float]:
        """Evaluates every split, and draws what the model fills into blanks.

        What was filled in at step 0 is kept beside the picture, in a .json file, and shown next to
        what is filled in later.
        """
        metrics: dict[str, float] = {}
        for evaluator in self.evaluators:
            scores, sums = evaluator.score(self.model, params, step)
            lines = masked_predictions(sums)
            write_predictions(predictions, self.name, evaluator.name, lines)
            metrics |= metric_names(self.name, evaluator.name, scores)
        if page is not None and self.blanks is not None:
            filled = fill_in_examples(self.model, params, self.blanks, self.tokenizer, self.mesh)
            if jax.process_index() == 0:
                _draw(filled, step, page)
        return metrics


def blanks_of_largest(
    splits: Mapping[str, Sequence[TextRecord]], tokenizer: Tokenizer, text_length: int
) -> Blanks | None:
    """Blanks drawn from the largest split; None, and a line in the log, where there are none."""
    source = max(splits.values(), key=len, default=())
    if not source:
        return None
    try:
        return draw_blanks(source, tokenizer, text_length=text_length)
    except ValueError as error:  # evaluation goes without the picture
        log.warning("No words are filled into blanks: %s", error)
        return None


def _draw(filled, step, page):
    kept, columns = page.with_suffix(".json"), {}
    if not kept.exists() and (earlier := page.with_name(EARLIER_NAME)).exists():
        kept = earlier
    page.parent.mkdir(parents=True, exist_ok=True)
    if step == 0:
        kept.write_text(json.dumps([fill._asdict() for fill in filled]))
    elif kept.exists():
        before = [FillIn(**fields) for fields in json.loads(kept.read_text())]
        if [fill.parts for fill in before] == [fill.parts for fill in filled]:
            columns["Before step 1"] = before
    fill_in_page(
        {**columns, f"After {step:,} steps" if step else "Before step 1": filled},
        page,
        title="Words filled into blanks",
    )
