"""Warm starts of one model from another: every value from where the rules say, in the shards that
were asked for.
"""

import logging

import jax
import numpy as np
import pytest

from tests.checkpoints.warm_start import models
from vlmo_jax.layers import resample

TEXT, VL = "transformer/blocks/experts/text/", "transformer/blocks/experts/vision_language/"


@pytest.fixture(scope="module")
def stage2(tmp_path_factory):
    params = models.random_params("stage2")
    return models.save(tmp_path_factory.mktemp("stage2"), params, {}), models.by_name(params)


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    params = models.random_params("stage3")
    return models.save(tmp_path_factory.mktemp("stage3"), params, {}), params


def assert_laid_out(params, abstract):
    same = jax.tree.map(
        lambda x, leaf: (
            x.sharding.is_equivalent_to(leaf.sharding, x.ndim) and x.dtype == leaf.dtype
        ),
        params,
        abstract,
    )
    assert all(jax.tree.leaves(same))


def assert_same(value, expected, name=""):
    np.testing.assert_array_equal(value, expected, err_msg=name)


@pytest.mark.parametrize("mesh_shape", [(1, 1, 1), (2, 2, 2)])
def test_the_same_model_is_taken_bit_for_bit(stage3, mesh_shape):
    params, report = models.start(stage3[0], "stage3", mesh_shape=mesh_shape)
    assert_laid_out(params, models.abstract("stage3", mesh_shape))
    jax.tree.map(assert_same, jax.device_get(params), stage3[1])
    assert (
        len(report.matched) == len(models.by_name(stage3[1]))
        and not report.resampled + report.fresh + report.unused
    )


@pytest.mark.parametrize("mesh_shape", [(1, 1, 1), (2, 2, 2)])
def test_stage_3_starts_from_stage_2(stage2, mesh_shape):
    params, report = models.start(
        stage2[0], "stage3", models.drawn("stage3"), mesh_shape=mesh_shape
    )
    assert_laid_out(params, models.abstract("stage3", mesh_shape))
    values, own = models.by_name(params), models.by_name(models.random_params("stage3", seed=1))
    assert {name for name in values if name.startswith(VL)} <= set(report.fresh)
    assert set(report.matched) == set(stage2[1]) and set(report.fresh) == set(values) - set(
        stage2[1]
    )
    for name, value in values.items():
        if name in stage2[1]:
            assert_same(value, stage2[1][name], name)
        else:
            assert_same(value, own[name], name)


def test_what_the_seed_fills_is_what_a_run_without_checkpoint_has(stage2):
    initialise = models.seeded("stage3")

    def some_of_it():  # the whole takes seconds to compile
        params = initialise()
        return {
            "pooler": params["pooler"],
            "transformer": {"upper": {"experts": params["transformer"]["upper"]["experts"]}},
        }

    expected = models.by_name(jax.jit(some_of_it)())
    params, report = models.start(stage2[0], "stage3", initialise, mesh_shape=(2, 2, 2))
    values = models.by_name(params)
    compared = set(report.fresh) & set(expected)
    assert len(compared) == 8
    for name in compared:
        assert_same(values[name], expected[name], name)
    assert 0.015 < values[VL + "up/kernel"].std() < 0.02


def test_blocks_may_be_split_elsewhere(stage2):
    params, report = models.start(stage2[0], "stage2", num_upper=2)
    assert not report.fresh
    for name, value in models.by_name(params).items():
        assert_same(value, stage2[1][name], name)
    params, _ = models.start(stage2[0], "stage3", models.drawn("stage3", num_upper=2), num_upper=2)
    values = models.by_name(params)
    assert_same(values[TEXT + "down/kernel"], stage2[1][TEXT + "down/kernel"])
    assert len(values[VL + "down/kernel"]) == 2


@pytest.mark.parametrize("mesh_shape", [(1, 1, 1), (2, 2, 2)])
def test_image_and_text_lengths_change_at_once(stage2, mesh_shape):
    sizes = dict(image_size=32, text_length=6, text_positions=9)
    params, report = models.start(
        stage2[0], "stage3", models.drawn("stage3", **sizes), mesh_shape=mesh_shape, **sizes
    )
    name = "transformer/relative_position_bias"
    expected = resample.resample_relative_table(
        stage2[1][name], grid=2, new_grid=4, text_positions=12, new_text_positions=9
    )
    assert_same(models.by_name(params)[name], expected)
    assert report.resampled == ((name, "2 x 2 to 4 x 4 patches, texts of 12 to 9 tokens"),)
    assert_laid_out(params, models.abstract("stage3", mesh_shape, **sizes))


def test_absolute_positions(tmp_path):
    model = dict(position="absolute", layer_scale=None)
    saved = models.random_params("stage2", **model)
    workdir, values = models.save(tmp_path, saved, model), models.by_name(saved)
    image, text = "image_embedding/position", "text_embedding/position"
    sizes = dict(**model, image_size=40, text_length=5)
    params, report = models.start(workdir, "stage3", models.drawn("stage3", **sizes), **sizes)
    named = models.by_name(params)
    assert_same(named[image], resample.resample_image_positions(values[image], grid=2, new_grid=5))
    assert_same(named[text], values[text][:5])
    assert dict(report.resampled) == {
        image: "2 x 2 to 5 x 5 patches",
        text: "the first 5 of 8 rows",
    }

    longer = dict(**model, text_length=11)
    recipe = models.common.WARM_STARTS["stage3"]
    with pytest.raises(
        ValueError,
        match=r"not filled by the checkpoint \(1\): text_embedding/\{position/new_rows\}",
    ):
        models.start(workdir, "stage3", **longer)
    fresh = (*recipe["init_fresh"], "text_embedding/position/new_rows")
    params, report = models.start(
        workdir, "stage3", models.drawn("stage3", **longer), fresh=fresh, **longer
    )
    own = models.by_name(models.random_params("stage3", seed=1, **longer))[text]
    assert_same(models.by_name(params)[text], np.concatenate([values[text], own[8:]]))
    assert "text_embedding/position/new_rows" in report.fresh


@pytest.mark.parametrize(
    "stage, unused, fresh",
    [
        ("retrieval", {"pooler", "itc_vl", "itm_head", "mlm_head"}, set()),
        ("vqa", {"itc", "itc_vl", "itm_head", "mlm_head"}, {"vqa_head"}),
        ("nlvr2", {"itc", "itc_vl", "itm_head", "mlm_head"}, {"nlvr2_head"}),
    ],
)
def test_fine_tuning_starts_from_stage_3(stage3, stage, unused, fresh):
    initialise = models.drawn(stage) if fresh else models.never
    params, report = models.start(stage3[0], stage, initialise)
    assert {name.split("/")[0] for name in report.unused} == unused and {
        name.split("/")[0] for name in report.fresh
    } == fresh
    values, saved = models.by_name(params), models.by_name(stage3[1])
    for name in set(values) & set(saved) - {"modality_type"}:
        assert_same(values[name], saved[name], name)
    types = saved["modality_type"]
    assert_same(values["modality_type"], types[[0, 1, 1]] if stage == "nlvr2" else types)


def test_statements_are_learned_after_questions(tmp_path):
    params = models.random_params("vqa")
    questions = models.save(tmp_path, params, {})
    found, report = models.start(questions, "nlvr2", models.drawn("nlvr2"))
    assert {name.split("/")[0] for name in report.unused} == {"vqa_head"}
    assert {name.split("/")[0] for name in report.fresh} == {"nlvr2_head"}
    values, saved = models.by_name(found), models.by_name(params)
    for name in set(values) & set(saved) - {"modality_type"}:
        assert_same(values[name], saved[name], name)


def test_rules_rename_by_groups(stage3):
    rules = [
        (r"itc/(image|text)/(.*)", "copy", r"itc_vl/\1/\2"),
        (r"itc_vl/(.*)/(?P<leaf>.*)", "copy", r"itc/\1/\g<leaf>"),
        (".*", "copy"),
    ]
    params, _ = models.start(stage3[0], "stage3", rules=rules)
    values, saved = models.by_name(params), models.by_name(stage3[1])
    assert_same(values["itc/image/kernel"], saved["itc_vl/image/kernel"])
    assert_same(values["itc_vl/text/kernel"], saved["itc/text/kernel"])
    assert_same(values["itc/logit_scale"], saved["itc/logit_scale"])


def test_an_expert_may_become_another(stage2):
    rules = [
        (f"{TEXT}(.*)", "skip"),
        (r"transformer/blocks/experts/image/(.*)", "copy", TEXT + r"\1"),
        (".*", "copy"),
    ]
    fresh = [r"transformer/blocks/experts/image/.*"]
    params, report = models.start(
        stage2[0], "stage2", models.drawn("stage2"), rules=rules, fresh=fresh, mesh_shape=(2, 2, 2)
    )
    values, own = models.by_name(params), models.by_name(models.random_params("stage2", seed=1))
    for name in report.fresh:
        assert_same(values[name], own[name], name)
        assert_same(values[name.replace("image", "text")], stage2[1][name])


def test_the_report_says_what_happened(stage3, caplog):
    with caplog.at_level(logging.INFO):
        _, report = models.start(
            stage3[0], "nlvr2", models.drawn("nlvr2", image_size=24), image_size=24
        )
    lines = report.summary()
    assert lines[0] == f"Warm start from {stage3[0]}/checkpoints/5"
    assert lines[1].startswith(
        "  38 parameters as they were: image_embedding (3), pooler (2), text_embedding (4),"
        " transformer/blocks/"
    )
    assert (
        lines[2] == "  2 resampled: modality_type (a second image starts as the first), "
        "transformer/relative_position_bias (2 x 2 to 3 x 3 patches)"
    )
    assert lines[3:] == [
        "  6 fresh from the seed: nlvr2_head (6)",
        "  14 of the checkpoint left out: itc (3), itc_vl (3), itm_head (2), mlm_head (6)",
    ]
    for line in (
        "fresh nlvr2_head/out/bias",
        "unused itc/logit_scale",
        "matched pooler/dense/bias",
        "resampled modality_type: a second",
    ):
        assert any(line in message for message in caplog.messages), line
    _, report = models.start(
        stage3[0], "stage3", rules=[("itx/.*", "skip"), (".*", "copy")], fresh=["pooler/.*"]
    )
    assert report.summary()[-1] == "  patterns that match nothing: itx/.*, pooler/.*"
