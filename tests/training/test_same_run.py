"""A run goes on with what it was trained with, wherever that lies now, and with nothing else."""

import shutil

import pytest

from tests import tiny
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.datasets.sources import EMBEDDED
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.recipes import Recipe
from vlmo_jax.training.same_run import check_same_run


def recipe_of(**fields):
    """An open recipe; `fields` are top-level ones, data__source is config.data.source."""
    config = tiny.config(dict(vocab_size=4000))
    for name, value in fields.items():
        part, _, field = name.rpartition("__")
        (config[part] if part else config)[field] = value
    config.evals.retrieval.update(splits=("unseen_concepts",), source="emoji")
    recipe = Recipe(config)
    recipe.open()
    return recipe


@pytest.fixture(scope="module")
def trained():
    """The meta of a run on drawings."""
    return recipe_of(data__source="openclipart").meta()


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """The data set and the tokenizer under other names."""
    folder = tmp_path_factory.mktemp("copies")
    shutil.copytree(EMBEDDED["openclipart"], folder / "clip")
    tokenizer = load_tokenizer("emoji").path
    shutil.copy(tokenizer, folder / f"words{tokenizer.suffix}")
    return folder


def test_the_same_data_and_tokenizer_elsewhere_are_the_same_run(trained, copies, tmp_path):
    [tokenizer] = copies.glob("words.*")
    recipe = recipe_of(
        data__source=f"{copies}/../{copies.name}/clip",
        data__split="train[:100%]",
        tokenizer=str(tokenizer),
    )
    check_same_run(recipe, trained, tmp_path)


@pytest.mark.parametrize(
    "fields, message",
    [
        (
            dict(data__split="train[1:]"),
            "other contents of config.data.source='openclipart', split 'train.1:.' .records ",
        ),
        (dict(data__source="emoji"), "contents of config.data.source='emoji', .*, bytes .*sha256"),
        (dict(seed=5), "another config: config.seed was 0 and is 5;"),
        (dict(data__flip=False), "another config: config.data.flip was True and is False;"),
    ],
)
def test_another_run_is_refused(trained, tmp_path, fields, message):
    recipe = recipe_of(**{"data__source": "openclipart", **fields})
    with pytest.raises(ConfigError, match=message):
        check_same_run(recipe, trained, tmp_path)


def test_another_tokenizer_under_the_same_name_is_refused(trained, tmp_path):
    changed = {**trained, "tokenizer": {**trained["tokenizer"], "sha256": "0" * 64}}
    recipe = recipe_of(data__source="openclipart")
    with pytest.raises(ConfigError, match="contents of config.tokenizer='emoji' .SHA-256 0000"):
        check_same_run(recipe, changed, tmp_path)


def test_a_checkpoint_that_does_not_say_what_its_data_are_goes_by_their_path(trained, tmp_path):
    earlier = {name: value for name, value in trained.items() if name not in ("data", "tokenizer")}
    check_same_run(recipe_of(data__source="openclipart"), earlier, tmp_path)
    with pytest.raises(ConfigError, match="config.data.source was openclipart and is emoji"):
        check_same_run(recipe_of(data__source="emoji"), earlier, tmp_path)


def test_training_records_under_another_name_are_not_scored(copies, tmp_path):
    config = tiny.config(dict(vocab_size=4000))
    config.data.update(source="openclipart", split="train[:50%]")
    config.evals.retrieval.update(splits=(), source=str(copies / "clip"))
    recipe = Recipe(config)
    recipe.open()
    names = set(recipe.evaluations["retrieval"].splits)
    assert names and "clip_train" not in names


def test_a_checkpoint_from_before_a_field_goes_on_where_the_field_is_not_set(trained, tmp_path):
    config = trained["config"]
    data = {name: value for name, value in config["data"].items() if name != "weights"}
    earlier = {**trained, "config": {**config, "data": data}}
    check_same_run(recipe_of(data__source="openclipart"), earlier, tmp_path)
    weighted = recipe_of(data__source="openclipart", data__weights=(1.0,))
    with pytest.raises(ConfigError, match=r"config.data.weights was None and is \[1.0\]"):
        check_same_run(weighted, earlier, tmp_path)


def test_how_attention_is_computed_and_what_is_traced_make_no_other_run(trained, tmp_path):
    config = trained["config"]
    model = {name: value for name, value in config["model"].items() if name != "attention"}
    earlier = {**config, "model": model}
    del earlier["profile"]
    for saved in (config, earlier):
        recipe = recipe_of(data__source="openclipart", model__attention="xla", profile=(1, 2))
        check_same_run(recipe, {**trained, "config": saved}, tmp_path)


def test_a_run_goes_on_with_other_chunks_of_its_contrast(trained, tmp_path):
    check_same_run(recipe_of(data__source="openclipart", task__contrast_chunk=4), trained, tmp_path)
