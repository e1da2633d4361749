"""Captions: what each word may see, the losses, and search beside a plain one without a cache."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import tiny
from vlmo_jax.tasks.beam_search import SpecialTokens
from vlmo_jax.tasks.caption import MASKED, NEXT_TOKEN, CaptionTask, make_captioner

PAD, UNK, BEGIN, END, MASK = 0, 1, 2, 3, 4
TOKENS = SpecialTokens(BEGIN, END, PAD, MASK, (PAD, UNK, BEGIN, MASK))
ROWS = 3
MEAN = STD = (0.5, 0.5, 0.5)
POSITIONS = ("relative", "absolute")
POSITION_FIELDS = {
    "relative": dict(heads=("caption",)),
    "absolute": dict(heads=("caption",), position="absolute", scan_layers=False),
}


@functools.cache
def captioner(position):
    fields = POSITION_FIELDS[position]
    return tiny.model(tiny.params(**fields), **fields)


@functools.cache
def logits_of(position):
    """The uncached logits, jitted."""
    model = captioner(position)
    return jax.jit(lambda image, ids, mask: model.caption_logits(image, ids, mask))


@pytest.fixture(scope="module")
def batch():
    made = tiny.make_batch(ROWS)
    return {name: made[name] for name in ("image", "token_ids", "token_mask")}


@pytest.fixture(scope="module")
def image(batch):
    return jnp.asarray(batch["image"] / np.float32(127.5) - 1)


@pytest.mark.parametrize("position", POSITIONS)
def test_no_word_reads_a_later_one(position, batch, image):
    logits, mask = logits_of(position), jnp.ones_like(batch["token_mask"])
    before = logits(image, batch["token_ids"], mask)
    for place in range(1, tiny.LENGTH):
        changed = batch["token_ids"].copy()
        changed[:, place] = (changed[:, place] + 7) % tiny.VOCAB
        after = logits(image, changed, mask)
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        moved = np.abs(after - before).max(axis=(0, 2))
        assert (moved[place:] > 1e-4).all()


def test_gradients_stay_within_the_mask(batch, image):
    """Of a logit by the embeddings: those of later words, and of paddings, are exactly zero."""
    model = captioner("relative")
    real = jnp.asarray(np.arange(tiny.LENGTH) < 6)[None]
    ids = jnp.asarray(batch["token_ids"][:1])
    pixels = model.embed_image(image[:1])

    def total(text, pixels, place):
        """As `caption_logits` joins them."""
        seen = jnp.pad(real, ((0, 0), (pixels.shape[1], 0)), constant_values=True)
        mask = seen[:, None] & model._caption_mask(tiny.LENGTH)
        states = model.fuse(text, pixels, mask)
        return jnp.tanh(states[0, place]).sum()

    slopes = jax.jit(jax.grad(total, argnums=(0, 1)))
    for place in range(6):
        text_slope, pixel_slope = slopes(model.embed_text(ids), pixels, place)
        sizes = np.abs(text_slope[0]).max(axis=-1)
        assert (sizes[: place + 1] > 0).all() and not sizes[place + 1 :].any()
        assert (np.abs(pixel_slope[0]).max(axis=-1) > 0).all()
    # The image reads no text.
    text_slope, pixel_slope = slopes(model.embed_text(ids), pixels, tiny.LENGTH + 1)
    assert not np.any(text_slope) and (np.abs(pixel_slope[0]).max(axis=-1) > 0).all()


@pytest.mark.parametrize("position", POSITIONS)
def test_cached_logits_equal_uncached_ones(position, batch, image):
    model, ids = captioner(position), jnp.asarray(batch["token_ids"])
    expected = logits_of(position)(image, ids, jnp.ones_like(batch["token_mask"]))
    cache = jax.jit(model.start_captions, static_argnums=1)(image, tiny.LENGTH)
    read = jax.jit(model.continue_captions)
    for place in range(tiny.LENGTH):
        found, cache = read(ids[:, place : place + 1], place, cache)
        np.testing.assert_allclose(found, expected[:, place], atol=1e-5)
    assert np.abs(expected).max() > 0.5
    # With a mask token behind each word, which is forgotten when the next one comes.
    cache = jax.jit(model.start_captions, static_argnums=1)(image, tiny.LENGTH)
    for place in range(tiny.LENGTH - 1):
        pair = jnp.stack([ids[:, place], jnp.full(ROWS, MASK)], axis=1)
        found, cache = read(pair, place, cache)
        hidden = ids.at[:, place + 1].set(MASK)
        every = logits_of(position)(image, hidden, jnp.ones_like(batch["token_mask"]))
        np.testing.assert_allclose(found, every[:, place + 1], atol=1e-5)


def plain_search(log_probs_of, beams, length, penalty):
    """Beam search for one image in plain Python, as BEiT-3's official one, without a cache."""
    live, best, best_score = [((BEGIN,), 0.0)], None, -np.inf
    for place in range(1, length):
        found = []
        for words, total in live:
            log_probs = np.array(log_probs_of(words), np.float64)
            log_probs[list(TOKENS.unused)] = -np.inf
            found += [((*words, word), total + log_probs[word]) for word in range(tiny.VOCAB)]
        if place == length - 1:
            found = [(words, total) for words, total in found if words[-1] == END]
        found.sort(key=lambda one: -one[1])
        live = []
        for words, total in itertools.islice(found, 3 * beams):
            if words[-1] != END:
                live.append((words, total))
            elif total / len(words) ** penalty > best_score:
                best, best_score = words, total / len(words) ** penalty
            if len(live) == beams:
                break
        if best is not None and (
            beams == 1 or not live or best_score >= live[0][1] / length**penalty
        ):
            break
    return best, best_score


@pytest.mark.parametrize(
    "position, training, beams, penalty",
    [
        ("relative", MASKED, 3, 0.6),
        ("relative", NEXT_TOKEN, 1, 0.6),
        ("absolute", NEXT_TOKEN, 2, 2.0),
    ],
)
def test_search_equals_a_plain_one_without_a_cache(
    position, training, beams, penalty, batch, image
):
    fields = POSITION_FIELDS[position]
    values = tiny.params(**fields)
    # The end is likely enough that captions have several lengths.
    values["mlm_head"]["decoder"]["bias"][END] += 3.5
    write = make_captioner(
        tiny.graphdef(**fields),
        mean=MEAN,
        std=STD,
        tokens=TOKENS,
        training=training,
        beams=beams,
        length=tiny.LENGTH,
        length_penalty=penalty,
    )
    model = tiny.model(values, **fields)
    uncached = jax.jit(lambda image, ids, mask: model.caption_logits(image, ids, mask))
    written = write(values, {"image": batch["image"]})
    lengths = set()
    for row in range(ROWS):

        def log_probs_of(words, row=row):
            place = len(words) - (training == NEXT_TOKEN)
            ids = np.full((1, tiny.LENGTH), PAD, np.int32)
            shown = (*words, MASK) if training == MASKED else words
            ids[0, : len(shown)] = shown
            mask = np.arange(tiny.LENGTH)[None] < len(shown)
            return jax.nn.log_softmax(uncached(image[row : row + 1], ids, mask)[0, place])

        words, score = plain_search(log_probs_of, beams, tiny.LENGTH, penalty)
        lengths.add(len(words))
        expected = [*words, *[PAD] * (tiny.LENGTH - len(words))]
        np.testing.assert_array_equal(written.token_ids[row], expected)
        np.testing.assert_allclose(written.score[row], score, rtol=1e-5)
    assert beams > 1 or len(lengths) > 1


@pytest.mark.parametrize("training", [MASKED, NEXT_TOKEN])
def test_sums_over_counts_are_means(training, batch):
    """Of a batch whose worst tokens are left out after some steps."""
    task = CaptionTask(TOKENS, tiny.VOCAB, training, drop_worst=0.5, drop_worst_after=2)
    model, extra = captioner("relative"), task.initial_extra({})

    @jax.jit
    def mean_loss(extra):
        prepared = task.prepare(batch, {}, extra, {})
        sums = task.sums(model, prepared.batch, (), jax.random.key(0))
        counts = task.counts(prepared.batch)
        return sums["caption_loss"] / counts["caption_loss"], prepared.extra

    losses = []
    for _ in range(3):
        loss, extra = mean_loss(extra)
        losses.append(float(loss))
    assert int(extra["steps"]) == 3
    assert losses[0] == losses[1] and 0 < losses[2] < 0.8 * losses[0]
