"""What hard negatives of a part of the batch do to matching: the table in SCALING.md.

python -m docs.negative_groups

The model that comes with the package, and 1,024 pairs of the drawings that it was trained on.
"""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

import vlmo_jax
from vlmo_jax.input.schema import Batch
from vlmo_jax.models.build import abstract_model
from vlmo_jax.objectives.contrastive import contrastive_logits
from vlmo_jax.objectives.matching import Draw, sample_hard_negatives
from vlmo_jax.recipes import Recipe
from vlmo_jax.search.demo.bundled import BUNDLED
from vlmo_jax.tasks.retrieval import make_encoders

SIZE, PART = 1024, 128


def read_pairs(recipe: Recipe) -> Batch:
    """Pairs of which no two have the image or the caption in common."""
    recipe.open()
    with recipe.batches(0) as batches:
        batch = next(batches)
    chosen: list[int] = []
    for row in range(len(batch["image_id"])):
        pair = [(name, batch[name][row]) for name in ("image_id", "text_id")]
        if all((batch[name][chosen] != value).all() for name, value in pair):
            chosen.append(row)
    return {name: value[chosen[:SIZE]] for name, value in batch.items()}


def in_parts(function: Callable[[Batch], jax.Array], batch: Batch) -> np.ndarray:
    """The results of all rows."""
    parts: Iterator[Batch] = (
        {name: value[first : first + PART] for name, value in batch.items()}
        for first in range(0, SIZE, PART)
    )
    return np.concatenate([np.asarray(function(part)) for part in parts])


def matching_loss(odds: np.ndarray, sign: int) -> float:
    """Of pairs that match, 1, or do not, -1, by log-odds."""
    return float(np.logaddexp(0, -sign * odds.astype(np.float64)).mean())


if __name__ == "__main__":
    loaded = vlmo_jax.load(BUNDLED)
    config = loaded.config.copy_and_resolve_references()
    config.batch_size = config.data.prefetch = 2 * SIZE
    config.data.prefetch, config.task.mask_duplicates = 1, True
    recipe = Recipe(config)
    pairs = read_pairs(recipe)
    graphdef, _ = abstract_model(recipe.make_model)
    mean, std = tuple(config.data.mean), tuple(config.data.std)
    encoders = make_encoders(graphdef, mean=mean, std=std)
    params = loaded.params
    image = in_parts(lambda part: encoders.encode_image(params, part), pairs)
    text = in_parts(lambda part: encoders.encode_text(params, part), pairs)
    scale = params["itc"]["logit_scale"]
    to_text, to_image = contrastive_logits(jnp.asarray(image), jnp.asarray(text), scale)

    loss = lambda batch, sign: matching_loss(
        in_parts(lambda part: encoders.match(params, part), batch), sign
    )
    own, keys = loss(pairs, 1), jax.random.split(jax.random.key(0))
    print(f"{SIZE} pairs, own pairs' loss {own:.3f}, scale {float(jnp.exp(scale)):.1f}")
    print("groups, pairs of one, logit of a negative image, of the hardest 1 %, losses, ITM")
    hardest = np.sort(np.where(np.eye(SIZE, dtype=bool), -np.inf, to_image), axis=1)[:, -10]
    for groups in (0, 4, 16, 64, 256):
        how = Draw(groups=groups)
        images = np.asarray(sample_hard_negatives(keys[0], to_image, how=how))
        texts = np.asarray(sample_hard_negatives(keys[1], to_text, how=how))
        drawn = np.asarray(to_image)[np.arange(SIZE), images]
        negative_image = loss({**pairs, "image": pairs["image"][images]}, -1)
        negative_text = loss(
            {**pairs, **{n: pairs[n][texts] for n in ("token_ids", "token_mask")}}, -1
        )
        print(
            f"{groups}, {SIZE // max(1, groups)}, {drawn.mean():.2f},"
            f" {(drawn >= hardest).mean():.1%}, {negative_image:.3f} {negative_text:.3f},"
            f" {(own + negative_image + negative_text) / 3:.3f}",
            flush=True,
        )
