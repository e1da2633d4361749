"""Runs that cannot fit are refused, naming the size; those that fit are not."""

import pytest

from tests import tiny
from tests.recipes.full_size import SETTINGS
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.parallel.memory import host_bytes
from vlmo_jax.recipes import Recipe

GIB = 2**30


def check(recipe, *settings, devices=1, gib=16.0):
    given = SETTINGS[recipe.partition(":")[0]]
    Recipe(tiny.parse(recipe, *given, *settings)).check(devices, int(gib * GIB))


@pytest.mark.parametrize(
    "recipe, setting, message",
    [
        ("stage3:tiny", "model.vocab_size=2000000000", "config.model.vocab_size=2000000000 asks"),
        ("stage3:tiny", "model.image_size=1048576", "config.model.image_size=1048576 asks"),
        ("stage2:base", "batch_size=1073741824", "config.batch_size=1073741824 asks"),
        ("visual_tokenizer:tiny", "model.num_hidden=4194304", "config.model.num_hidden=4194304"),
        ("stage3:tiny", "evals.retrieval.batch_size=2000000000", "config.evals.retrieval.batch_s"),
        ("stage1:base", "data.prefetch=10000", "config.data.prefetch=10000 batches of"),
    ],
)
def test_what_cannot_fit_is_refused(recipe, setting, message):
    with pytest.raises(ConfigError, match=message):
        check(recipe, setting, gib=64)


def test_what_fits_passes_and_devices_count():
    check("stage3:tiny", gib=1)
    check("stage3:base", devices=64, gib=16)
    with pytest.raises(ConfigError, match="a step needs at least .* GiB on each device"):
        check("stage3:large", devices=1)
    check("stage3:large", "mesh.fsdp=8", "mesh.data=8", devices=64)
    # 568.7 M parameters with both moments: 6.4 GiB, or 4.2.
    small = ("stage3:large", "batch_size=8")
    check(*small, "optimizer.bfloat16_moments=True", gib=6)
    with pytest.raises(ConfigError, match="a step needs at least"):
        check(*small, gib=6)


def test_two_images_need_twice_the_memory_of_one():
    # 128 examples of 39 and of 78 MiB, beside 2 GiB of parameters and moments.
    check("finetune_vqa:base,384", gib=9)
    with pytest.raises(ConfigError, match=r"9.88 GiB for 128 examples at once"):
        check("finetune_nlvr2:base,384", gib=9)


def test_fused_passes_of_fewer_pairs_need_less():
    # 2.3 GiB of parameters and moments, and 1,024 examples of 11.0 MiB; of 10.2 with an eighth of
    # them fused, for whose rest the attention of an image alone counts.
    size = ("stage3:base", "batch_size=1024", "model.dtype=float32")
    with pytest.raises(ConfigError, match="for 1,024 examples at once"):
        check(*size, gib=13)
    check(*size, "task.num_fused=128", gib=13)


def test_a_dual_encoder_that_is_trained_whole_fuses_nothing():
    size = ("batch_size=1024", "accumulation=1", "optimizer.frozen=()", "model.dtype=float32")
    with pytest.raises(ConfigError, match="for 1,024 examples at once"):
        check("finetune_retrieval:base,coco,matching,224", *size, gib=12.5)
    check("finetune_retrieval:base,coco,224", *size, gib=12.5)


def test_a_container_has_less_than_its_machine(tmp_path):
    limit, none = tmp_path / "memory.max", tmp_path / "none"
    limit.write_text("1048576\n")
    none.write_text("max\n")
    assert host_bytes((str(none), str(limit))) == 2**20
    assert host_bytes((str(none), str(tmp_path / "missing"))) > 2**28
