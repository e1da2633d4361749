"""Retrieval by scoring every image with every caption, for models that only fuse: exact ranks, at
the cost of as many passes as there are pairs.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from vlmo_jax.evals import collect
from vlmo_jax.evals.folds import Fold, both_scored_ranks
from vlmo_jax.evals.retrieval import RetrievalEvaluator
from vlmo_jax.evals.retrieval_search import Scores, Search, Way
from vlmo_jax.input.schema import INDEX_COLUMNS
from vlmo_jax.reports.metrics import announce
from vlmo_jax.tasks.retrieval import Encoders

WARM_UP, MEASURED = 2, 4  # batches: the first are compiled for
WORTH_SAYING = 60.0  # seconds


class AllPairs:
    """All pairs of each fold and the batches that they are scored in; a process scores those of the
    images that it reads.

    Args:
        folds: of the split, see `folds.split_folds`.
        num_images: of the split.
        num_texts: of the split.
        batch_size: images of a block and pairs of a batch, over all processes.
        host_count: processes that share a batch in equal slices.

    Raises:
        ValueError: there are more pairs than can be counted.
    """

    def __init__(
        self,
        folds: Sequence[Fold],
        *,
        num_images: int,
        num_texts: int,
        batch_size: int,
        host_count: int,
    ) -> None:
        self._folds, self._shape = folds, (num_images, num_texts)
        self._local, self._host_count = batch_size // host_count, host_count
        sizes = [len(fold.texts) for fold in folds]
        self._texts = np.concatenate([fold.texts for fold in folds])
        first_texts = np.cumsum([0, *sizes])[:-1]
        self._first_text, counts = np.zeros((2, num_images), np.int64)
        for fold, first, size in zip(folds, first_texts, sizes, strict=True):
            self._first_text[fold.images], counts[fold.images] = first, size
        self._starts = np.cumsum([0, *counts])  # of the pairs of each image
        if len(self) > np.iinfo(np.int32).max:
            raise ValueError(f"{len(self):,} pairs are too many to be scored; take a smaller split")

    def __len__(self) -> int:
        """How many pairs there are."""
        return int(self._starts[-1])

    @property
    def batches_of_block(self) -> np.ndarray:
        """How many batches the images of each block take: as many as its fullest slice needs."""
        num_images, local = self._shape[0], self._local
        blocks = -(-num_images // (local * self._host_count))
        edges = np.minimum(np.arange(blocks * self._host_count + 1) * local, num_images)
        pairs = np.diff(self._starts[edges]).reshape(blocks, self._host_count)
        return -(-pairs.max(axis=1) // local)

    def batches(
        self,
        blocks: Iterable[Mapping[str, np.ndarray]],
        tokens: Mapping[str, np.ndarray],
        host_index: int,
    ) -> Iterator[dict[str, np.ndarray]]:
        """Makes the batches of one process; see `rerank.PairPlan.batches`."""
        local = self._local
        for number, (block, count) in enumerate(zip(blocks, self.batches_of_block, strict=True)):
            first = (number * self._host_count + host_index) * local
            start, stop = self._starts[np.minimum([first, first + local], self._shape[0])]
            for begin in start + local * np.arange(count):
                places = np.arange(begin, max(begin, min(begin + local, stop)))
                images = np.searchsorted(self._starts, places, side="right") - 1
                texts = self._texts[self._first_text[images] + places - self._starts[images]]
                padding = (0, local - len(places))
                images, texts = np.pad(images - first, padding), np.pad(texts, padding)
                images[len(places) :] = 0
                yield {
                    **{name: block[name][images] for name in block if name not in INDEX_COLUMNS},
                    **{name: array[texts] for name, array in tokens.items()},
                    "index": np.pad(places, padding).astype(np.int32),
                    "valid": np.arange(local) < len(places),
                }

    def matrix(self, scores: np.ndarray) -> np.ndarray:
        """Scores of all pairs [N] as those of images with texts, [I, T] float32; of pairs of two
        folds, which nobody asks for, the least.
        """
        whole = np.full(self._shape, -np.inf, np.float32)
        for images, texts in self._folds:
            places = self._starts[images][:, None] + np.arange(len(texts))
            whole[np.ix_(images, texts)] = scores[places]
        return whole


class PairScoringEvaluator(RetrievalEvaluator):
    """Scores a model by image-text retrieval on one split, every pair by the fused model.

    Args:
        arguments: as of RetrievalEvaluator.
        flops_of_pair: what a pair costs, to be said beforehand.
    """

    def __init__(self, *arguments: Any, flops_of_pair: int, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._flops_of_pair = flops_of_pair

    def statement(self, rerank_top_k: int = 0) -> str:
        """What the numbers are about."""
        return f"{super().statement()}; every pair is scored by the fused model"

    def _search(self, encoders: Encoders, params: Any) -> Search:
        plan = AllPairs(
            self.folds,
            num_images=self.num_records,
            num_texts=len(self.texts),
            batch_size=self._batch_size,
            host_count=self._host.count,
        )
        steps = int(plan.batches_of_block.sum())
        say = announce if jax.process_index() == 0 else lambda _: None
        say(
            f"{self.name}: scoring {len(plan):,} pairs, each in a pass through the fused model"
            f" ({len(plan) * self._flops_of_pair / 1e12:,.3g} TFLOP), in {steps:,} batches"
        )
        batches = plan.batches(self._images(), self._tokens(), self._host.index)
        told = tell_time_left(batches, steps, lambda left: say(f"{self.name}: {left} left"))
        scores = self._run(
            encoders.match, params, told, len(plan), steps * self._batch_size, "pairs scored"
        )
        collect.require_finite(scores, "scores of pairs")
        matrix = plan.matrix(scores)
        groups = np.arange(self.num_records), self.text_image
        to_text, to_image = both_scored_ranks(matrix, *groups, self.folds)
        return Search(Way(Scores(matrix), to_text), Way(Scores(matrix.T), to_image))


def tell_time_left(batches: Iterable[Any], total: int, say: Callable[[str], None]) -> Iterator[Any]:
    """Passes batches through, and says early on how long the others will take, where it is long.

    Args:
        batches: what to go through; each asks for work that is done before the next but one.
        total: how many there are.
        say: takes words.
    """
    start = time.perf_counter()
    for number, batch in enumerate(batches):
        if number == WARM_UP:
            start = time.perf_counter()
        if number == WARM_UP + MEASURED:
            seconds = (time.perf_counter() - start) / MEASURED * (total - number)
            if seconds > WORTH_SAYING:
                say(f"about {spell_time(seconds)}")
        yield batch


def spell_time(seconds: float) -> str:
    """Minutes, or hours and minutes, in words."""
    minutes = max(1, round(seconds / 60))
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
