"""Statements about two images: what a model holds for true, and how often it is right."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets.beside import read_beside
from vlmo_jax.datasets.examples import TextsOnly
from vlmo_jax.evals.answered_split import answer_split
from vlmo_jax.evals.consistency import share_of_right_groups
from vlmo_jax.evals.evaluation import check_batch_size, metric_lines
from vlmo_jax.evals.predictions import write_lines
from vlmo_jax.input.attempts import needed_record, read_record
from vlmo_jax.input.pipeline import Loading
from vlmo_jax.input.plain_images import thumbnail
from vlmo_jax.input.statements import SIDES, UNKNOWN, EvalStatements, StatementRows
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce
from vlmo_jax.reports.pages.hits_and_misses import Shown, choose, hits_and_misses_page

SUBSETS = "subsets.json"  # beside the shards: {name: ids of statements that are scored alone, too}
Subsets = Mapping[str, frozenset[str]]
WORDS = ("False", "True")


def read_subsets(folder: Path) -> Subsets:
    """The subsets of a data set of statements, {} where it has none."""
    named = read_beside(folder, SUBSETS) or {}
    return {name: frozenset(ids) for name, ids in named.items()}


class Statement(NamedTuple):
    """What a record says beside its images; see `datasets.records.StatementRecord`."""

    statement_id: str
    group_id: str
    statement: str
    label: int


class Nlvr2Evaluator:
    """Asks a model of every statement of one split whether it is true.

    Args:
        source: the records of the split.
        tokenizer: of `load_tokenizer`.
        rows: sizes.
        name: what the result is called.
        batch_size: statements of a batch over all processes; a multiple of the batch shards of the
            mesh.
        mesh: the mesh of the job.
        loading: how batches are made.
        subsets: name -> ids of statements that are scored alone, too.

    Raises:
        ValueError: a size is impossible, or there are no statements.
    """

    def __init__(
        self,
        source: Sequence,
        tokenizer: Tokenizer,
        rows: StatementRows,
        *,
        name: str,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        loading: Loading,
        subsets: Subsets,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        self.name, self.num_records, self.source = name, len(source), source
        self.image_size, self._subsets = rows.image_size, subsets
        self._run = functools.partial(
            answer_split,
            maker=EvalStatements(source, tokenizer, rows),
            name=name,
            batch_size=batch_size,
            mesh=mesh,
            loading=loading,
            unit="statements",
        )

    @functools.cached_property
    def statements(self) -> list[Statement]:
        """All statements in the order of the split; each record is read once."""
        found, texts = [], TextsOnly(self.source)
        for index in range(self.num_records):
            with needed_record(index):
                record = read_record(texts, index)
            found.append(
                Statement(record.statement_id, record.group_id, record.statement, int(record.label))
            )
        return found

    def evaluate(
        self, compare: Callable[[Any, Any], jax.Array], params: Any, step: int
    ) -> tuple[dict[str, float], np.ndarray]:
        """Judges every statement of the split, prints the result and returns it.

        Args:
            compare: of `tasks.nlvr2.make_comparer`.
            params: of the model.
            step: optimizer updates that made them, for messages.

        Returns:
            accuracy, and consistency where statements have groups, from 0 to 1; the same of the
            subsets that the split holds, such as accuracy_balanced_dev; nothing where labels are
            not public. And the probabilities [N] that statements are true.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        probabilities = self._run(lambda batch: compare(params, batch), step=step)
        metrics = self._score(probabilities)
        if jax.process_index() == 0:
            announce("\n".join(self._describe(metrics, step)))
        return metrics, probabilities

    def right(self, probabilities: np.ndarray) -> list[bool | None]:
        """Of each statement whether the model is right; None where nobody says."""
        pairs = zip(self.statements, says_true(probabilities).tolist(), strict=True)
        return [None if s.label == UNKNOWN else (s.label == 1) == said for s, said in pairs]

    def lines(self, probabilities: np.ndarray) -> Iterator[dict[str, Any]]:
        """What the model says of the split, an object a statement."""
        rights = self.right(probabilities)
        for statement, probability, right in zip(
            self.statements, probabilities, rights, strict=True
        ):
            line = {
                "identifier": statement.statement_id,
                "statement": statement.statement,
                "prediction": WORDS[bool(says_true(probability))],
                "probability": round(float(probability), 6),
            }
            if right is not None:
                line |= {"label": WORDS[statement.label], "right": right}
            yield line

    def write_beside(self, probabilities: np.ndarray, stem: Path) -> None:
        """Writes what it says as CSV, which the official script reads."""
        write_csv(stem.with_name(f"{stem.name}.csv"), self.statements, probabilities)

    def draw(self, probabilities: np.ndarray, page: Path) -> None:
        """Draws statements with what the model says."""
        rights = self.right(probabilities)

        def show(row: int) -> Shown:
            record, statement = self.source[row], self.statements[row]
            said = WORDS[bool(says_true(probabilities[row]))]
            return Shown(
                images=[thumbnail(getattr(record, side), self.image_size) for side in SIDES],
                text=statement.statement,
                said=said.lower(),
                truth="" if statement.label == UNKNOWN else WORDS[statement.label].lower(),
                right=rights[row],
            )

        hits_and_misses_page([show(row) for row in choose(rights)], page, title=self.name)

    def _score(self, probabilities: np.ndarray) -> dict[str, float]:
        judged = [
            (statement, right)
            for statement, right in zip(self.statements, self.right(probabilities), strict=True)
            if right is not None
        ]
        metrics = _shares(judged, "")
        for name, ids in self._subsets.items():
            metrics |= _shares([pair for pair in judged if pair[0].statement_id in ids], f"_{name}")
        return metrics

    def _describe(self, metrics: Mapping[str, float], step: int) -> Iterator[str]:
        said = f"{self.name} at step {step}: {self.num_records:,} statements"
        labelled = sum(statement.label != UNKNOWN for statement in self.statements)
        if not labelled:
            yield f"{said}; nobody says which are true: there are predictions, and no scores"
            return
        if labelled < self.num_records:
            said += f", {labelled:,} of them with labels"
        groups = len({statement.group_id for statement in self.statements} - {""})
        yield f"{said}{f' in {groups:,} groups' if groups else ''}"
        yield from metric_lines(metrics, width=32)


def says_true(probabilities: np.ndarray) -> np.ndarray:
    """What a model holds for true, bool [N]; at exactly one half the first logit wins: false."""
    return probabilities > 0.5


def _shares(judged: Sequence[tuple[Statement, bool]], suffix: str) -> dict[str, float]:
    """Accuracy and consistency of statements of which it is known whether the model is right."""
    if not judged:
        return {}
    found = {f"accuracy{suffix}": float(np.mean([right for _, right in judged]))}
    grouped = [(statement.group_id, right) for statement, right in judged if statement.group_id]
    if grouped:
        groups, right = zip(*grouped, strict=True)
        found[f"consistency{suffix}"] = share_of_right_groups(right, groups)
    return found


def write_csv(path: Path, statements: Sequence[Statement], probabilities: np.ndarray) -> None:
    """Writes a line `identifier,prediction` a statement, the prediction True or False.

    Raises:
        OSError: the file cannot be written.
    """
    said = says_true(probabilities).tolist()
    pairs = zip(statements, said, strict=True)
    write_lines(path, (f"{one.statement_id},{WORDS[true]}" for one, true in pairs))
