"""Pre-training of ViLBERT: alignment of pairs, masked words, masked regions.

total = itm + mlm + region, with the weights in the config.

Half of the images meet a caption of another pair of the batch. 15 % of the regions are asked for,
and hidden 90 % of the time, with those that overlap them. All of this is drawn in the step by its
key, so that images cut into patches and a detector's regions take one road. A ContrastiveTask
without a contrast: what it draws plays the part of the negatives, which know the whole batch.

Source: ViLBERT, arXiv 1908.02265, section 2.2; 12-in-1, arXiv 1912.02315, section 3.3; the official
`ConceptCapLoaderTrain`. Deliberate differences:
- The caption of another pair is drawn from the batch, never the pair's own. The official sampler
  draws from the captions of a part of the data set, and that of retrieval writes a negative into a
  buffer that the positive shares.
- Regions that overlap a hidden one by more than 0.4 are hidden too; the official loader only takes
  them out of the number that the global region's sum is divided by.
- The global region is the mean of what is shown. The official loader divides the sum by the number
  of places, padding included, without masked ones.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from vlmo_jax.input.schema import UNUSED
from vlmo_jax.layers.attention import read_tokens
from vlmo_jax.layers.regions import Regions, add_global_region, grid_regions, overlaps
from vlmo_jax.objectives.contrastive import duplicate_pairs
from vlmo_jax.objectives.masked_language import masked_counts, masked_totals
from vlmo_jax.objectives.masked_regions import (
    class_losses,
    count_masked_regions,
    feature_losses,
    over_masked,
)
from vlmo_jax.objectives.matching import matching_loss, sample_hard_negatives
from vlmo_jax.tasks.abilities import PretrainsOnRegions
from vlmo_jax.tasks.gradients import contrastive_gradients
from vlmo_jax.tasks.protocols import Batch, Metrics, Prepared
from vlmo_jax.tasks.stateless import Stateless
from vlmo_jax.tasks.visual import IMAGES, REGIONS, visual_input

TEXTS = ("token_mask", "mlm_token_ids", "mlm_positions", "mlm_labels")
PAIR_IDS = ("image_id", "text_id")
CLASSES = "region_classes"

MISMATCHED = 0.5  # share of the images that meet another's caption
HIDDEN = 0.9  # share of the regions asked for whose features become zero
OVERLAP = 0.4  # of a hidden region, beyond which another is hidden with it


class Drawn(NamedTuple):
    """What a step draws.

    Attributes:
        text: [B] int32, the row whose caption each image meets.
        asked: [B, R] bool, regions that are predicted.
        hidden: [B, R] bool, regions whose features become zero.
    """

    text: jax.Array
    asked: jax.Array
    hidden: jax.Array


@dataclasses.dataclass(frozen=True)
class VilbertPretrainTask(Stateless):
    """Losses of ViLBERT's pre-training; a ContrastiveTask whose contrast is zero.

    Args:
        patch_size: pixels a side of the patches that stand in for regions; 0: regions are given.
        visual_tokenizer: graphdef of a DiscreteVAE whose codes are the classes of patches; its
            parameters come as `frozen`. None: the batch has classes, or features are predicted.
        classes: whether a region's soft class is predicted; else its features are.
        mean, std: triples of [0, 1] that normalise the uint8 images of a batch.
        itm_weight, mlm_weight, region_weight: weights in the total.
        region_rate: share of the regions that are asked for.
        aligned_only: ask for words and regions of pairs that belong together only, as the official
            `objective` 1 does.
        mask_duplicates: never take a caption of the same image, or the same caption, for another's.
        dropout: whether dropout draws anything.
    """

    gradients = contrastive_gradients

    patch_size: int = 0
    visual_tokenizer: nnx.GraphDef | None = None
    classes: bool = True
    mean: tuple[float, ...] = (0.5, 0.5, 0.5)
    std: tuple[float, ...] = (0.5, 0.5, 0.5)
    itm_weight: float = 1.0
    mlm_weight: float = 1.0
    region_weight: float = 1.0
    region_rate: float = 0.15
    aligned_only: bool = False
    mask_duplicates: bool = False
    dropout: bool = False

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the arrays of a batch that are seen."""
        return IMAGES if self.patch_size else REGIONS

    @property
    def reads(self) -> tuple[str, ...]:
        """Names of the arrays of a batch."""
        classes = (CLASSES,) if self.classes and not self.patch_size else ()
        return self.seen + classes + TEXTS + (PAIR_IDS if self.mask_duplicates else ())

    @property
    def weights(self) -> dict[str, float]:
        """Weights of the losses."""
        return {
            "itm_loss": self.itm_weight,
            "mlm_loss": self.mlm_weight,
            "region_loss": self.region_weight,
        }

    def prepare(self, batch: Batch, params: Any, extra: Any, frozen: Any) -> Prepared:
        """Adds the soft classes of patches, by the visual tokenizer: [B, R, C] float32.

        A patch is shrunk to as many pixels as a code stands for, and has its code's distribution.
        """
        if self.visual_tokenizer is None:
            return super().prepare(batch, params, extra, frozen)
        tokenizer = nnx.merge(self.visual_tokenizer, frozen)
        image = batch["image"].astype(jnp.float32) / 255.0
        codes = jax.nn.softmax(tokenizer.logits(shrink(image, self.patch_size // tokenizer.stride)))
        classes = codes.reshape(len(codes), -1, codes.shape[-1])
        return Prepared({**batch, CLASSES: classes}, (), {})

    def features(self, model: Any, batch: Batch, key: jax.Array | None) -> dict[str, jax.Array]:
        """There are none to be compared."""
        return {}

    def contrast(
        self, features: Any, batch: Batch, context: Any, key: jax.Array
    ) -> tuple[jax.Array, Drawn, Metrics]:
        """Draws what the whole batch must be known for; there is no contrast.

        Args:
            features: nothing.
            batch: the global batch.
            context: nothing.
            key: random key.

        Returns:
            Zero, Drawn, no metrics.
        """
        text_key, region_key = jax.random.split(key)
        regions = self.regions(batch)
        asked, hidden = draw_regions(region_key, regions, self.region_rate)
        return jnp.zeros(()), Drawn(self._draw_texts(text_key, batch), asked, hidden), {}

    def _draw_texts(self, key, batch):
        """For each image the row of its own caption or of another's, [B] int32."""
        size = len(batch["mlm_token_ids"])
        choose_key, other_key = jax.random.split(key)
        same = None
        if self.mask_duplicates:
            same = duplicate_pairs(batch["image_id"], batch["text_id"])
        others = sample_hard_negatives(other_key, jnp.zeros((size, size)), same)
        mismatched = jax.random.bernoulli(choose_key, MISMATCHED, (size,))
        return jnp.where(mismatched, others, jnp.arange(size, dtype=jnp.int32))

    def regions(self, batch: Batch) -> Regions:
        """What is seen of a batch, as regions."""
        seen = visual_input(batch, self.mean, self.std)
        return seen if isinstance(seen, Regions) else grid_regions(seen, self.patch_size)

    def fused_pairs(self, batch: Batch, negatives: Drawn) -> dict[str, jax.Array]:
        """The images of a batch with the captions that they meet, and what is asked of them."""
        rows = jnp.arange(len(negatives.text), dtype=jnp.int32)
        aligned = negatives.text == rows
        texts = {name: jnp.take(batch[name], negatives.text, axis=0) for name in TEXTS}
        asked = negatives.asked
        if self.aligned_only:
            texts["mlm_labels"] = jnp.where(aligned[:, None], texts["mlm_labels"], UNUSED)
            asked = asked & aligned[:, None]
        seen = {name: batch[name] for name in (*self.seen, CLASSES) if name in batch}
        return {**seen, **texts, "aligned": aligned, "asked": asked, "hidden": negatives.hidden}

    def counts(self, batch: Batch) -> dict[str, Any]:
        """What the sums are divided by: pairs, masked tokens, masked regions."""
        pairs = len(batch["aligned"])
        masked = {"region_loss": count_masked_regions(batch["asked"])}
        if self.classes:
            masked["region_accuracy"] = masked["region_loss"]
        tokens = masked_counts(batch["mlm_labels"])
        return {"itm_loss": pairs, "itm_accuracy": pairs, **tokens, **masked}

    def fused_sums(
        self, model: PretrainsOnRegions, batch: Batch, context: Any, key: jax.Array | None
    ) -> Metrics:
        """Losses and accuracies summed over pairs, masked tokens and masked regions.

        Args:
            model: ViLBERT.
            batch: of `fused_pairs`, or a part of it.
            context: nothing.
            key: random key or None.
        """
        regions = self.regions(batch)
        seen = add_global_region(regions, batch["hidden"])
        pair = model.encode_regions(seen, batch["mlm_token_ids"], batch["token_mask"], key)
        labels = batch["aligned"].astype(jnp.int32)
        logits = model.match_logits(pair.fused)
        words = model.predict_words(read_tokens(pair.tokens.text, batch["mlm_positions"]))
        guesses = model.predict_regions(pair.tokens.vision[:, 1:])
        return {
            "itm_loss": matching_loss(logits, labels).sum(),
            "itm_accuracy": (jnp.argmax(logits, axis=-1) == labels).sum(),
            **masked_totals(words, batch["mlm_labels"]),
            **self._region_totals(guesses, regions, batch),
        }

    def _region_totals(self, guesses, regions, batch):
        asked = batch["asked"]
        if not self.classes:
            return {"region_loss": over_masked(feature_losses(guesses, regions.features), asked)}
        classes = batch[CLASSES]
        right = jnp.argmax(guesses, axis=-1) == jnp.argmax(classes, axis=-1)
        return {
            "region_loss": over_masked(class_losses(guesses, classes), asked),
            "region_accuracy": over_masked(right.astype(jnp.float32), asked),
        }


def draw_regions(key: jax.Array, regions: Regions, rate: float) -> tuple[jax.Array, jax.Array]:
    """Draws which regions are asked for, and which of all are hidden.

    Args:
        key: random key.
        regions: R regions.
        rate: share of them that is asked for.

    Returns:
        Two arrays [B, R] bool: asked for, and hidden. The second holds HIDDEN of the first, and
        what overlaps those by more than OVERLAP.
    """
    ask_key, hide_key = jax.random.split(key)
    shape = regions.mask.shape
    asked = jax.random.bernoulli(ask_key, rate, shape) & regions.mask
    hidden = asked & jax.random.bernoulli(hide_key, HIDDEN, shape)
    near = (overlaps(regions.boxes) > OVERLAP) & hidden[:, None]
    return asked, near.any(-1) & regions.mask


def shrink(image: jax.Array, factor: int) -> jax.Array:
    """Means of squares of `factor` x `factor` pixels: [B, S, S, C] -> [B, S / f, S / f, C]."""
    if factor == 1:
        return image
    rows, columns = image.shape[1] // factor, image.shape[2] // factor
    squares = image.reshape(len(image), rows, factor, columns, factor, image.shape[-1])
    return squares.mean((2, 4))
