"""What a warm start refuses, each with its own message, before a parameter is initialised or
anything compiles.
"""

import json
import re
import shutil

import jax
import numpy as np
import pytest

from tests.checkpoints.warm_start import models
from vlmo_jax.checkpoints.warm_start.load import warm_start
from vlmo_jax.checkpoints.warm_start.plan import make_plan


@pytest.fixture(scope="module")
def stage2(tmp_path_factory):
    return models.save(tmp_path_factory.mktemp("stage2"), models.random_params("stage2"), {})


@pytest.fixture(scope="module")
def stage3(tmp_path_factory):
    return models.save(tmp_path_factory.mktemp("stage3"), models.random_params("stage3"), {})


def refusal(*args, **fields):
    """The message of a start that must be refused."""
    with pytest.raises(ValueError) as error:
        models.start(*args, **fields)
    return str(error.value)


def test_no_checkpoint(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}; give a work folder"):
        models.start(tmp_path, "stage3")


def cut_values(step):
    for path in [*(step / "params").glob("d/*"), *(step / "params").glob("ocdbt.process_0/d/*")]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip_values(step):
    for path in [*(step / "params").glob("d/*"), *(step / "params").glob("ocdbt.process_0/d/*")]:
        values = bytearray(path.read_bytes())
        values[len(values) // 2] ^= 0xFF
        path.write_bytes(bytes(values))


@pytest.mark.parametrize(
    "damage",
    [
        cut_values,
        flip_values,
        lambda step: (step / "params" / "_METADATA").unlink(),
        lambda step: (step / "params" / "_METADATA").write_text('{"tree_metadata": {'),
        lambda step: (step / "params" / "manifest.ocdbt").write_bytes(b""),
        lambda step: (
            shutil.rmtree(step / "params" / "d")
            or shutil.rmtree(step / "params" / "ocdbt.process_0")
        ),
        lambda step: shutil.rmtree(step / "meta"),
        lambda step: (step / "meta" / "metadata").write_text("{"),
    ],
    ids=[
        "values cut",
        "values changed",
        "no shapes",
        "shapes cut",
        "manifest cut",
        "no values",
        "no meta",
        "meta cut",
    ],
)
@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # Orbax leaves reads under way behind
def test_damaged_files(stage2, tmp_path, damage):
    shutil.copytree(stage2, tmp_path, dirs_exist_ok=True)
    damage(tmp_path / "checkpoints" / "5")
    message = refusal(tmp_path, "stage2")
    assert re.match(
        f"checkpoint {tmp_path}/checkpoints/5 is damaged: .+; copy it again or use another step",
        message,
    ), message
    assert len(message) < 500


def test_a_checkpoint_of_something_else(stage2, tmp_path):
    workdir = models.save(
        tmp_path,
        {"encoder": models.random_params("stage2")["modality_type"]},
        {},
        meta={"config": {"steps": 3}},
    )
    assert refusal(workdir, "stage2").endswith(
        "has no config.model in its meta; it was not saved by vlmo_jax"
    )


def test_a_model_without_patches(stage2, tmp_path):
    """A visual tokenizer: taken by a model of its kind, refused for another."""
    saved = {"encoder": {"kernel": np.ones((3, 4), np.float32)}}
    workdir = models.save(tmp_path, saved, {}, meta={"config": {"model": {"image_size": 16}}})
    assert "neither used nor skipped (1): encoder/{kernel}" in refusal(workdir, "stage2")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    wanted = {"encoder": {"kernel": jax.ShapeDtypeStruct((3, 4), np.float32, sharding=device)}}
    params, _ = warm_start(
        workdir,
        wanted,
        models.never,
        rules=models.common.INIT_RULES,
        fresh=(),
        model={"image_size": 32},
    )
    np.testing.assert_array_equal(params["encoder"]["kernel"], saved["encoder"]["kernel"])


def test_another_size(stage2):
    assert (
        refusal(stage2, "stage3", width=32, mlp_dim=64, depth=4)
        == f"checkpoint {stage2}/checkpoints/5 is of another size: config.model.width was 16 and is"
        " 32, config.model.depth was 3 and is 4, config.model.mlp_dim was 32 and is 64; set the"
        " checkpoint's sizes or give one of this size"
    )


def test_stages_in_the_wrong_order(stage2, stage3):
    message = refusal(stage3, "stage2", rules=[(".*", "copy")])
    assert message.startswith(
        f"checkpoint {stage3}/checkpoints/5 is of stage 3, this model of stage 2, which starts from"
        " stage 1; give a"
    )
    assert (
        "neither used nor skipped (16): itc/{image/kernel, logit_scale, text/kernel}; itc_vl/{"
        in message
    )


def test_another_vocabulary(stage2):
    assert (
        refusal(stage2, "stage3", vocab_size=50)
        == "config.model.vocab_size=50 does not fit the 48 tokens of checkpoint"
        f" {stage2}/checkpoints/5 (text_embedding/word, mlm_head/decoder/kernel,"
        " mlm_head/decoder/bias); use its tokenizer and --config.model.vocab_size=48, or start"
        ' them fresh: put ("text_embedding/word|mlm_head/decoder/kernel|mlm_head/decoder/bias",'
        ' "skip") first in config.init_rules and add'
        ' "text_embedding/word|mlm_head/decoder/kernel|mlm_head/decoder/bias" to'
        " config.init_fresh"
    )


def test_another_tokenizer(stage2):
    other = {"file": "other.model", "sha256": "b2" * 32}
    message = refusal(stage2, "stage3", tokenizer=other)
    assert message.startswith(
        f"checkpoint {stage2}/checkpoints/5 was trained with the tokenizer words.model (SHA-256"
        " a1a1a1a1a1a1...), this run has other.model (b2b2b2b2b2b2...), so the rows of"
        " text_embedding/word, mlm_head/decoder/kernel, mlm_head/decoder/bias would be"
    )
    pattern = re.search(r'put \("(.*)", "skip"\)', message)[1]
    recipe = models.common.WARM_STARTS["stage3"]
    rules, fresh = ((pattern, "skip"), *recipe["init_rules"]), (*recipe["init_fresh"], pattern)
    params, report = models.start(
        stage2,
        "stage3",
        models.drawn("stage3", vocab_size=50),
        rules=rules,
        fresh=fresh,
        tokenizer=other,
        vocab_size=50,
    )
    assert (
        set(report.unused)
        == {"text_embedding/word", "mlm_head/decoder/kernel", "mlm_head/decoder/bias"}
        < set(report.fresh)
    )
    assert params["text_embedding"]["word"].shape == (50, 16)


def test_what_no_rule_explains(stage3):
    assert refusal(stage3, "vqa", rules=models.common.INIT_RULES, fresh=()) == "\n  ".join(
        [
            (
                f"checkpoint {stage3}/checkpoints/5 does not explain this model by"
                " config.init_rules and config.init_fresh"
            ),
            (
                "in the checkpoint, neither used nor skipped (14): itc/{image/kernel, logit_scale,"
                " text/kernel}; itc_vl/{image/kernel, logit_scale, text/kernel}; itm_head/{bias,"
                " kernel}; mlm_head/{decoder/bias, decoder/kernel, dense/bias, dense/kernel,"
                " norm/bias, norm/scale}"
            ),
            (
                "  to leave them out: ('itc/.*', \"skip\"), ('itc_vl/.*', \"skip\"),"
                " ('itm_head/.*', \"skip\"), ('mlm_head/.*', \"skip\") in config.init_rules"
            ),
            (
                "in the model, not filled by the checkpoint (6): vqa_head/{dense/bias,"
                " dense/kernel, norm/bias, norm/scale, out/bias, out/kernel}"
            ),
            "  to start them from the seed: 'vqa_head/.*' in config.init_fresh",
        ]
    )


def test_parameters_that_no_rule_names(stage2):
    message = refusal(
        stage2, "stage2", rules=[("(image|text)_embedding/.*|mlm_head/.*|modality_type", "copy")]
    )
    assert re.search(
        r"neither used nor skipped \(24\): transformer/blocks/attention/\{out, out_bias, q_bias",
        message,
    )


def test_shapes_that_no_rule_changes(stage2, stage3):
    message = refusal(stage2, "stage3", rules=[(".*", "copy")], image_size=32)
    assert message.endswith(
        "of another shape: transformer/relative_position_bias [3, 38, 2] in the checkpoint, [3, 78,"
        ' 2] in the model: a rule (regex, "resample") may change it'
    )
    message = refusal(stage2, "stage3", rules=[(".*", "resample")], layer_scale=None)
    assert (
        "neither used nor skipped (2): transformer/blocks/attention_scale;"
        " transformer/blocks/expert_scale" in message
    )
    message = refusal(stage3, "stage3", num_upper=2)
    assert (
        "transformer/blocks/experts/vision_language/down/bias [1, 16] in the checkpoint, [2, 16] in"
        " the model: nothing can" in message
    )


def test_two_parameters_for_one_place(stage2):
    rules = [("modality_type", "copy", "text_embedding/segment"), (".*", "copy")]
    message = refusal(stage2, "stage2", rules=rules, fresh=["modality_type"])
    assert message.endswith("filled twice by config.init_rules (1): text_embedding/{segment}")


@pytest.mark.parametrize(
    "rules, fresh, message",
    [
        (
            [("a", "move")],
            [],
            r"config.init_rules: \('a', 'move'\) is not a rule; write \(regex, \"skip\"\)",
        ),
        ([("a", "skip", "b")], [], "is not a rule"),
        ([("a",)], [], "is not a rule"),
        (["a"], [], "is not a rule"),
        ([("a(", "skip")], [], r"config.init_rules: 'a\(' is not a regular expression: "),
        ([], ["*"], r"config.init_fresh: '\*' is not a regular expression: "),
        ([("(a)", "copy", r"b\2")], [], r"uses group 2, which its regex has not"),
        ([("(a)", "copy", r"\g<name>")], [], r"uses group name, which its regex has not"),
    ],
)
def test_rules_that_make_no_sense(rules, fresh, message):
    model = {"image_size": 16, "patch_size": 8}
    with pytest.raises(ValueError, match=message):
        make_plan({}, {}, rules=rules, fresh=fresh, source_model=model, model=model, checkpoint="c")


def test_a_grid_that_the_table_does_not_have(stage2, tmp_path):
    shutil.copytree(stage2, tmp_path, dirs_exist_ok=True)
    meta = tmp_path / "checkpoints" / "5" / "meta" / "metadata"
    values = json.loads(meta.read_text())
    del values["sha256"], values["digests"]
    values["config"]["model"]["image_size"] = 64
    meta.write_text(json.dumps(values))
    assert (
        "38 rows are not those of 8 x 8 patches, by config.model.image_size and patch_size"
        in refusal(tmp_path, "stage2")
    )
