"""Official forms from the download to the check, by the commands alone."""

import json
import re

import numpy as np
import pytest

from tests.datasets.readers import official_files
from vlmo_jax.datasets import build, check, sources, stats


def _build(download, out, form, *flags):
    build.main([str(download), str(out), f"--format={form}", "--workers=1", *flags])


def test_vqav2(tmp_path, capsys):
    download, out = official_files.vqav2(tmp_path / "in"), tmp_path / "out"
    _build(download, out, "vqav2", "--max_broken=0.5")
    assert "train" in capsys.readouterr().out and (out / "answers.txt").is_file()
    for split in sources.split_sizes(str(out)):
        opened = sources.open_records(str(out), split)
        numbers = np.load(out / f"examples-{split}.npy")
        assert numbers.tolist() == [len(record.questions) for record in opened]
    check.main([str(out)])
    with pytest.raises(SystemExit, match="something stands there already"):
        stats.main([str(out), "--picture", str(out / "answers.txt" / "some.png")])
    assert "Spreads" not in capsys.readouterr().out
    stats.main([str(out), "--picture", str(tmp_path / "some.png")])
    assert "Most frequent answers" in capsys.readouterr().out


def test_vqav2_with_another_option(tmp_path):
    download = official_files.vqav2(tmp_path / "in")
    _build(download, tmp_path / "out", "vqav2", "--max_broken=0.5", "--option=splits=plain")
    assert "val" in "".join(sources.split_sizes(str(tmp_path / "out")))
    manifest = json.loads((tmp_path / "out/manifest.json").read_text())
    assert manifest["options"] == {"splits": "plain"}
    assert "--option=splits=plain" in manifest["command"]


def test_nlvr2(tmp_path, capsys):
    download, out = official_files.nlvr2(tmp_path / "in"), tmp_path / "out"
    with pytest.raises(SystemExit, match="more than --max_broken 1.00%; the first was left out"):
        _build(download, out, "nlvr2")
    _build(download, out, "nlvr2", "--max_broken=0.9")
    said = capsys.readouterr().out
    assert "Left out 3 of what was found" in said and "published are 6,982" in said
    assert (out / "subsets.json").is_file()
    version = json.loads((out / "manifest.json").read_text())["versions"]["vlmo-jax"]
    assert re.fullmatch(r"\d+\.\d+.*", version)
    reasons = json.loads((out / "manifest.json").read_text())["left_out"]["reasons"]
    assert reasons["...: there is no such file"] == 1 and reasons["it has no text"] == 1
    check.main([str(out)])
    stats.main([str(out)])
    assert "statements a group" in capsys.readouterr().out
