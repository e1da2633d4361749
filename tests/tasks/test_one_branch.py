"""Stage 3 with one contrastive branch: the other is neither learned from nor counted."""

import jax
import jax.numpy as jnp
import numpy as np

from tests import tiny
from vlmo_jax.models.flops import block_flops
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.pair_pretrain import Features, OneBranchPretrainTask, PairPretrainTask

HEADS = ("retrieval", "itm", "mlm")


def test_the_loss_is_that_of_the_first_branch():
    model, task = tiny.model(tiny.params(heads=HEADS), heads=HEADS), OneBranchPretrainTask()
    batch = jax.tree.map(jnp.asarray, tiny.make_batch())
    features = task.features(model, batch, None)
    one, negatives, _ = task.contrast(features, batch, None, jax.random.key(0))
    image, text, scale = features
    doubled = Features(image, text, image, text, scale, scale)
    both, same, _ = PairPretrainTask().contrast(doubled, batch, None, jax.random.key(0))
    np.testing.assert_allclose(one, both, rtol=1e-6)
    jax.tree.map(np.testing.assert_array_equal, negatives, same)


def test_the_recipe_counts_one_pass_through_the_upper_blocks_less():
    both = tiny.config()
    one = tiny.config(model={"heads": HEADS})
    one.task.kind = "one_branch_pretrain"
    recipe = Recipe(one)
    recipe.check(1)
    model = one.model
    upper = model.num_upper * sum(
        block_flops(length, model.width, model.mlp_dim)
        for length in (1 + (model.image_size // model.patch_size) ** 2, model.text_length)
    )
    assert Recipe(both).task.forward_flops() - recipe.task.forward_flops() == upper
