"""A classifier starts from VLMo's or BEiT's image encoder: the same states, nothing of texts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tests.checkpoints.warm_start import models
from vlmo_jax.layers.relative_position import image_index
from vlmo_jax.models.build import abstract_model

SIZES = dict(image_size=24, layer_scale=0.1)


def image_states(stage, params, image):
    """The states of images after the last block of a model, before any norm."""
    model = nnx.merge(abstract_model(models.make_model(stage, **SIZES))[0], params)
    if stage == "classify":
        [states] = model.block_states(image, [model.transformer.depth - 1])
        return states
    x = model.embed_image(image) if stage == "stage3" else model.image_embedding(image)
    spans, index = (("image", x.shape[1]),), image_index(model.grid)
    [states] = model.transformer.block_states(x, spans, "image", [2], index=index)
    return states


@pytest.mark.parametrize("stage", ["stage1", "stage3"])
def test_the_states_of_images_are_those_of_the_checkpoint(tmp_path, stage):
    saved = jax.tree.map(lambda x: 0.3 * x, models.random_params(stage, **SIZES))
    models.save(tmp_path / "run", saved, SIZES)
    seeded = models.drawn("classify", seed=2, **SIZES)
    params, report = models.start(tmp_path / "run", "classify", seeded, **SIZES)
    image = jnp.asarray(np.random.default_rng(0).normal(size=(2, 24, 24, 3)), jnp.float32)
    with jax.default_matmul_precision("highest"):
        ours = jax.jit(lambda: image_states("classify", params, image))()
        theirs = jax.jit(lambda: image_states(stage, saved, image))()
    np.testing.assert_allclose(ours, theirs, atol=2e-5 * float(np.abs(theirs).max()))
    assert set(report.fresh) == {"head/kernel", "head/bias", "pool_norm/scale", "pool_norm/bias"}
    changes = dict(report.resampled)
    if stage == "stage3":
        assert changes["image_embedding/class_token"] == "with modality_type added"
        assert changes["transformer/relative_position_bias"] == "image rows alone"
    else:
        assert changes == {}
    assert not [name for name in models.by_name(params) if "text" in name]


def test_another_image_size_and_no_place_for_types(tmp_path):
    saved = models.random_params("stage3", **SIZES)
    models.save(tmp_path / "run", saved, SIZES)
    larger = {**SIZES, "image_size": 32}
    params, report = models.start(
        tmp_path / "run", "classify", models.drawn("classify", **larger), **larger
    )
    changes = dict(report.resampled)
    assert (
        changes["transformer/relative_position_bias"] == "3 x 3 to 4 x 4 patches, image rows alone"
    )
    assert params["transformer"]["relative_position_bias"].shape[1] == 7 * 7 + 3
    for rule, message in (
        (("modality_type", "add", "head/kernel"), r"cannot be added to 'head/kernel'"),
        (("modality_type", "add", "nothing"), r"cannot be added to 'nothing'"),
        (("modality_type", "add"), r"is not a rule; write .*\"add\""),
        (("modality_type", "add", "("), r"init_rules\[0\]"),
    ):
        with pytest.raises(ValueError, match=message):
            models.start(
                tmp_path / "run",
                "classify",
                rules=(rule, *models.common.WARM_STARTS["classify"]["init_rules"]),
                **SIZES,
            )
