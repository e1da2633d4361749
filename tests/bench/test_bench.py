import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from tests import tiny
from tests.recipes.shapes import assert_fits
from tests.run_commands import run_commands
from vlmo_jax.bench import data, device, steps, topology
from vlmo_jax.bench.collectives import bytes_by_kind, read_collectives
from vlmo_jax.bench.report import append_record, format_report, quantity
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.flops import model_flops
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import Recipe


def without_names(**fields):
    """A recipe as `base` comes: no data set and no tokenizer named."""
    config = tiny.config(model={"depth": 2}, mesh={"data": 4, "fsdp": 2, "tensor": 1}, **fields)
    config.data.source, config.tokenizer = None, None
    return config


@pytest.fixture(scope="module")
def train_report():
    return steps.benchmark_train(without_names(), steps=3, warmup=1)


def test_train_report(train_report):
    record = train_report.record
    assert len(record["seconds"]) == 3 and record["seconds_median"] == np.median(record["seconds"])
    assert record["samples_per_second"] == pytest.approx(tiny.BATCH / record["seconds_median"])
    assert record["samples_per_second_per_device"] == pytest.approx(
        record["samples_per_second"] / 8
    )
    flops = 3 * model_flops(without_names().model).pretrain
    assert record["model_flops_per_sample"] == flops
    share = flops * record["samples_per_second_per_device"] / record["peak_flops"]
    assert (
        record["share_of_peak"] == pytest.approx(share)
        and "measured in this run" in record["peak_source"]
    )
    assert record["device_peak_bytes"] is None, (
        "CPU does not count, and that must not look like zero"
    )
    assert record["process_peak_bytes"] > record["compiled_bytes"] > 0


def test_report_is_read_by_people_and_programs(train_report, tmp_path):
    text = format_report(train_report)
    for what in (
        "compile",
        "seconds a step",
        "pairs/s",
        "share of the peak",
        "process memory",
        "data 4 x fsdp 2",
    ):
        assert what in text
    for _ in range(2):
        append_record(train_report, tmp_path / "results.jsonl")
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["benchmark"] for line in lines] == ["train", "train"]


def test_encode_report():
    config = without_names(batch_size=3)  # of training: not looked at
    config.evals.retrieval.batch_size = 16
    record = steps.benchmark_encode(config, steps=2, warmup=1).record
    flops = model_flops(config.model)
    for name, each in (("images", flops.image), ("texts", flops.text), ("pairs", flops.match)):
        assert record[name]["model_flops_per_sample"] == each
        assert record[name]["samples_per_second"] == pytest.approx(
            16 / np.median(record[name]["seconds"])
        )


def test_impossible_config_is_refused():
    with pytest.raises(ConfigError, match="config.batch_size=9"):
        steps.benchmark_train(without_names(batch_size=9), steps=1, warmup=1)


def test_batch_is_one_that_training_could_get():
    config = without_names()
    recipe = Recipe(config)
    batch = recipe.synthetic_batch()
    assert_fits(batch, recipe)
    assert batch["token_ids"].max() < config.model.vocab_size and batch["mlm_labels"].min() >= 0
    assert batch["token_mask"][:, :3].all() and not batch["token_mask"].all()
    assert len(set(batch["image_id"])) == len(batch["image_id"])


@pytest.mark.parametrize("ahead", [0, 1])
def test_calls_are_timed_one_after_another(ahead):
    calls = []

    def run():
        time.sleep(
            0.5 if len(calls) < 2 else 0.02
        )  # the first ones are slow, as compiling makes them
        calls.append(jnp.zeros(()))
        return calls[-1]

    seconds = steps.time_calls(run, repeats=4, warmup=3, ahead=ahead)
    assert len(calls) == 7 and seconds.shape == (4,)
    assert seconds.sum() < 0.4
    assert seconds[: 4 - ahead].min() > 0.015


@pytest.mark.parametrize(
    "kind, teraflops",
    [
        ("NVIDIA A100-SXM4-80GB", 312),
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("TPU v4", 275),
        ("TPU v5 lite", 197),
        ("TPU v5", 459),
        ("TPU v5p", 459),
        ("TPU v6 lite", 918),
        ("cpu", None),
        ("NVIDIA GeForce RTX 5090", None),
    ],
)
def test_peaks(kind, teraflops):
    assert device.table_peak(kind) == teraflops


def test_quantity():
    assert quantity(663.3e9, "FLOP") == "663.3 GFLOP" and quantity(12.0, "B") == "12 B"


def test_input_report():
    config = tiny.config()
    config.data.update(num_workers=0, num_threads=1)
    record = data.benchmark_data(config, seconds=0.01).record
    assert record["source"] == "emoji" and record["records_per_second"]["all, pipeline"] > 0


def test_collectives_in_loops_count_as_often_as_they_run():
    mesh = sharding.make_mesh({"data": 1, "fsdp": 8, "tensor": 1})
    split, whole = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "fsdp", None), ())
    )

    def layer(x, kernel):
        return jnp.tanh(x @ jax.lax.with_sharding_constraint(kernel, whole)), None

    def apply(kernels, x):
        return jax.lax.scan(layer, x, kernels)[0]

    shapes = (
        jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=split),
        jax.ShapeDtypeStruct((2, 64), jnp.float32, sharding=whole),
    )
    with jax.set_mesh(mesh):
        text = jax.jit(apply, out_shardings=whole).lower(*shapes).compile().as_text()
    assert bytes_by_kind(read_collectives(text)) == {("all-gather", "f32"): 5 * 64 * 64 * 4}


TPU_TEXT = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
}

%chained.1 (p: bf16[4,8]) -> bf16[32,8] {
  %all-gather.1 = bf16[32,8]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, dimensions={0}, frontend_attributes={chain_id="1"}
}

%chained.2 (p: bf16[4,8]) -> bf16[32,8] {
  %all-gather.2 = bf16[32,8]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, dimensions={0}, frontend_attributes={chain_id="1"}
}

%all-reduce-scatter.1 (p: f32[16,8]) -> f32[2,8] {
  %all-reduce.1 = f32[16,8]{1,0} all-reduce(%p), channel_id=9, to_apply=%add
}

%inner_body (p: (u32[], bf16[1,48])) -> (u32[], bf16[1,48]) {
  %send = (bf16[1,48]{1,0:T(8,128)(2,1)}, bf16[1,48]{1,0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%x), channel_id=3, metadata={op_name="jit(step)/dot"}
  %done = bf16[1,48]{1,0} collective-permute-done(%send)
}

%inner_condition (p: (u32[], bf16[1,48])) -> pred[] {
  %limit = u32[]{:T(128)} constant(8)
}

%outer_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %while.2 = (u32[], bf16[1,48]{1,0}) while(%t), condition=%inner_condition, body=%inner_body
}

%outer_condition (p: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
}

%unused (p: u8[4]) -> u8[32] {
  %all-gather.9 = u8[32]{0} all-gather(%p), channel_id=99
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %while.1 = (s32[], f32[4]{0}) while(%t), condition=%outer_condition, body=%outer_body
  %f.1 = bf16[32,8]{1,0} fusion(%x), kind=kCustom, calls=%chained.1
  %f.2 = bf16[32,8]{1,0} fusion(%x), kind=kCustom, calls=%chained.2
  %f.3 = f32[2,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  %reduce = (f32[5]{0}, pred[3]{0}) all-reduce(%x, %y), channel_id=10, to_apply=%add
}
"""


def test_collectives_of_a_tpu_program():
    collectives = read_collectives(TPU_TEXT)
    assert bytes_by_kind(collectives) == {
        ("collective-permute", "bf16"): (
            24 * 48 * 2
        ),  # two loops, one in the other; the result alone
        ("all-gather", "bf16"): 32 * 8 * 2,  # a chain of fusions is one
        ("reduce-scatter", "f32"): 16 * 8 * 4,
        ("all-reduce", "f32"): 5 * 4 + 3,
    }
    assert collectives[0].runs == 24 and collectives[0].source == "jit(step)/dot"


def test_loop_without_a_trip_count_is_not_guessed():
    with pytest.raises(ValueError, match="trip count"):
        read_collectives(TPU_TEXT.replace("constant(8)", "parameter(0)"))


def test_topology_report(monkeypatch):
    monkeypatch.setattr(topology, "topology_devices", lambda name: jax.devices())
    report = topology.benchmark_topology(without_names(), topology="eight CPUs", largest=200)
    assert report.record["model"]["dtype"] == "bfloat16"
    assert report.record["collective_bytes"]["all-gather u8"] == 3 * tiny.SIZE**2 * tiny.BATCH, (
        "the negatives' images, once"
    )
    assert "all-gather u8[8,16,16,3]" in format_report(report)


def test_step_that_does_not_fit_is_said_in_one_line():
    class Program:
        def compile(self):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Used 20.1G of 15.75G hbm.\nmore\nmore\nmuch more"
            )

    with pytest.raises(ConfigError, match="20.1G of 15.75G.*accumulation=2") as refusal:
        topology._compile(Program())
    assert "much more" not in str(refusal.value)


def test_topology_says_what_to_install(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"libtpu.*pip install -e '\.\[tpu\]'"):
        topology.benchmark_topology(without_names(), topology="v5e:4x4")


REFUSED = [
    (
        ["fly", "--config=configs/stage3.py"],
        "'fly' is no benchmark; name one of train, peer, encode, input, topology",
    ),
    ([], "'nothing' is no benchmark"),
    (["train"], "train needs a recipe"),
    (["train", "--config=configs/stage4.py"], "configs/stage4.py"),
    (["train", "--config=configs/stage3.py", "--config.batchsize=4"], 'Did you mean "batch_size"'),
    (["train", "--config=configs/stage3.py", "--config.mesh.fsdp=3"], "config.mesh.fsdp=3"),
]


def test_command_refuses(tmp_path):
    for (_, message), ended in zip(
        REFUSED,
        run_commands("vlmo_jax.bench.__main__", [case[0] for case in REFUSED], tmp_path),
        strict=True,
    ):
        assert ended.status == 1 and message in ended.log and "Traceback" not in ended.log
