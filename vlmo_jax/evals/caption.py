"""Captions that a model writes of all images of a split, and how near they come to those of
people.
"""

import collections
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets.readers.coco_ids import coco_id_of
from vlmo_jax.evals.answered_split import answer_split
from vlmo_jax.evals.caption_scores import NAMES, caption_scores, library_scores
from vlmo_jax.evals.caption_tokens import (
    JAVA,
    LIBRARY,
    PYTHON,
    caption_tokens,
    find_java,
    library_version,
    missing_for_java,
)
from vlmo_jax.evals.evaluation import check_batch_size
from vlmo_jax.evals.predictions import write_lines
from vlmo_jax.input.attempts import needed_record, read_record
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.plain_images import EvalImages, square_image
from vlmo_jax.input.schema import Batch
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.hits_and_misses import Shown, choose, hits_and_misses_page
from vlmo_jax.tasks.beam_search import Written

_GREY = 128
_NUMBER = re.compile(r"(?:nocaps/)?(\d{1,18})")


class Captioned(NamedTuple):
    """A split with what a model writes.

    Attributes:
        image_ids: [N].
        references: [N], captions of people; some images may have none.
        captions: [N], of the model.
        scores: float [N], of the search.
        cider: float [N], NaN where an image has no reference.
        exact: bool [N], whether it says just what a reference says.
    """

    image_ids: list[str]
    references: list[tuple[str, ...]]
    captions: list[str]
    scores: np.ndarray
    cider: np.ndarray
    exact: np.ndarray


@dataclasses.dataclass(frozen=True)
class GreyImages(EvalImages):
    """The rows of an evaluation that shows no image: all of them grey."""

    def write(self, batch: Batch, row: int, position: int, index: int) -> Any:
        """See `EvalImages.write`."""
        report = super().write(batch, row, position, index)
        batch["image"][row] = _GREY
        return report


class CaptionEvaluator:
    """Writes a caption of every image of one split.

    Args:
        source: the records.
        tokenizer: of `load_tokenizer`.
        maker: of the rows.
        name: what the result is called.
        batch_size: images of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.
        loading: how batches are made.

    Raises:
        ValueError: a size is impossible, or there are no images.
    """

    def __init__(
        self,
        source: Sequence[Any],
        tokenizer: Tokenizer,
        maker: EvalImages,
        *,
        name: str,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.source = name, len(source), source
        self.image_size = maker.rows.image_size
        self._tokenizer = tokenizer
        self._run = functools.partial(
            answer_split,
            maker=maker,
            name=name,
            batch_size=batch_size,
            mesh=mesh,
            loading=loading,
            unit="images",
        )

    def evaluate(
        self, write: Callable[[Any, Any], Written], params: Any, step: int
    ) -> tuple[dict[str, float], Captioned]:
        """Writes captions of the split, prints the result and returns it.

        Args:
            write: of `tasks.caption.make_captioner`.
            params: of the model.
            step: optimizer updates that made them, for messages.

        Returns:
            See `caption_metrics`; and the captions.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        written = self._run(lambda batch: write(params, batch), step=step)
        captions = [self._tokenizer.decode(ids.tolist()).strip() for ids in written.token_ids]
        image_ids, references = self._read()
        metrics, cider, exact, tokenizer = caption_metrics(references, captions)
        captioned = Captioned(image_ids, references, captions, written.score, cider, exact)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(captioned, metrics, tokenizer, step)))
        return metrics, captioned

    def lines(self, captioned: Captioned) -> Iterator[dict[str, Any]]:
        """The predictions of the split, an object an image."""
        for row, image_id in enumerate(captioned.image_ids):
            line: dict[str, Any] = {
                "image_id": image_id,
                "caption": captioned.captions[row],
                "score": round(float(captioned.scores[row]), 6),
            }
            if captioned.references[row]:
                line |= {
                    "references": captioned.references[row],
                    "cider": float(captioned.cider[row]),
                    "exact_match": bool(captioned.exact[row]),
                }
            yield line

    def write_beside(self, captioned: Captioned, stem: Path) -> None:
        """Writes the result file of COCO and NoCaps."""
        path = stem.with_name(f"{stem.name}_results.json")
        write_results(path, captioned.image_ids, captioned.captions)
        announce(f"{self.name}: captions as COCO and NoCaps take them: {path}")

    def draw(self, captioned: Captioned, page: Path) -> None:
        """Draws images with their captions."""
        known = [bool(texts) for texts in captioned.references]
        right = [bool(e) if k else None for e, k in zip(captioned.exact, known, strict=True)]

        def show(row: int) -> Shown:
            record = self.source[row]
            return Shown(
                images=[square_image(record.image, record.image_id, self.image_size)],
                text=captioned.references[row][0] if known[row] else "",
                said=captioned.captions[row],
                truth=captioned.references[row][0] if known[row] else "",
                right=right[row],
            )

        hits_and_misses_page([show(r) for r in choose(right)], page, title=self.name)

    def _read(self) -> tuple[list[str], list[tuple[str, ...]]]:
        ids, references = [], []
        for index in range(self.num_records):
            with needed_record(index):
                record = read_record(self.source, index)
            ids.append(record.image_id)
            references.append(tuple(text for text in record.texts if text.strip()))
        return ids, references

    def _describe(
        self, captioned: Captioned, metrics: Mapping[str, float], tokenizer: str, step: int
    ) -> Iterator[str]:
        said = f"{self.name} at step {step}: captions of {self.num_records:,} images"
        without = sum(not texts for texts in captioned.references)
        if not metrics:
            yield f"{said}; none has a caption of people: there are predictions, and no scores"
            return
        if without:
            said += f", {without:,} of them without a caption of people and not scored"
        yield f"{said}; scored by {_scorer()} in {tokenizer}"
        if tokenizer != JAVA:
            yield (
                "  papers score other tokens, those of Java, by which CIDEr moves a little:"
                f" {missing_for_java()}"
            )
        if empty := sum(not caption for caption in captioned.captions):
            yield f"  {empty:,} of the model's captions are empty"
        for name, value in metrics.items():
            yield f"  {name.replace('_', ' '):<24}{value:8.4f}"


def scored_by() -> str:
    """What scores captions here, and in whose tokens."""
    return f"{_scorer()}, {PYTHON if find_java() is None else JAVA}"


def _scorer() -> str:
    version = library_version()
    return f"{LIBRARY} {version}" if version else f"the rules of {LIBRARY} 1.2"


def caption_metrics(
    references: Sequence[Sequence[str]], captions: Sequence[str]
) -> tuple[dict[str, float], np.ndarray, np.ndarray, str]:
    """How near captions come to those of people.

    Args:
        references: [N], of some images perhaps none, which are not scored.
        captions: [N].

    Returns:
        bleu_1 .. bleu_4, rouge_l, cider (1.2 is what papers print as 120), exact_match, the share
        that says just what a reference says, and baseline_exact_match, that of saying the most
        frequent reference of all every time; nothing where no image has a reference. Then CIDEr-D
        [N], NaN without a reference; whether it is an exact match, bool [N]; and the tokenizer.
    """
    scored = [row for row, texts in enumerate(references) if texts]
    flat = [text for row in scored for text in references[row]] + [captions[r] for r in scored]
    tokens, tokenizer = caption_tokens(flat) if scored else ([], "")
    cider, exact = np.full(len(captions), np.nan), np.zeros(len(captions), np.bool_)
    if not scored:
        return {}, cider, exact, tokenizer
    each = iter(tokens)
    known = [[next(each) for _ in references[row]] for row in scored]
    written = list(each)
    score = library_scores if library_version() else caption_scores
    scores = score(known, written)
    cider[scored] = scores.per_image[:, NAMES.index("CIDEr-D")]
    exact[scored] = [text in texts for text, texts in zip(written, known, strict=True)]
    counts = collections.Counter(text for texts in known for text in set(texts))
    names = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "rouge_l", "cider")
    metrics = dict(zip(names, scores.overall.values(), strict=True))
    metrics["exact_match"] = float(exact[scored].mean())
    metrics["baseline_exact_match"] = counts.most_common(1)[0][1] / len(scored)
    return metrics, cider, exact, tokenizer


def result_id(image_id: str) -> int | str:
    """The id of an image as result files have it: the number that COCO or NoCaps gives it, as in
    "coco/391895" and "nocaps/12", or the whole id where it is a number; others stay as they are.
    """
    number = coco_id_of(image_id)
    if number is None:
        found = _NUMBER.fullmatch(image_id)
        number = int(found[1]) if found else None
    return image_id if number is None else number


def write_results(path: Path, image_ids: Sequence[str], captions: Sequence[str]) -> None:
    """Writes the result file that COCO's evaluation code and the servers of COCO and NoCaps take:
    [{"image_id": 391895, "caption": "a man on a bicycle"}, ...].

    Args:
        path: the file.
        image_ids: [N]; where numbers of two come out the same, all stay as they are.
        captions: [N].

    Raises:
        OSError: it cannot be written.
    """
    ids: list[int | str] = [result_id(image_id) for image_id in image_ids]
    if len(set(ids)) < len(ids):
        ids = list(image_ids)
    rows = [{"image_id": n, "caption": c} for n, c in zip(ids, captions, strict=True)]
    write_lines(path, [json.dumps(rows, ensure_ascii=False)])
