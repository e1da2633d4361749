import numpy as np
import pytest

from vlmo_jax.evals import rerank

NUM_IMAGES, NUM_TEXTS, BATCH = 13, 20, 4


def image_blocks(host_index, host_count):
    """Batches like those of `image_batches`, image n a single pixel of brightness n."""
    local = BATCH // host_count
    for start in range(0, NUM_IMAGES, BATCH):
        index = start + host_index * local + np.arange(local)
        valid = index < NUM_IMAGES
        yield {
            "image": (index * valid).astype(np.uint8).reshape(-1, 1, 1, 1),
            "index": index * valid,
            "valid": valid,
        }


@pytest.mark.parametrize("host_count", [1, 2, 4])
def test_each_pair_is_matched_once_and_all_hosts_keep_step(host_count):
    rng = np.random.default_rng(0)
    pairs = set(
        zip(rng.integers(0, NUM_IMAGES, 60).tolist(), rng.integers(0, NUM_TEXTS, 60).tolist())
    )
    pairs -= {pair for pair in pairs if pair[0] in (4, 5, 6, 7)}  # a block without pairs
    rows = np.array(sorted(pairs) * 2)
    plan = rerank.PairPlan(
        rows[:, 0],
        rows[:, 1],
        num_images=NUM_IMAGES,
        num_texts=NUM_TEXTS,
        batch_size=BATCH,
        host_count=host_count,
    )
    assert len(plan) == len(pairs)
    tokens = {
        "token_ids": np.arange(NUM_TEXTS)[:, None],
        "token_mask": np.ones((NUM_TEXTS, 1), bool),
    }
    hosts = [
        list(plan.batches(image_blocks(host, host_count), tokens, host))
        for host in range(host_count)
    ]
    assert {len(batches) for batches in hosts} == {int(plan.batches_of_block.sum())}
    found = []
    for batch in (batch for batches in hosts for batch in batches):
        assert batch["image"].shape == (BATCH // host_count, 1, 1, 1) and batch["valid"].shape == (
            BATCH // host_count,
        )
        for image, text, place in zip(
            batch["image"][batch["valid"]],
            batch["token_ids"][batch["valid"]],
            batch["index"][batch["valid"]],
        ):
            pair = (int(image.item()), int(text.item()))
            assert place == plan.places(*pair)
            found.append(pair)
    assert sorted(found) == sorted(pairs)
