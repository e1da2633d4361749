"""The PyTorch step that ours is compared with: the same model and the same losses at the start."""

import numpy as np
import pytest

from tests import tiny
from vlmo_jax.models.build import abstract_model, count_params
from vlmo_jax.recipes import Recipe

torch = pytest.importorskip("torch", reason="torch is not installed (extra `convert`)")


ABSOLUTE = dict(position="absolute", layer_scale=0.0, text_positions=tiny.LENGTH)


@pytest.mark.parametrize("fields", [dict(), ABSOLUTE], ids=["relative", "absolute"])
def test_it_is_the_same_model(fields):
    from vlmo_jax.bench.peer import Vlmo, torch_batch

    config = tiny.config(model=fields)
    torch.manual_seed(0)
    model = Vlmo(config.model)
    ours = count_params(abstract_model(Recipe(config).make_model)[1])
    assert sum(parameter.numel() for parameter in model.parameters()) == ours
    batch = torch_batch(tiny.make_batch())
    for scale in (model.logit_scale, model.logit_scale_vl):
        scale.data.zero_()  # at a scale of 1, random features are far from any decision
    losses = model(batch)
    expected = (np.log(tiny.BATCH), np.log(2), np.log(tiny.VOCAB))
    for loss, value in zip(losses, expected, strict=True):
        assert abs(loss.item() - value) < 0.3 * value
    sum(losses).backward()
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_masked_places_become_labels():
    from vlmo_jax.bench.peer import IGNORED_LABEL, torch_batch

    batch = tiny.make_batch()
    labels = torch_batch(batch)["mlm_labels"].numpy()
    assert (labels != IGNORED_LABEL).sum() == (batch["mlm_labels"] >= 0).sum()
    masked = labels != IGNORED_LABEL
    np.testing.assert_array_equal(labels[masked], batch["token_ids"][masked])
