"""Parameters counted from fields are those that a model has."""

import pytest

from tests import tiny
from vlmo_jax.models.build import MODELS, abstract_params, count_params, model_maker


@pytest.mark.parametrize(
    "recipe",
    [
        *(
            f"{stage}:{size}"
            for stage in ("stage1", "stage2", "stage3")
            for size in ("tiny", "large")
        ),
        "stage1:base_plus",
        "stage3:base_plus",
        "stage3:base,384",
        "finetune_classify:tiny",
        "finetune_classify:large_22k",
        "finetune_classify:base_plus",
        "visual_tokenizer:tiny",
        "visual_tokenizer:dalle",
    ],
)
def test_counts_are_exact(recipe):
    model = tiny.parse(recipe).model
    assert MODELS[model.kind].num_params(model) == count_params(abstract_params(model_maker(model)))


@pytest.mark.parametrize("heads", [("retrieval",), ("vqa",), ("nlvr2", "mlm")])
def test_counts_of_other_heads(heads):
    model = {**tiny.config().model.to_dict(), "heads": heads, "num_answers": 7}
    assert MODELS["vlmo"].num_params(model) == count_params(abstract_params(model_maker(model)))
