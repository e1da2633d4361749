"""A segmenter starts from VLMo's, BEiT's or a classifier's image encoder: nothing of texts."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.checkpoints.warm_start import models
from vlmo_jax.models.build import abstract_model

SIZES = dict(image_size=24, layer_scale=0.1)


@pytest.mark.parametrize("stage", ["stage1", "stage3", "classify"])
def test_the_states_of_images_are_those_of_a_classifier(tmp_path, stage):
    saved = jax.tree.map(lambda x: 0.3 * x, models.random_params(stage, **SIZES))
    models.save(tmp_path / "run", saved, SIZES)
    started = {}
    for task in ("segment", "classify") if stage != "classify" else ("segment",):
        seeded = models.drawn(task, seed=2, **SIZES)
        started[task] = models.start(tmp_path / "run", task, seeded, **SIZES)
    params, report = started["segment"]
    assert {name.partition("/")[0] for name in report.fresh} == {
        "scales",
        "head",
        "auxiliary_head",
    }
    wanted = started["classify"][0] if "classify" in started else saved
    for part in ("image_embedding", "transformer"):
        jax.tree.map(np.testing.assert_array_equal, params[part], wanted[part])
    assert not [name for name in models.by_name(params) if "text" in name]
    model = nnx.merge(abstract_model(models.make_model("segment", **SIZES))[0], params)
    assert model.blocks == (0, 0, 1, 2)
