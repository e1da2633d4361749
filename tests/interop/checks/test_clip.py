"""CLIP and its byte pairs: the reference holds, and what is changed is noticed."""

import numpy as np
import pytest

from tests.interop.checks.changes import changed_at, failures, moved
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

ARRAYS, INFO = load_fixture(DATA / "siblings" / "clip.json")
_, BPE = load_fixture(DATA / "downstream" / "clip_bpe.json")


def test_all_of_clip_holds():
    assert failures(ARRAYS, INFO) == set()


@pytest.mark.parametrize(
    "name",
    [
        "logits_per_image",
        "loss",
        "vision_last_hidden",
        "text_pooled",
        "openai/text_features",
        "alt_exact_gelu/image_embeds",
        "grad/logit_scale",
        "grad/vision_model.pre_layrnorm.bias",
    ],
)
def test_a_moved_output_is_noticed(name):
    assert failures(ARRAYS, INFO, {name: moved(ARRAYS[name])}) == {name}


def test_moved_weights_and_inputs_are_noticed():
    for name, shown in (
        ("param/visual_projection.weight", "image_embeds"),
        ("param/text_model.encoder.layers.2.self_attn.k_proj.weight", "text_embeds"),
        ("pixel_values", "vision_pooled"),
    ):
        assert shown in failures(ARRAYS, INFO, {name: moved(ARRAYS[name])})
    ids = np.array(ARRAYS["input_ids"])
    ids[0, 1] += 1
    assert "text_last_hidden" in failures(ARRAYS, INFO, {"input_ids": ids})


def test_another_activation_or_epsilon_shows():
    changed = changed_at(INFO, "config", "vision", "hidden_act", value="gelu")
    assert "image_embeds" in failures(ARRAYS, changed)
    changed = changed_at(INFO, "config", "vision", "layer_norm_eps", value=1e-3)
    assert "image_embeds" in failures(ARRAYS, changed)


def test_other_sizes_and_names_are_refused():
    with pytest.raises(ValueError, match="the JSON says {'image_size': 64}"):
        failures(ARRAYS, changed_at(INFO, "config", "vision", "image_size", value=64))
    with pytest.raises(ValueError, match="'more' is not known|more is not known"):
        failures(ARRAYS, INFO, {"more": np.zeros(2)})


def test_all_byte_pairs_hold_and_changes_are_noticed():
    assert failures({}, BPE) == set()
    differs = next(n for n, row in enumerate(BPE["rows"]) if row[0] == "DON'T")
    changes = {
        f"rows/{differs}": (("rows", differs, 2, 1), 848),
        "rows/3": (("rows", 3, 1), 4),
        "short/0": (("short", 0, 1), 15),
        "openai_differs/0": (("openai_differs", 0, 1, 0), 1),
        "ftfy_changes": (("ftfy_changes", 0), "dogs"),
        "merges_file": (("merges_file", "bytes"), 1),
        "rows_cut": (("sensitivity_rows_changed", "rows_cut"), 4),
    }
    changed = BPE
    for path, value in changes.values():
        changed = changed_at(changed, *path, value=value)
    assert failures({}, changed) == set(changes)
