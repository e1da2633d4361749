"""What holds for every recipe: it builds at full size, is split over the devices, and refuses sizes
that it does not have.
"""

import importlib
import math
import subprocess
import sys

import jax
import pytest

from tests.paths import ROOT
from tests.recipes.full_size import build

STAGES, SIZES = ("stage1", "stage2", "stage3"), ("tiny", "base", "base_plus", "large", "base,384")
CLIP = ("clip:tiny", "clip:b32", "clip:l14_336")
FINE_TUNING = ("finetune_retrieval", "finetune_vqa", "finetune_nlvr2")
LOSSES = {
    "visual_tokenizer": {"loss", "reconstruction_loss", "usage_loss", "certainty_loss"},
    "stage1": {"loss", "mim_loss"},
    "stage2": {"loss", "mlm_loss"},
    "stage3": {"loss", "itc_loss", "itm_loss", "mlm_loss"},
    "late_fusion": {"loss", "itc_loss", "match_loss"},
    "clip": {"loss", "itc_loss"},
    "finetune_classify": {"loss", "class_loss"},
    "finetune_retrieval": {"loss", "itc_loss"},
    "finetune_vqa": {"loss", "vqa_loss"},
    "finetune_nlvr2": {"loss", "nlvr2_loss"},
    "finetune_segment": {"loss", "segmentation_loss", "auxiliary_loss"},
    "finetune_caption": {"loss", "caption_loss"},
}
KNOWN = {
    "visual_tokenizer": "tiny, dalle",
    "late_fusion": "tiny",
    "finetune_classify": "tiny, tiny_subgroup, base, base_plus, large, base_22k, large_22k",
    "clip": "tiny, b32, b16, l14, l14_336",
    "finetune_segment": "tiny, base, base_22k, large, large_22k",
    "finetune_caption": "tiny, base, large",
    **dict.fromkeys((*STAGES, *FINE_TUNING), "tiny, .*base, base_plus, large"),
}


@pytest.mark.parametrize(
    "name",
    [
        "visual_tokenizer:tiny",
        "visual_tokenizer:dalle",
        "stage3:tiny_long",
        "late_fusion:tiny",
        *CLIP,
        *(f"{stage}:{size}" for stage in STAGES for size in SIZES),
        "finetune_classify:tiny",
        "finetune_classify:large_22k,384",
        "finetune_retrieval:tiny",
        "finetune_segment:base,384",
        "finetune_retrieval:base,coco,384",
        "finetune_retrieval:large,flickr30k,384",
        *(
            f"finetune_{task}:{size}"
            for task in ("vqa", "nlvr2", "caption")
            for size in ("tiny", "base,384")
        ),
    ],
)
def test_builds_at_full_size(name):
    kind, _, size = name.partition(":")
    recipe, program, state, metrics = build(name)
    assert {metric for metric in metrics if metric.endswith("loss")} == LOSSES[kind]
    assert all(value.shape == () for value in metrics.values())
    shapes = lambda tree: jax.tree.map(lambda x: (x.shape, x.dtype), tree)
    assert shapes(state) == shapes(program.abstract_state)
    # Parameters and both moments are split over fsdp and, but for the tokenizer's, over tensor.
    leaves = jax.tree.leaves((program.abstract_state.params, program.abstract_state.opt_state))
    held = sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in leaves)
    bound = 0.51 if kind == "visual_tokenizer" else 0.4 if size.startswith("tiny") else 0.32
    assert held / sum(math.prod(leaf.shape) for leaf in leaves) < bound
    if kind != "visual_tokenizer":
        wanted = next((int(n) for n in ("384", "336") if size.endswith(n)), 224)
        wanted = 64 if size.startswith("tiny") else wanted
        assert recipe.config.model.image_size == wanted


@pytest.mark.parametrize("kind", LOSSES)
def test_unknown_sizes_are_refused(kind):
    get_config = importlib.import_module(f"configs.{kind}").get_config
    with pytest.raises(
        ValueError,
        match=f"configs/{kind}.py:huge: size 'huge' is unknown; use one of {KNOWN[kind]}",
    ):
        get_config("huge")


@pytest.mark.parametrize("stage", STAGES)
def test_image_sizes_are_numbers(stage):
    get_config = importlib.import_module(f"configs.{stage}").get_config
    with pytest.raises(
        ValueError, match=f"configs/{stage}.py:base,big: image size 'big' is not a number of pixels"
    ):
        get_config("base,big")


def test_recipes_need_no_jax():
    code = "\n".join(
        [
            "import sys",
            *(f"import configs.{kind} as recipe; recipe.get_config()" for kind in LOSSES),
            "sys.exit('jax' in sys.modules)",
        ]
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
