"""Image-text retrieval: recall both ways, exact, over any mesh, with optional re-ranking by
matching.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from vlmo_jax.evals import collect, protocols, recall, rerank
from vlmo_jax.evals.evaluation import check_batch_size
from vlmo_jax.evals.folds import both_ranks, mean_metrics, split_folds
from vlmo_jax.evals.retrieval_search import (
    RERANKINGS,
    Search,
    Vectors,
    Way,
    best_candidates,
    describe_ties,
    draw_queries,
    format_metrics,
    reorder,
)
from vlmo_jax.input.evaluation import split_batches, text_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import RowMaker
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce, progress
from vlmo_jax.tasks.retrieval import Encoders

KEPT_IMAGE_BYTES = 2**30  # decoded images of a split are kept if they take no more on one host


class PicturedMaker(RowMaker, Protocol):
    """Makes the rows of a split, and shows its records to people."""

    def picture(self, index: int) -> np.ndarray:
        """Record `index` as a picture, uint8 [S, S, 3]."""


class RetrievalExamples(NamedTuple):
    """A few queries both ways with what they retrieve, best first; the first arguments of
    `reports.pages.retrieval.retrieval_page`.
    """

    captions: list[str]  # [Q] captions as queries
    caption_images: np.ndarray  # [Q, K, S, S, 3] uint8, the images they retrieve
    caption_correct: np.ndarray  # [Q, K] bool
    images: np.ndarray  # [R, S, S, 3] uint8, images as queries
    image_captions: list[list[str]]  # [R][L], the captions they retrieve
    image_correct: np.ndarray  # [R, L] bool
    caption_ranks: np.ndarray  # [Q] float, from 1, of the best right one
    image_ranks: np.ndarray  # [R]


class RetrievalEvaluator:
    """Scores a model by image-text retrieval on one split.

    Args:
        source: the records of the split; `source[i]` has texts and an image_id.
        tokenizer: of `load_tokenizer`.
        name: what the result is called.
        images: function of records that gives the maker of what the model sees of them, such as
            `EvalImages` with its rows.
        text_length: T, tokens of a text.
        batch_size: images, captions or pairs of a batch over all processes; a multiple of the batch
            shards of the mesh.
        mesh: the mesh of the job.
        protocol: a name in `protocols.PROTOCOLS`.
        rerank: a name in RERANKINGS.
        match_weight: of the score of matching where it is added to the dual encoder's.
        captions: of `protocols.read_captions`; None: they are read now.

    Raises:
        ValueError: a size is impossible, the split is empty, or it does not fit the protocol.
    """

    def __init__(
        self,
        source: Sequence,
        tokenizer: Tokenizer,
        *,
        name: str,
        images: Callable[[Sequence], PicturedMaker],
        text_length: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        protocol: str = "all_captions",
        rerank: str = "replace",
        match_weight: float = 1.0,
        captions: protocols.Captions | None = None,
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        try:
            captions = captions or protocols.read_captions(source, protocol)
            self.image_ids, self.texts, self.text_image = captions
            self.folds = split_folds(
                np.arange(len(source)), self.text_image, protocols.PROTOCOLS[protocol].folds
            )
        except ValueError as error:
            raise ValueError(f"evaluator {name!r}: {error}") from error
        self.name, self.num_records = name, len(source)
        self._source, self._tokenizer, self._mesh = source, tokenizer, mesh
        self._maker, self._text_length, self._batch_size = images(source), text_length, batch_size
        self._protocol, self._added, self._match_weight = protocol, rerank == "add", match_weight
        self._host = Host(jax.process_index(), jax.process_count())
        self._kept_images = None
        self._cut_texts = sum(
            len(tokenizer.encode(text).ids) > text_length - 2 for text in self.texts
        )

    def statement(self, rerank_top_k: int = 0) -> str:
        """What the numbers are about: protocol, sizes, captions an image, re-ranking, chance."""
        captions = np.bincount(self.text_image, minlength=self.num_records)
        each = (
            f"{captions.min()}"
            if captions.min() == captions.max()
            else f"{captions.min()} to {captions.max()}"
        )
        parts = [
            f"{self.num_records:,} images, {len(self.texts):,} captions ({each} an image"
            f"{', the best of them counts' if captions.max() > 1 else ''}); "
            f"protocol {self._protocol}: {protocols.PROTOCOLS[self._protocol].description}"
        ]
        if self._cut_texts:
            parts.append(f"{self._cut_texts:,} captions are cut at {self._text_length} tokens")
        if rerank_top_k:
            how = RERANKINGS["add" if self._added else "replace"]
            how += f", times {self._match_weight:g}" if self._match_weight != 1 else ""
            parts.append(f"the top {rerank_top_k} are re-ranked by matching, {how}")
        folds, images = len(self.folds), self.num_records
        to_text = [
            recall.chance_recall(captions.tolist(), len(self.texts) // folds, k)
            for k in recall.CUTOFFS
        ]
        to_image = [recall.chance_recall([1], images // folds, k) for k in recall.CUTOFFS]
        chances = [
            " / ".join(f"{100 * chance:.3g}" for chance in way) for way in (to_text, to_image)
        ]
        parts.append(
            f"chance of R@1/5/10: image to text {chances[0]} %, text to image {chances[1]} %"
        )
        return "; ".join(parts)

    def evaluate(
        self, encoders: Encoders, params: Any, step: int, rerank_top_k: int = 0
    ) -> dict[str, float]:
        """Encodes the split, ranks it, prints the result with its protocol and returns it.

        Args:
            encoders: the model.
            params: its parameters.
            step: optimizer updates that made them, for messages.
            rerank_top_k: re-rank so many candidates of each query by `match`; 0: none. More than
                there are means all.

        Returns:
            Recalls (0 to 1) and median ranks, see `recall.recall_metrics`; with re-ranking the same
            again, `reranked_...`.

        Raises:
            RuntimeError: anything failed; it names the evaluator and the step.
        """
        return self.search(encoders, params, step, rerank_top_k)[0]

    def evaluate_with_examples(
        self, encoders: Encoders, params: Any, step: int, rerank_top_k: int = 0, **options: int
    ) -> tuple[dict[str, float], RetrievalExamples]:
        """Evaluates as `evaluate` does, and shows what some queries retrieve; see `examples`."""
        metrics, search = self.search(encoders, params, step, rerank_top_k)
        return metrics, self.examples(search, **options)

    def search(
        self, encoders: Encoders, params: Any, step: int, rerank_top_k: int = 0
    ) -> tuple[dict[str, float], Search]:
        """Evaluates as `evaluate` does, and returns what was found, too."""
        try:
            search = self._search(encoders, params)
            if rerank_top_k:
                search = self._rerank(encoders, params, search, rerank_top_k)
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error
        to_text, to_image = search
        metrics = mean_metrics(to_text.ranks, to_image.ranks, self.folds)
        if to_text.reranked and to_image.reranked:
            reranked = mean_metrics(to_text.reranked, to_image.reranked, self.folds)
            metrics |= {f"reranked_{name}": value for name, value in reranked.items()}
        if jax.process_index() == 0:
            lines = [
                f"{self.name} at step {step}: {self.statement(rerank_top_k)}",
                *describe_ties(search),
                *format_metrics(metrics),
            ]
            announce("\n".join(lines))
        return metrics, search

    def _search(self, encoders, params) -> Search:
        image = self._run(
            encoders.encode_image,
            params,
            self._images(),
            self.num_records,
            self.num_records,
            "images",
        )
        texts = text_batches(
            self.texts,
            self._tokenizer,
            text_length=self._text_length,
            batch_size=self._batch_size,
            host=self._host,
        )
        text = self._run(
            encoders.encode_text, params, texts, len(self.texts), len(self.texts), "captions"
        )
        collect.require_finite(image, "image embeddings")
        collect.require_finite(text, "caption embeddings")
        ranks = both_ranks(image, text, np.arange(self.num_records), self.text_image, self.folds)
        return Search(Way(Vectors(image, text), ranks[0]), Way(Vectors(text, image), ranks[1]))

    def _rerank(self, encoders, params, search, rerank_top_k) -> Search:
        """Ranks both ways after matching; a pair that both ways want is scored once."""
        texts_of_image, images_of_text = best_candidates(search, self.folds, rerank_top_k)
        image_rows = np.arange(self.num_records)[:, None] + np.zeros_like(texts_of_image.rows)
        text_rows = np.arange(len(self.texts))[:, None] + np.zeros_like(images_of_text.rows)
        plan, scores = self._match(
            encoders,
            params,
            np.concatenate([image_rows.ravel(), images_of_text.rows.ravel()]),
            np.concatenate([texts_of_image.rows.ravel(), text_rows.ravel()]),
        )
        to_text = scores[plan.places(image_rows, texts_of_image.rows)]
        to_image = scores[plan.places(images_of_text.rows, text_rows)]
        right_texts = self.text_image[texts_of_image.rows] == image_rows
        right_images = self.text_image[text_rows] == images_of_text.rows
        if self._added:
            to_text = self._match_weight * to_text + texts_of_image.scores
            to_image = self._match_weight * to_image + images_of_text.scores
        return Search(
            reorder(search.to_text, texts_of_image, right_texts, to_text),
            reorder(search.to_image, images_of_text, right_images, to_image),
        )

    def _match(self, encoders, params, images, texts) -> tuple[rerank.PairPlan, np.ndarray]:
        """Scores the pairs of rows `images` [N] and `texts` [N], each once: `plan.places` of them
        are their places in the scores.
        """
        plan = rerank.PairPlan(
            images,
            texts,
            num_images=self.num_records,
            num_texts=len(self.texts),
            batch_size=self._batch_size,
            host_count=self._host.count,
        )
        batches = plan.batches(self._images(), self._tokens(), self._host.index)
        places = int(plan.batches_of_block.sum()) * self._batch_size
        scores = self._run(encoders.match, params, batches, len(plan), places, "pairs matched")
        collect.require_finite(scores, "scores of matching")
        return plan, scores

    def _run(self, function, params, batches, num_rows, num_places, what):
        """Applies a function of the model to all batches; returns its rows in order, on every
        process.
        """
        shown = progress(
            batches,
            total=-(-num_places // self._batch_size),
            description=f"{self.name}: {what}",
            unit="batch",
            enabled=jax.process_index() == 0,
        )
        apply = lambda arrays: function(params, arrays)
        results = (collect.apply_to_batch(apply, batch, self._mesh) for batch in shown)
        return collect.collect_rows(results, num_rows)

    def _images(self):
        """The image batches of this process; small splits are decoded once and kept."""
        if self._kept_images is not None:
            yield from self._kept_images
            return
        columns = self._maker.columns.values()
        size = sum(math.prod(c.shape) * np.dtype(c.dtype).itemsize for c in columns)
        size *= self.num_records // self._host.count
        kept = [] if size <= KEPT_IMAGE_BYTES else None
        for batch in split_batches(self._maker, batch_size=self._batch_size, host=self._host):
            if kept is not None:
                kept.append(batch)
            yield batch
        self._kept_images = kept

    def _tokens(self) -> Mapping[str, np.ndarray]:
        """token_ids and token_mask [captions and padding, T] of all captions, on every process."""
        batches = list(
            text_batches(
                self.texts,
                self._tokenizer,
                text_length=self._text_length,
                batch_size=self._batch_size,
            )
        )
        return {
            name: np.concatenate([batch[name] for batch in batches])
            for name in ("token_ids", "token_mask")
        }

    def examples(
        self,
        search: Search,
        *,
        num_captions: int = 8,
        num_images: int = 4,
        top_k: int = 5,
        seed: int = 0,
    ) -> RetrievalExamples:
        """What some queries retrieve before any candidate is matched: half of them hits, half of
        them misses, as far as there are so many.

        Args:
            search: of `search`.
            num_captions: captions drawn as queries.
            num_images: images drawn as queries.
            top_k: images or captions shown for each.
            seed: of the draw.
        """
        rng = np.random.default_rng(seed)
        text_ranks, image_ranks = search.to_image.ranks, search.to_text.ranks
        queries = draw_queries(text_ranks, num_captions, rng)
        image_queries = draw_queries(image_ranks, num_images, rng)
        images, texts = np.arange(self.num_records), np.arange(len(self.texts))
        top = min(top_k, len(images)), min(top_k, len(texts))
        found_images = search.to_image.similar.top(queries, images, top[0]).rows
        found_texts = search.to_text.similar.top(image_queries, texts, top[1]).rows
        pixels = self.pixels(np.concatenate([found_images.ravel(), image_queries]))
        return RetrievalExamples(
            captions=[self.texts[row] for row in queries],
            caption_images=pixels[: found_images.size].reshape(
                *found_images.shape, *pixels.shape[1:]
            ),
            caption_correct=self.text_image[queries][:, None] == found_images,
            images=pixels[found_images.size :],
            image_captions=[[self.texts[row] for row in found] for found in found_texts],
            image_correct=self.text_image[found_texts] == image_queries[:, None],
            caption_ranks=text_ranks.expected[queries] + 1,
            image_ranks=image_ranks.expected[image_queries] + 1,
        )

    def pixels(self, rows: np.ndarray) -> np.ndarray:
        """Pictures of records of the split by their rows [N]: uint8 [N, S, S, 3]."""
        read, places = np.unique(rows, return_inverse=True)
        return np.stack([self._maker.picture(int(row)) for row in read])[places]
