"""Configs that earlier versions have written."""

import copy

import pytest

from vlmo_jax.checkpoints.earlier import upgrade_config


@pytest.mark.parametrize(
    "kind, model, data, task",
    [
        ("pairs", "vlmo", "pairs", "pair_pretrain"),
        ("texts", "vlmo", "texts", "text_pretrain"),
        ("images", "beit", "masked_images", "image_pretrain"),
        ("tokenizer", "discrete_vae", "images", "visual_tokenizer"),
    ],
)
def test_the_kind_of_a_run_becomes_those_of_its_parts(kind, model, data, task):
    old = {
        "kind": kind,
        "steps": 7,
        "model": {"width": 16},
        "data": {"source": "emoji"},
        "optimizer": {"learning_rate": 0.1},
        "tokenizer": "emoji",
    }
    before = copy.deepcopy(old)
    assert upgrade_config(old) == {
        "steps": 7,
        "model": {"kind": model, "width": 16},
        "data": {"kind": data, "source": "emoji"},
        "task": {"kind": task},
        "optimizer": {"learning_rate": 0.1, "layer_decay": 1.0, "ema_decay": 0.0},
        "tokenizer": "emoji",
    }
    assert old == before


def test_fields_of_the_task_are_kept():
    old = {"kind": "pairs", "task": {"itc_weight": 0.5}}
    assert upgrade_config(old)["task"] == {"kind": "pair_pretrain", "itc_weight": 0.5}


def test_a_converted_checkpoint_has_a_part_of_a_config():
    old = {"kind": "tokenizer", "model": {"vocab_size": 8192}, "data": {}}
    assert upgrade_config(old) == {
        "model": {"kind": "discrete_vae", "vocab_size": 8192},
        "data": {"kind": "images"},
        "task": {"kind": "visual_tokenizer"},
    }


@pytest.mark.parametrize("config", [{}, {"model": {"kind": "vlmo"}, "optimizer": {"frozen": []}}])
def test_one_of_today_stays_as_it_is(config):
    assert upgrade_config(copy.deepcopy(config)) == config


def test_twice_is_once():
    once = upgrade_config({"kind": "texts", "optimizer": {}})
    assert upgrade_config(once) == once
