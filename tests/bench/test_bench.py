import json
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import stage1, stage2, stage3
from tests import tiny
from tests.recipes.shapes import assert_fits
from tests.run_commands import run_commands
from vlmo_jax.bench import data, device, scaling, steps, targets, topology
from vlmo_jax.bench.report import append_record, format_report, quantity
from vlmo_jax.commands.config_errors import ConfigError
from vlmo_jax.models.flops import model_flops
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
    assert {"decode", "crop, resize, flip"} <= record["milliseconds_a_record"].keys()


@pytest.mark.parametrize(
    ("make", "work"), [(stage1.get_config, "hidden patches"), (stage2.get_config, "read")]
)
def test_input_of_stages_without_pairs(make, work):
    config = make()
    config.update(batch_size=4)
    config.data.update(num_workers=0, num_threads=1, prefetch=1)
    record = data.benchmark_data(config, seconds=0.01).record
    assert record["milliseconds_a_record"][work] > 0


def test_input_of_a_recipe_without_data_reads_made_photographs(monkeypatch):
    monkeypatch.setattr(data, "_PHOTOGRAPHS", 3)
    config = stage3.get_config("base")
    config.update(batch_size=2)
    config.data.update(num_workers=0, num_threads=1, prefetch=1)
    assert data.benchmark_data(config, seconds=0.01).record["source"] == data.PHOTOS
    config.data.kind = "questions"
    with pytest.raises(ConfigError, match="config.data.source is not set"):
        data.benchmark_data(config, seconds=0.01)


@pytest.fixture(scope="module")
def topology_report():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(topology, "topology_devices", lambda name: jax.devices())
        return topology.benchmark_topology(without_names(), topology="v5e:2x4", largest=200)


def test_topology_report(topology_report):
    report = topology_report
    assert report.record["model"]["dtype"] == "bfloat16"
    assert report.record["collective_bytes"]["all-gather u8"] == 3 * tiny.SIZE**2 * tiny.BATCH, (
        "the negatives' images, once"
    )
    assert "all-gather u8[8,16,16,3]" in format_report(report)


def test_topology_report_says_what_lies_and_travels_where(topology_report):
    record = topology_report.record
    parts = record["memory_bytes"]
    # Both moments beside the parameters, and the count of the steps.
    assert 2 * parts["parameters"] <= parts["moments"] <= 2 * parts["parameters"] + 100
    assert parts["peak"] > parts["parameters"] and parts["averages and other state"] == 0
    along = {tuple(c["axes"]): c["kind"] for c in record["collectives_by_axis"]}
    assert {("fsdp",), ("data", "fsdp")} <= along.keys()
    kinds = sum(record["collective_bytes"].values())
    assert kinds == sum(c["bytes"] for c in record["collectives_by_axis"])
    bounds = record["seconds_at_least"]
    flops = 3 * model_flops(without_names().model).pretrain * tiny.BATCH / 8
    assert bounds["arithmetic"] == pytest.approx(flops / 197e12) and min(bounds.values()) > 0
    assert "advice" in format_report(topology_report)


def test_search_counts_every_split(monkeypatch):
    monkeypatch.setattr(topology, "topology_devices", lambda name: jax.devices())
    report = topology.search_topology(without_names(), topology="v5e:2x4")
    meshes = [tuple(split["mesh"].values()) for split in report.record["splits"]]
    # Heads are two, and the batch is eight.
    assert sorted(meshes) == [
        (1, 4, 2),
        (1, 8, 1),
        (2, 2, 2),
        (2, 4, 1),
        (4, 1, 2),
        (4, 2, 1),
        (8, 1, 1),
    ]
    state = {tuple(split["mesh"].values()): split["state"] for split in report.record["splits"]}
    assert state[8, 1, 1] == pytest.approx(8 * state[1, 8, 1], rel=0.01)
    sent = {tuple(split["mesh"].values()): split["sent"] for split in report.record["splits"]}
    assert sent[8, 1, 1] < sent[4, 2, 1] < sent[1, 8, 1]
    with pytest.raises(ConfigError, match="nothing is known of its chips"):
        topology.search_topology(without_names(), topology="eight CPUs")
    with pytest.raises(ConfigError, match="no mesh of 8 chips takes config.batch_size=9"):
        topology.search_topology(without_names(batch_size=9), topology="v5e:2x4")


def test_what_grows_with_the_chips():
    config = without_names()
    config.mesh.update(data=-1, fsdp=2, tensor=1)
    report = scaling.count_scaling(config, topology="v5e", rows=4)
    first, *_, last = report.record["sent"]
    assert (first["chips"], last["chips"]) == (16, 1024)
    assert report.record["grows"] == ["features", "negatives"]
    assert last["features"] == 64 * first["features"]
    assert last["weights"] == first["weights"] > 0
    assert last["gradients"] < 1.1 * first["gradients"]
    config.task.negative_groups = 4  # of four chips each
    report = scaling.count_scaling(config, topology="v5e", rows=4)
    assert report.record["grows"] == ["features"]
    assert {sent["negatives"] for sent in report.record["sent"]} == {first["negatives"] / 4}
    with pytest.raises(ConfigError, match="nothing is known of its chips to count by"):
        scaling.count_scaling(config, topology="eight CPUs", rows=4)


def test_step_that_does_not_fit_is_said_in_one_line():
    class Program:
        def compile(self):
            raise jax.errors.JaxRuntimeError(
                "RESOURCE_EXHAUSTED: Used 20.1G of 15.75G hbm.\nmore\nmore\nmuch more"
            )

    with pytest.raises(ConfigError, match="20.1G of 15.75G.*accumulation=2") as refusal:
        topology._compile(Program())
    assert "much more" not in str(refusal.value)


def test_a_program_that_xla_cannot_write_ends_in_one_line():
    class Compiled:
        def as_text(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: RET_CHECK failure\nmore")

    memory = jax.jit(lambda x: x + 1).lower(1.0).compile().memory_analysis()
    with pytest.raises(topology.UnwritableProgramError, match="for v6e:4x4 .* RET_CHECK failure;"):
        topology._text(Compiled(), "v6e:4x4", memory)


def test_topology_says_what_to_install(monkeypatch):
    monkeypatch.setattr(targets.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"libtpu.*pip install -e '\.\[tpu\]'"):
        topology.benchmark_topology(without_names(), topology="v5e:4x4")


REFUSED = [
    (
        ["fly", "--config=configs/stage3.py"],
        "'fly' is no benchmark; name one of train, peer, encode, input, topology, search",
    ),
    ([], "'nothing' is no benchmark"),
    (["train"], "train needs a recipe"),
    (["search", "--vectors=5"], "--top_k=10 must be at most --vectors=5"),
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
