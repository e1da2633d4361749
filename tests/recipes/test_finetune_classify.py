"""The recipe of classification: the official numbers, runs from a folder of folders to a model that
is asked, odd images, and refusals.
"""

import json

import numpy as np
import pytest
from PIL import Image

import vlmo_jax
from configs import finetune_classify
from tests import tiny
from tests.recipes.shapes import assert_fits
from tests.recipes.stage3_checkpoint import SMALL, save_stage3
from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.readers.image_files import ImageFilesReader
from vlmo_jax.datasets.writer import DatasetWriter
from vlmo_jax.interop.beit_classifier import from_beit_classifier
from vlmo_jax.interop.convert import export
from vlmo_jax.interop.tensor_files import read_safetensors
from vlmo_jax.models.build import abstract_params
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.evaluate import evaluate
from vlmo_jax.training.layer_decay import layer_factors
from vlmo_jax.training.loop import train
from vlmo_jax.training.optimizer import match_rules

OWN = (
    "data.classes=folder",
    "model.num_classes=3",
    "evals.classification.batch_size=8",
    "evals.averaged.batch_size=8",
    "evals.classification.splits=('validation',)",
    "evals.averaged.splits=('validation',)",
)
MODES = ("L", "CMYK", "I;16", "RGBA", "P", "1", "LA")


def draw(path, seed, mode="RGB"):
    """A picture in one of Pillow's modes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (20, 30), np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).convert(mode)
    image.save(path, "JPEG" if mode in ("CMYK", "RGB") else "PNG")


def build(pictures, out):
    """Records of a folder of folders, as `build --format=image_files` makes them."""
    reader = ImageFilesReader(pictures)
    with DatasetWriter(out, kind=reader.kind, description="Pictures.") as dataset:
        for entry in reader.entries():
            dataset.write(entry.split, reader.load(entry))
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three classes in training, one of them in all odd kinds of picture; two in validation."""
    root = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(("cat", "cow", "dog")):
        for seed in range(4):
            draw(root / "p" / "train" / name / f"{seed}.jpg", 10 * number + seed)
    for seed, mode in enumerate(MODES):
        draw(root / "p" / "train" / "cow" / f"odd{seed}.img.png", seed, mode)
        draw(root / "p" / "val" / "cow" / f"odd{seed}.png", seed, mode)
    draw(root / "p" / "val" / "dog" / "9.jpg", 9)
    return build(root / "p", root / "animals")


def parse(folder, *settings, recipe="finetune_classify:tiny,48"):
    return tiny.parse(recipe, *SMALL, *OWN, f"data.source={folder}", *settings)


@pytest.mark.parametrize(
    "size, numbers",
    [
        ("base", (1024, 125100, 4e-3, 25020, 0.65, 0.1, 0.05, 0.8, 1.0)),
        ("large", (1024, 62550, 1e-3, 6255, 0.75, 0.2, 0.05, 0.8, 1.0)),
        ("base_22k", (512, 75060, 2e-5, 12510, 0.85, 0.1, 1e-8, 0.0, 0.0)),
        ("large_22k", (512, 75060, 2e-5, 12510, 0.9, 0.4, 1e-8, 0.0, 0.0)),
    ],
)
def test_official_recipes(size, numbers):
    config = finetune_classify.get_config(size)
    model, optimizer, data = config.model, config.optimizer, config.data
    assert (
        config.batch_size,
        config.steps,
        optimizer.learning_rate,
        optimizer.warmup_steps,
        optimizer.layer_decay,
        model.drop_path_rate,
        optimizer.weight_decay,
        data.mixup,
        data.cutmix,
    ) == numbers
    assert (optimizer.schedule, optimizer.betas, optimizer.epsilon) == (
        "cosine",
        (0.9, 0.999),
        1e-8,
    )
    assert (optimizer.end_learning_rate, config.task.smoothing, data.erasing) == (1e-6, 0.1, 0.25)
    assert (data.resize, data.crop_share, data.mean, data.crop_scale) == (
        "centre_crop",
        0.875,
        (0.5, 0.5, 0.5),
        (0.08, 1.0),
    )
    assert config.evals.averaged.averaged and optimizer.ema_decay == 0.9999
    assert finetune_classify.get_config(f"{size},384").data.crop_share == 1.0
    skips = [regex for regex, action, *_ in config.init_rules if action == "skip"]
    assert ("head/.*" in skips) == size.endswith("_22k")


def test_rates_fall_towards_the_patches_and_norms_do_not_decay():
    recipe = Recipe(tiny.parse("finetune_classify:base", "data.source=x"))
    params = abstract_params(recipe.make_model)
    factors = flatten(layer_factors(params, 0.65))
    assert factors["head", "kernel"] == factors["pool_norm", "scale"] == 1
    assert factors["image_embedding", "patch"] == pytest.approx(0.65**13)
    rules = [(regex, False) for regex in recipe.config.optimizer.no_decay] + [(".*", True)]
    decays = flatten(match_rules(params, rules, key="optimizer.no_decay"))
    kept = {path[-1] for path, decay in decays.items() if decay}
    assert kept == {"kernel", "patch", "relative_position_bias", "qkv", "out"}


def test_an_image_costs_a_pass():
    recipe = Recipe(tiny.parse("finetune_classify:base", "data.source=x"))
    assert recipe.forward_flops() / 1e9 == pytest.approx(35.13, abs=0.05)


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A run from stage 3 with mixed and erased images, and its settings."""
    root = tmp_path_factory.mktemp("classify")
    settings = (
        f"init_from={save_stage3(root / 'stage3')}",
        "data.mixup=0.8",
        "data.cutmix=1.0",
        "data.erasing=0.5",
    )
    assert train(parse(folder, *settings), root / "run")
    return root / "run", settings


def test_from_folders_to_scores_by_a_checkpoint_of_another_size(run, folder, capsys):
    workdir, settings = run
    lines = [json.loads(one) for one in (workdir / "metrics.jsonl").read_text().splitlines()]
    losses = [line["train/class_loss"] for line in lines if "train/class_loss" in line]
    assert len(losses) == 4 and all(0.5 < loss < 3 for loss in losses)
    for name in ("classification", "averaged"):
        metric = f"eval/{name}/animals_validation/accuracy"
        assert [line["step"] for line in lines if metric in line] == [0, 4]
        assert (workdir / f"{name}.png").stat().st_size > 1000
    assert evaluate(parse(folder, *settings, "mode=eval"), workdir)
    said = capsys.readouterr().out
    assert "8 images of 3 classes" in said
    assert "1 classes of the model have no image here: cat" in said
    result = json.loads((workdir / "results.jsonl").read_text().splitlines()[0])
    assert result["protocol"] == "classification by folder, square"
    assert (result["images"], result["classes"]) == (8, 3)
    [predictions] = workdir.rglob("classification_animals_validation.jsonl")
    rows = [json.loads(line) for line in predictions.read_text().splitlines()]
    assert {row["class"] for row in rows} == {"cow", "dog"} and len(rows) == 8
    assert {name for name, _ in rows[0]["top"]} == {"cat", "cow", "dog"}


def test_the_trained_model_is_asked(run):
    workdir, _ = run
    model = vlmo_jax.load(workdir, averaged=True)
    assert model.classes == ("cat", "cow", "dog") and model.text_length == 0
    images = [np.full((9, 12), 200, np.uint8), np.zeros((30, 20, 3), np.uint8)]
    found = model.classify(images)
    assert found.shape == (2, 3) and np.allclose(found.sum(axis=1), 1, atol=1e-5)
    skipped = model.classify([*images, "gone.png"], on_error="skip")
    assert np.isnan(skipped[2]).all()
    np.testing.assert_allclose(skipped[:2], found, rtol=1e-5)
    trained = vlmo_jax.load(workdir).classify(images)
    assert not np.array_equal(trained, found)
    with pytest.raises(vlmo_jax.inference.heads.UnfitModelError, match="encodes images and texts"):
        model.classify(images, ["cat", "dog"])
    other = workdir / "classes.txt"
    other.write_text("cat\ndog\ncow\n")
    with pytest.raises(ValueError, match="lists 3 classes, .* trained with 3 others"):
        vlmo_jax.load(workdir, classes=other)


def test_the_trained_model_is_written_as_a_beit(run, tmp_path):
    for name in ("beit_classifier", "beit_classifier_hf"):
        path = export(run[0], tmp_path / f"{name}.safetensors", name)
        params, sizes, _ = from_beit_classifier(read_safetensors(path), num_heads=2)
        assert (sizes.width, sizes.depth) == (16, 2)
        saved = SavedParams(run[0])
        head = saved.read([("head", "kernel")])["head", "kernel"]
        np.testing.assert_array_equal(params["head"]["kernel"], head)


def test_another_list_of_classes_is_refused(run, folder, tmp_path):
    workdir, settings = run
    listed = tmp_path / "classes.txt"
    listed.write_text("dog\ncow\ncat\n")
    own = f"data.class_list={listed}"
    with pytest.raises(ConfigError, match="3 classes, which are not the 3 that .*class_list"):
        evaluate(parse(folder, *settings, own, "mode=eval"), workdir)
    with pytest.raises(ConfigError, match="other contents of config.data.class_list .*'number': 3"):
        train(parse(folder, *settings, own), workdir)
    with pytest.raises(ConfigError, match=r'answers by another list .*"head/..", "skip"'):
        train(parse(folder, f"init_from={workdir}", own), tmp_path / "again")


def test_batches_of_the_input_fit_the_recipe(folder):
    for mixing in ("data.mixup=0.0", "data.mixup=0.5"):
        recipe = Recipe(parse(folder, "init_from=none", mixing))
        recipe.check(8)
        recipe.open()
        assert ("mix_box" in recipe.task.reads) == (mixing == "data.mixup=0.5")
        with recipe.batches(0) as batches:
            batch = next(batches)
            assert_fits(batch, recipe)
            assert batches.broken == 0
        assert_fits(recipe.synthetic_batch(), recipe)


@pytest.mark.parametrize(
    "settings, message",
    [
        (("model.num_classes=4",), r"num_classes=4 but there are 3 classes .*num_classes=3"),
        (("data.classes=group",), "groups.json is not there"),
        (("data.classes=text",), "has no class that its text would tell"),
        (("data.classes=colour",), "use one of folder, group"),
        (("data.mixup=-1",), "config.data.mixup"),
        (("data.crop_share=0",), "config.data.crop_share"),
        (("task.smoothing=1.0",), "config.task.smoothing"),
        (("model.num_classes=0",), "config.model.num_classes"),
        (("data.class_list=gone.txt",), "gone.txt: there is no such file"),
        (("init_from=",), "init_from is not set"),
    ],
)
def test_what_cannot_be_is_refused_by_field(folder, settings, message):
    with pytest.raises(ConfigError, match=message) as error:
        recipe = Recipe(parse(folder, "init_from=none", *settings))
        recipe.check(1)
        recipe.open()
    assert "\n" not in str(error.value)


def test_one_class_alone_and_classes_that_the_model_lacks(folder, tmp_path):
    draw(tmp_path / "one" / "train" / "cat" / "1.jpg", 0)
    alone = build(tmp_path / "one", tmp_path / "alone")
    recipe = Recipe(parse(alone, "init_from=none", "model.num_classes=1"))
    with pytest.raises(ConfigError, match="has 1 class by config.data.classes='folder', 'cat'"):
        recipe.open()
    listed = tmp_path / "classes.txt"
    listed.write_text("cat\ncow\nhen\n")
    recipe = Recipe(parse(folder, "init_from=none", f"data.class_list={listed}"))
    with pytest.raises(
        ConfigError, match="1 images of split animals_validation are of 1 classes .*'dog'"
    ):
        recipe.open()
    listed.write_text("cat\n\n")
    with pytest.raises(ConfigError, match="line 2 is blank"):
        Recipe(parse(folder, "init_from=none", f"data.class_list={listed}")).open()
    listed.write_text("cat\ncat\n")
    with pytest.raises(ConfigError, match="lists 'cat' again, after line 1"):
        Recipe(parse(folder, "init_from=none", f"data.class_list={listed}")).open()
