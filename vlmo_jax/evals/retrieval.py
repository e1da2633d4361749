"""Image-text retrieval: recall both ways, exact, over any mesh, with optional re-ranking by
matching.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from vlmo_jax.datasets import Record
from vlmo_jax.evals import collect, protocols, recall, rerank
from vlmo_jax.evals.evaluation import check_batch_size
from vlmo_jax.input.evaluation import image_batches, text_batches
from vlmo_jax.input.hosts import Host
from vlmo_jax.input.text.tokenizer import Tokenizer
from vlmo_jax.reports.metrics import announce, progress
from vlmo_jax.tasks.retrieval import Encoders

KEPT_IMAGE_BYTES = 2**30  # decoded images of a split are kept if they take no more on one host


class Embeddings(NamedTuple):
    """image [images, D] and text [captions, D], float32, on every process."""

    image: np.ndarray
    text: np.ndarray


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


class RetrievalEvaluator:
    """Scores a model by image-text retrieval on one split.

    Args:
        source: the records of the split; `source[i]` is a `Record`.
        tokenizer: of `load_tokenizer`.
        name: what the result is called.
        image_size: S, side of the images in pixels.
        text_length: T, tokens of a text.
        batch_size: images, captions or pairs of a batch over all processes; a multiple of the batch
            shards of the mesh.
        mesh: the mesh of the job.
        protocol: a name in `protocols.PROTOCOLS`.

    Raises:
        ValueError: a size is impossible, the split is empty, or it does not fit the protocol.
    """

    def __init__(
        self,
        source: Sequence[Record],
        tokenizer: Tokenizer,
        *,
        name: str,
        image_size: int,
        text_length: int,
        batch_size: int,
        mesh: jax.sharding.Mesh,
        protocol: str = "all_captions",
    ) -> None:
        check_batch_size(name, batch_size, mesh)
        if not len(source):
            raise ValueError(f"evaluator {name!r}: the split is empty; give one with records")
        try:
            records = (source[row] for row in range(len(source)))
            described = [(record.image_id, record.texts) for record in records]
            image_ids, captions = zip(*described, strict=True)
            self.texts, self.text_image = protocols.select_captions(protocol, image_ids, captions)
        except ValueError as error:
            raise ValueError(f"evaluator {name!r}: {error}") from error
        self.name, self.num_records = name, len(source)
        self._source, self._tokenizer, self._mesh = source, tokenizer, mesh
        self._image_size, self._text_length, self._batch_size = image_size, text_length, batch_size
        self._protocol = protocol
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
            parts.append(f"the top {rerank_top_k} are re-ranked by matching")
        to_text = [
            recall.chance_recall(captions.tolist(), len(self.texts), k) for k in recall.CUTOFFS
        ]
        to_image = [recall.chance_recall([1], self.num_records, k) for k in recall.CUTOFFS]
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
        return self._evaluate(encoders, params, step, rerank_top_k)[0]

    def evaluate_with_examples(
        self,
        encoders: Encoders,
        params: Any,
        step: int,
        rerank_top_k: int = 0,
        *,
        num_captions: int = 8,
        num_images: int = 4,
        top_k: int = 5,
        seed: int = 0,
    ) -> tuple[dict[str, float], RetrievalExamples]:
        """Evaluates, and shows what some queries retrieve by their embeddings.

        Args:
            encoders, params, step, rerank_top_k: as in `evaluate`.
            num_captions: captions drawn as queries.
            num_images: images drawn as queries.
            top_k: images or captions shown for each.
            seed: of the draw.

        Returns:
            The metrics, and the examples.
        """
        metrics, embeddings = self._evaluate(encoders, params, step, rerank_top_k)
        return metrics, self._examples(
            embeddings, num_captions, num_images, top_k, np.random.default_rng(seed)
        )

    def _evaluate(self, encoders, params, step, rerank_top_k):
        try:
            embeddings = self._embed(encoders, params)
            metrics = self._score(encoders, params, embeddings, rerank_top_k)
        except Exception as error:
            raise RuntimeError(f"evaluator {self.name!r} failed at step {step}: {error}") from error
        if jax.process_index() == 0:
            announce(
                "\n".join(
                    [
                        f"{self.name} at step {step}: {self.statement(rerank_top_k)}",
                        *format_metrics(metrics),
                    ]
                )
            )
        return metrics, embeddings

    def _embed(self, encoders, params):
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
        for kind, rows in (("image", image), ("caption", text)):
            broken = np.sum(~np.isfinite(rows).all(axis=1))
            if broken:
                raise FloatingPointError(
                    f"{broken} of {len(rows)} {kind} embeddings are not finite; the parameters are"
                    " broken"
                )
        return Embeddings(image, text)

    def _score(self, encoders, params, embeddings, rerank_top_k):
        image, text = embeddings
        image_groups = np.arange(self.num_records, dtype=np.int32)
        to_text = recall.best_ranks(image, text, image_groups, self.text_image)
        to_image = recall.best_ranks(text, image, self.text_image, image_groups)
        metrics = recall.recall_metrics(to_text, to_image)
        if rerank_top_k:
            reranked = recall.recall_metrics(
                *self._rerank(encoders, params, embeddings, to_text, to_image, rerank_top_k)
            )
            metrics |= {f"reranked_{name}": value for name, value in reranked.items()}
        return metrics

    def _rerank(self, encoders, params, embeddings, to_text, to_image, rerank_top_k):
        """Ranks both ways after matching; a pair that both ways want is scored once."""
        image, text = embeddings
        texts_of_image = recall.top_candidates(image, text, min(rerank_top_k, len(text)))
        images_of_text = recall.top_candidates(text, image, min(rerank_top_k, len(image)))
        image_rows = np.broadcast_to(np.arange(len(image))[:, None], texts_of_image.shape)
        text_rows = np.broadcast_to(np.arange(len(text))[:, None], images_of_text.shape)
        plan = rerank.PairPlan(
            np.concatenate([image_rows.ravel(), images_of_text.ravel()]),
            np.concatenate([texts_of_image.ravel(), text_rows.ravel()]),
            num_images=len(image),
            num_texts=len(text),
            batch_size=self._batch_size,
            host_count=self._host.count,
        )
        batches = plan.batches(self._images(), self._tokens(), self._host.index)
        steps = int(plan.batches_of_block.sum())
        scores = self._run(
            encoders.match, params, batches, len(plan), steps * self._batch_size, "pairs matched"
        )
        return (
            recall.reranked_ranks(
                to_text,
                self.text_image[texts_of_image] == image_rows,
                scores[plan.places(image_rows, texts_of_image)],
            ),
            recall.reranked_ranks(
                to_image,
                self.text_image[text_rows] == images_of_text,
                scores[plan.places(images_of_text, text_rows)],
            ),
        )

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
        size = self.num_records // self._host.count * self._image_size**2 * 3
        kept = [] if size <= KEPT_IMAGE_BYTES else None
        for batch in image_batches(
            self._source, image_size=self._image_size, batch_size=self._batch_size, host=self._host
        ):
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

    def _examples(self, embeddings, num_captions, num_images, top_k, rng):
        image, text = embeddings
        queries = np.sort(rng.choice(len(text), min(num_captions, len(text)), replace=False))
        image_queries = np.sort(rng.choice(len(image), min(num_images, len(image)), replace=False))
        found_images = recall.top_candidates(text[queries], image, min(top_k, len(image)))
        found_texts = recall.top_candidates(image[image_queries], text, min(top_k, len(text)))
        rows, places = np.unique(
            np.concatenate([found_images.ravel(), image_queries]), return_inverse=True
        )
        records = [self._source[int(row)] for row in rows]
        pixels = next(
            iter(image_batches(records, image_size=self._image_size, batch_size=len(records)))
        )["image"][places]
        return RetrievalExamples(
            captions=[self.texts[row] for row in queries],
            caption_images=pixels[: found_images.size].reshape(
                *found_images.shape, *pixels.shape[1:]
            ),
            caption_correct=self.text_image[queries][:, None] == found_images,
            images=pixels[found_images.size :],
            image_captions=[[self.texts[row] for row in found] for found in found_texts],
            image_correct=self.text_image[found_texts] == image_queries[:, None],
        )


def format_metrics(metrics: Mapping[str, float]) -> list[str]:
    """Lines for people: recalls in percent, one line a way."""
    lines = []
    for prefix, label in (("", ""), ("reranked_", ", re-ranked")):
        for way in ("image_to_text", "text_to_image"):
            if f"{prefix}{way}_recall_at_1" in metrics:
                recalls = "  ".join(
                    f"R@{k} {100 * metrics[f'{prefix}{way}_recall_at_{k}']:5.2f} %"
                    for k in recall.CUTOFFS
                )
                rank = metrics[f"{prefix}{way}_median_rank"]
                lines.append(f"  {way.replace('_', ' ')}{label}: {recalls}  median rank {rank:.0f}")
    return lines
