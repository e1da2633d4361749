"""The chain and the comparison: their settings, tables and pages, and runs that fail."""

import json

import numpy as np
import pytest
from PIL import Image

from vlmo_jax.commands.command_line import read_config
from vlmo_jax.commands.recipe_files import project_recipes
from vlmo_jax.experiments import chain, compare
from vlmo_jax.experiments.runs import RunStoppedError, Usage, read_settings, run_recipe
from vlmo_jax.experiments.summary_page import Section, summary_page
from vlmo_jax.reports import curves


def test_settings_go_to_their_stage():
    settings = chain.read_settings(
        ["stage1.steps=3", "stage1.data.source=a=b", "stage3.optimizer.betas=(0.9,0.95)"]
    )
    assert settings["stage1"] == {"steps": "3", "data.source": "a=b"} and settings["stage2"] == {}
    assert settings["stage3"] == {"optimizer.betas": "(0.9,0.95)"}
    for wrong in ("steps=3", "stage4.steps=3", "stage1.steps"):
        with pytest.raises(
            ValueError,
            match=(
                f"--set={wrong} is not STAGE.FIELD=VALUE with a STAGE of tokenizer, stage1, stage2,"
                " stage3"
            ),
        ):
            chain.read_settings([wrong])
    assert read_settings(["steps=3", "data.source=x"]) == {"steps": "3", "data.source": "x"}
    with pytest.raises(ValueError, match="--set=steps is not FIELD=VALUE"):
        read_settings(["steps"])


@pytest.mark.parametrize(
    "settings, size, message",
    [
        (
            ["stage3.batchsize=3"],
            None,
            '--config=stage3 .*--config.batchsize=3: .* Did you mean "batch_size"',
        ),
        (["stage2.steps=many"], None, "--config.steps=many"),
        (
            ["tokenizer.data.source=emoji", "stage1.data.source=emoji"],
            "base",
            "config.data.source is not set; .*here it is --set=stage2.FIELD",
        ),
        (
            ["stage3.tokenizer="],
            None,
            "config.tokenizer is not set; .*here it is --set=stage3.FIELD",
        ),
        ([], "huge", "configs/stage1.py:huge: size 'huge' is unknown; use one of tiny, base"),
    ],
)
def test_wrong_settings_are_refused_before_any_stage_runs(tmp_path, settings, size, message):
    with pytest.raises(ValueError, match=message):
        chain.run_chain(tmp_path / "chain", size=size, settings=settings)
    assert not (tmp_path / "chain").exists()


def test_the_tokenizer_has_the_codes_of_stage_1_at_every_size():
    tokenizer, stage1 = chain.STAGES[:2]
    for size in (None, "tiny", "base", "base,384", "large"):
        codes = [
            read_config(chain.stage_recipe(stage, size), {}).model.vocab_size
            for stage in (tokenizer, stage1)
        ]
        assert codes[0] == codes[1]


def test_time_of_a_stage_adds_up_over_its_starts(tmp_path, monkeypatch):
    starts = []

    def run(recipe, workdir, settings):
        starts.append(workdir.name)
        usage = Usage(10.0, len(starts))
        if len(starts) == 2:
            raise RunStoppedError("stopped", 143, usage)
        return usage

    monkeypatch.setattr(chain, "run_recipe", run)
    with pytest.raises(RunStoppedError):
        chain.run_chain(tmp_path)
    usage = chain.run_chain(tmp_path)
    assert starts == ["tokenizer", "stage1", "tokenizer", "stage1", "stage2", "stage3"]
    assert {name: (taken["seconds"], taken["peak_bytes"]) for name, taken in usage.items()} == {
        "tokenizer": (20.0, 3),
        "stage1": (20.0, 4),
        "stage2": (10.0, 5),
        "stage3": (10.0, 6),
    }
    assert json.loads((tmp_path / "chain.json").read_text()) == usage


def test_every_stage_has_a_recipe_and_starts_from_one_before():
    names = [stage.name for stage in chain.STAGES]
    for number, stage in enumerate(chain.STAGES):
        assert stage.config in project_recipes()
        assert set(stage.starts.values()) <= set(names[:number])


def test_a_run_that_fails_stops_the_chain(tmp_path, capfd):
    with pytest.raises(
        RunStoppedError,
        match=(
            "configs/stage3.py failed with status 1, for the reason above; the same command goes on"
        ),
    ) as stop:
        run_recipe("configs/stage3.py", tmp_path, {"batch_size": 0})
    assert (
        stop.value.status == 1
        and "config.batch_size=0 must be more than 0" in capfd.readouterr().err
    )


def test_a_comparison_without_a_checkpoint_runs_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit):
        compare.main([f"--init_from={tmp_path}", f"--workdir={tmp_path / 'compare'}"])
    assert f"error: no checkpoint in {tmp_path}" in capsys.readouterr().err


def write_run(folder, scale):
    folder.mkdir()
    with open(folder / "metrics.jsonl", "w") as file:
        for step in (10, 20):
            values = {
                "train/loss": scale / step,
                "train/learning_rate": 1.0,
                "eval/drawings/text_to_image_recall_at_1": scale * step / 1000,
            }
            file.write(
                json.dumps({"step": step, **values, "eval/drawings/mean_recall": scale / 100})
                + "\n"
            )
    return folder


def test_table_of_a_comparison(tmp_path):
    runs = {
        kind: [write_run(tmp_path / f"{kind}{n}", scale + n) for n in (0, 2)]
        for kind, scale in (("a", 1), ("b", 4))
    }
    ends = {
        kind: [compare.last_values(folder) for folder in folders] for kind, folders in runs.items()
    }
    assert {step for values in ends.values() for _, step in values} == {20}
    table = compare.format_table(
        {kind: [values for values, _ in pairs] for kind, pairs in ends.items()}
    ).splitlines()
    assert table[0] == "| | from a | from b |"
    assert table[2:] == [
        "| loss | 0.10 ± 0.07 | 0.25 ± 0.07 |",
        "| drawings, text to image recall at 1 | 4.00 ± 2.83 % | 10.00 ± 2.83 % |",
        "| drawings, mean recall | 2.00 ± 1.41 % | 5.00 ± 1.41 % |",
    ]
    with open(tmp_path / "a2" / "metrics.jsonl", "a") as file:  # where a signal stopped the run
        file.write(json.dumps({"step": 13, "train/loss": 1.0, "train/other_loss": 1.0}) + "\n")
    curves.compare_losses(
        {kind: [f / "metrics.jsonl" for f in folders] for kind, folders in runs.items()},
        tmp_path / "c.png",
    )
    pixels = np.asarray(Image.open(tmp_path / "c.png").convert("RGB")).reshape(-1, 3)
    for color in ((0x25, 0x63, 0xEB), (0xD9, 0x77, 0x06)):
        assert (pixels == color).all(-1).sum() > 100


def test_summary_shows_every_page_at_most_as_wide_as_itself(tmp_path):
    Image.new("RGB", (2800, 100), (255, 0, 0)).save(tmp_path / "wide.png")
    Image.new("RGB", (100, 50), (0, 0, 255)).save(tmp_path / "small.png")
    sections = [
        Section("one", [tmp_path / "wide.png", tmp_path / "small.png"]),
        Section("two", [tmp_path / "small.png"]),
    ]
    summary_page(sections, tmp_path / "summary.png")
    pixels = np.asarray(Image.open(tmp_path / "summary.png"))
    assert pixels.shape[1] == 1400
    assert (pixels == (0, 0, 255)).all(-1).sum() == 2 * 100 * 50
    assert (pixels == (255, 0, 0)).all(-1).sum() > 1300 * 40
    with pytest.raises(FileNotFoundError, match="nothing.png"):
        summary_page([Section("three", [tmp_path / "nothing.png"])], tmp_path / "summary.png")
