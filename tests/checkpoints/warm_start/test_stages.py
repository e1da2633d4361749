"""The handovers of the chain, stage 1 -> 2 -> 3 -> fine-tuning, by the recipes' own rules."""

import json

import jax
import numpy as np
import pytest
from flax import nnx

from tests.checkpoints.warm_start import models
from tests.official_textmlm import model_fields, places_of
from tests.paths import DATA
from vlmo_jax.interop.beit import from_beit
from vlmo_jax.interop.places import fill_places
from vlmo_jax.layers import resample

FIXTURE = DATA / "vlmo" / "tiny_base_textmlm.npz"
TABLE = "transformer/relative_position_bias"
EXPERTS = {
    name: f"transformer/blocks/experts/{name}/up/kernel"
    for name in ("image", "text", "vision_language")
}


def test_the_whole_chain_on_a_mesh(tmp_path):
    """Each stage at another size; what a stage brings is found at the end, changed by nothing but
    its resampling.
    """
    stages = {
        "stage1": dict(image_size=24),
        "stage2": dict(image_size=24, text_length=10, text_positions=10),
        "stage3": dict(image_size=24, text_length=6, text_positions=10),
        "vqa": dict(image_size=32, text_length=6, text_positions=7),
    }
    brought, workdir = {}, None
    for number, (stage, sizes) in enumerate(stages.items()):
        if workdir is None:
            params = models.random_params(stage, **sizes)
        else:
            params, _ = models.start(
                workdir,
                stage,
                models.drawn(stage, seed=number, **sizes),
                mesh_shape=(2, 2, 2),
                **sizes,
            )
            params = jax.device_get(params)
        workdir = models.save(tmp_path / stage, params, sizes)
        brought[stage] = models.by_name(params)
    first, second, third, last = brought.values()

    assert {"mim_head/kernel", "image_embedding/mask_token"} <= set(first) - set(second)
    for name in set(first) & set(last) - {TABLE}:
        np.testing.assert_array_equal(last[name], first[name], err_msg=name)
    own = [
        models.by_name(models.random_params(stage, seed=number, **sizes))
        for number, (stage, sizes) in enumerate(stages.items())
    ]
    np.testing.assert_array_equal(last[EXPERTS["image"]], first[EXPERTS["image"]])
    for name in (EXPERTS["text"], "text_embedding/word", "modality_type"):
        np.testing.assert_array_equal(last[name], own[1][name])
    for name in (EXPERTS["vision_language"], "pooler/dense/kernel"):
        np.testing.assert_array_equal(last[name], own[2][name])
    np.testing.assert_array_equal(last["vqa_head/dense/kernel"], own[3]["vqa_head/dense/kernel"])

    rows = first[TABLE].shape[1]
    np.testing.assert_array_equal(
        second[TABLE], np.concatenate([first[TABLE], own[1][TABLE][:, rows:]], axis=1)
    )
    np.testing.assert_array_equal(third[TABLE], second[TABLE])
    both = resample.resample_relative_table(
        third[TABLE], grid=3, new_grid=4, text_positions=10, new_text_positions=7
    )
    np.testing.assert_array_equal(last[TABLE], both)


@pytest.mark.parametrize("image_size", [16, 32])
def test_one_table_becomes_that_of_all_layers(tmp_path, image_size):
    shared = dict(shared_table=True)
    saved = models.random_params("stage1", **shared)
    workdir = models.save(tmp_path, saved, shared)
    sizes = dict(image_size=image_size)
    params, report = models.start(workdir, "stage2", models.drawn("stage2", **sizes), **sizes)
    grid = image_size // 8
    image = resample.resample_image_rows(models.by_name(saved)[TABLE], grid=2, new_grid=grid)
    table, own = (
        models.by_name(params)[TABLE],
        models.random_params("stage2", seed=1, **sizes)["transformer"]["relative_position_bias"],
    )
    rows = image.shape[1]
    np.testing.assert_array_equal(table[:, :rows], np.broadcast_to(image, (3, rows, 2)))
    np.testing.assert_array_equal(table[:, rows:], own[:, rows:])
    change = "2 x 2 to 4 x 4 patches, " if grid == 4 else ""
    assert dict(report.resampled)[TABLE] == f"{change}one table for 3 layers, image rows alone"
    assert f"{TABLE}/text_rows" in report.fresh


def test_absolute_positions_of_stage_1(tmp_path):
    absolute = dict(position="absolute")
    workdir = models.save(tmp_path, models.random_params("stage1", **absolute), absolute)
    sizes = dict(image_size=24, **absolute)
    params, report = models.start(workdir, "stage2", models.drawn("stage2", **sizes), **sizes)
    assert (
        report.resampled == (("image_embedding/position", "2 x 2 to 3 x 3 patches"),)
        and "text_embedding/position" in report.fresh
    )


@pytest.mark.parametrize("shared", [False, True])
def test_stage_1_goes_on_at_another_size(tmp_path, shared):
    saved = models.random_params("stage1", shared_table=shared)
    workdir, sizes = models.save(tmp_path, saved, {}), dict(image_size=32, shared_table=shared)
    params, report = models.start(workdir, "stage1", mesh_shape=(2, 2, 2), **sizes)
    values, old = models.by_name(params), models.by_name(saved)
    np.testing.assert_array_equal(
        values[TABLE], resample.resample_image_rows(old[TABLE], grid=2, new_grid=4)
    )
    np.testing.assert_array_equal(values["mim_head/kernel"], old["mim_head/kernel"])
    assert (
        report.resampled == ((TABLE, "2 x 2 to 4 x 4 patches"),)
        and not report.fresh + report.unused
    )


@pytest.mark.parametrize(
    "position, words",
    [
        (
            "absolute",
            r"in the checkpoint, neither used nor skipped \(1\): image_embedding/\{position\}.*"
            r"not filled by the checkpoint \(1\): transformer/relative_position_bias",
        ),
        (
            "both",
            r"in the checkpoint, neither used nor skipped \(1\): image_embedding/\{position\}",
        ),
    ],
)
def test_other_positions_are_refused(tmp_path, position, words):
    workdir = models.save(
        tmp_path, models.random_params("stage1", position=position), dict(position=position)
    )
    with pytest.raises(ValueError, match=f"(?s){words}"):
        models.start(workdir, "stage2")


def test_stages_cannot_be_left_out(tmp_path):
    workdir = models.save(tmp_path, models.random_params("stage1"), {})
    with pytest.raises(
        ValueError,
        match=(
            "is of stage 1, this model of stage 3, which starts from stage 2; give a checkpoint of"
            " that stage"
        ),
    ):
        models.start(workdir, "stage3")


@pytest.mark.parametrize("num_upper", [1, 2])
def test_stage_2_starts_from_beit_as_in_the_official_code(tmp_path, num_upper):
    """The fixture's beit/* into the fixture's before/* gives its param/*, however BEiT's blocks are
    split.
    """
    arrays, info = dict(np.load(FIXTURE)), json.loads(FIXTURE.with_suffix(".json").read_text())
    group = lambda prefix: {
        name.split("/", 1)[1]: value
        for name, value in arrays.items()
        if name.startswith(f"{prefix}/")
    }
    model = model_fields(info)
    places = places_of(model)
    places = {
        name: places[name]
        for name in group("param")
        if name in places and not name.startswith("pooler")
    }
    before, expected = (
        fill_places({name: group(prefix)[name] for name in places}, places)
        for prefix in ("before", "param")
    )
    saved, beit_sizes, _ = from_beit(group("beit"), num_upper=num_upper)
    assert len(saved["transformer"]["upper"]["norm"]["scale"]) == num_upper

    workdir = models.save(tmp_path, saved, beit_sizes.model_fields(), meta={"tokenizer": None})
    params, report = models.start(
        workdir,
        "stage2",
        lambda: jax.tree.map(jax.numpy.asarray, before),
        mesh_shape=(1, 2, 2),
        **model,
    )
    assert jax.tree.structure(params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, params, expected)
    changed = {
        name
        for name, value in nnx.traversals.flatten_mapping(
            jax.tree.map(np.array_equal, before, expected)
        ).items()
        if not value
    }
    assert len(changed) > 20 and set(report.unused) == {
        "image_embedding/mask_token",
        "mim_head/kernel",
        "mim_head/bias",
    }


def test_a_classifying_beit_lacks_the_final_norm(tmp_path):
    saved = models.random_params("stage1")
    del saved["mim_head"], saved["transformer"]["norm"], saved["image_embedding"]["mask_token"]
    params, report = models.start(
        models.save(tmp_path, saved, {}), "stage2", models.drawn("stage2")
    )
    assert {"transformer/norm/scale", "transformer/norm/bias"} <= set(
        report.fresh
    ) and not report.unused
    assert (
        report.summary()[-1]
        == "  patterns that match nothing: image_embedding/mask_token|mim_head/.*"
    )
