"""The tokenizer's recipe refuses impossible settings by name, counts its operations, and scores
held-out images.
"""

import jax
import numpy as np
import pytest
from flax import nnx

from tests import tiny
from tests.recipes.shapes import assert_fits
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.images import decode_image
from vlmo_jax.input.images.pixels import resize_square
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.dvae import DiscreteVAE
from vlmo_jax.models.flops import visual_tokenizer_flops
from vlmo_jax.recipes import Recipe
from vlmo_jax.tasks.visual_tokenizer import encode_codes, reconstruct

SMALL = (
    "data.source=emoji",
    "model.image_size=8",
    "model.num_hidden=8",
    "model.num_groups=2",
    "model.vocab_size=16",
)


def parse(*arguments, size="tiny"):
    """The config of a command line."""
    return tiny.parse(f"visual_tokenizer:{size}", *arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["model.image_size=36"],
            r"config.model.image_size=36 does not divide over the tokenizer's stride, 2 \*\*"
            r" \(config.model.num_groups=4"
            r" - 1\) \(8\); use a multiple of 8 such as 32",
        ),
        (["model.num_hidden=18"], "config.model.num_hidden=18 does not divide .* a multiple of 4"),
        (
            ["model.num_hidden=12", "mesh.fsdp=2", "mesh.data=4"],
            "config.model.num_hidden=12 does not divide .*config.mesh.fsdp.*multiple of 8",
        ),
        (
            ["model.vocab_size=255", "mesh.tensor=2", "mesh.data=4"],
            "config.model.vocab_size=255 .* config.mesh.tensor",
        ),
        (["model.num_init=-1"], "config.model.num_init=-1"),
        (["model.dtype=float16"], "config.model.dtype='float16' is not allowed"),
        (["task.temperature=0.0"], "config.task.temperature=0.0 must be more than 0"),
        (["task.usage_weight=-1.0"], "config.task.usage_weight=-1.0"),
        (
            ["accumulation=2"],
            (
                "config.accumulation=2 is not allowed: how evenly codes are used is known of the"
                " whole batch alone; use 1"
            ),
        ),
        (["data.crop_scale=(0.0, 1.0)"], "config.data.crop_scale"),
        (["evals.reconstruction.batch_size=100"], "config.evals.reconstruction.batch_size=100"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_impossible_settings_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Recipe(parse(*arguments)).check(8)


def test_missing_data_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="config.data.source is not set"):
        Recipe(parse(size="dalle")).check(8)
    with pytest.raises(ConfigError, match="config.data.source='.*nothing'"):
        Recipe(parse(f"data.source={tmp_path}/nothing")).open()


def test_flops_are_those_of_the_convolutions():
    sizes = dict(vocab_size=32, num_hidden=16, num_groups=3, blocks_per_group=2, num_init=24)
    _, abstract = abstract_model(lambda rngs: DiscreteVAE(**sizes, rngs=rngs))
    side, total = {}, 0
    for part in ("encoder", "decoder"):
        low_first = part == "decoder"
        for group in range(1, 4):
            side[part, f"group_{group}"] = 4 * 2 ** (group - 1 if low_first else 3 - group)
        side[part, "input"], side[part, "output"] = (4, 16) if low_first else (16, 4)
    for path, leaf in jax.tree_util.tree_leaves_with_path(abstract):
        names = [str(getattr(key, "key", key)) for key in path]
        if "kernel" in names:
            place = next(name for name in names if (names[0], name) in side)
            total += 2 * leaf.size * side[names[0], place] ** 2
    assert visual_tokenizer_flops(dict(image_size=16, **sizes), {}) == total


@pytest.fixture(scope="module")
def opened():
    """A small recipe with its data opened."""
    recipe = Recipe(
        parse(
            *SMALL,
            "data.split=unseen_concepts[:40]",
            "evals.reconstruction.splits=('unseen_concepts[40:60]',)",
            "evals.reconstruction.batch_size=16",
            "batch_size=16",
        )
    )
    recipe.check(1)
    recipe.open()
    return recipe


def test_batches_are_what_the_step_is_compiled_for(opened):
    with opened.batches(3) as batches:
        batch = next(batches)
    assert_fits(batch, opened)
    assert_fits(opened.synthetic_batch(), opened)
    assert len(np.unique(batch["image"], axis=0)) == 16 and batch["image"].std() > 10


def test_evaluation_scores_and_draws_held_out_images(opened, tmp_path):
    graphdef, abstract = abstract_model(opened.make_model)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), nnx.to_pure_dict(abstract)
    )
    with jax.set_mesh(mesh := tiny.mesh_of((1, 1, 1))):
        evaluation = opened.make_evaluations(graphdef, mesh)["reconstruction"]
        metrics = evaluation.run(params, 7, page=tmp_path / "page.png")
    model = nnx.merge(graphdef, params)
    images = np.stack(
        [
            np.asarray(resize_square(decode_image(record.image), 8))
            for record in next(iter(opened.evaluations["reconstruction"].splits.values()))
        ]
    )
    images = images.astype(np.float32) / 255
    codes, again = jax.jit(encode_codes)(model, images), jax.jit(reconstruct)(model, images)
    share = np.bincount(codes.ravel()) / codes.size
    share = share[share > 0]
    assert len(share) > 2
    expected = {
        "psnr": np.mean(-10 * np.log10(np.square(images - again).mean((1, 2, 3)))),
        "codes_in_use": len(share),
        "code_perplexity": np.exp(-np.sum(share * np.log(share))),
    }
    assert set(metrics) == {
        f"eval/reconstruction/emoji_unseen_concepts[40:60]/{name}" for name in expected
    }
    for name, value in expected.items():
        np.testing.assert_allclose(
            metrics[f"eval/reconstruction/emoji_unseen_concepts[40:60]/{name}"], value, rtol=1e-4
        )
    assert (tmp_path / "page.png").stat().st_size > 5000
