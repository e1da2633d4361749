import importlib.util
import json
import sys

import pytest

from tests.datasets.building.small_builds import FORMAT, build_small, contents
from vlmo_jax.datasets.building import beam

INSTALLED = importlib.util.find_spec("apache_beam") is not None


def test_without_the_extra_it_is_named(download, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(SystemExit, match=r"--engine=beam needs Apache Beam.*vlmo-jax\[beam\]"):
        build_small(download, tmp_path / "out", "--engine=beam")
    with pytest.raises(SystemExit, match="--workers goes with --engine=processes"):
        build_small(download, tmp_path / "out", "--engine=beam", "--workers=2")
    with pytest.raises(SystemExit, match="--beam_options goes with --engine=beam"):
        build_small(download, tmp_path / "out", "--beam_options=--runner=X")


@pytest.mark.skipif(not INSTALLED, reason="needs the extra beam")
def test_a_pipeline_writes_the_bytes_of_a_process(download, tmp_path):
    (download / "7.png").write_bytes(b"no picture")
    build_small(download, tmp_path / "a/data", "--max_broken=0.1")
    flags = ["--max_broken=0.1", "--engine=beam", "--beam_options=--runner=DirectRunner"]
    build_small(download, tmp_path / "b/data", *flags)
    assert contents(tmp_path / "a/data") == contents(tmp_path / "b/data")


@pytest.mark.skipif(not INSTALLED, reason="needs the extra beam")
def test_what_a_pipeline_cannot_make_is_told_and_the_rest_kept(download, tmp_path, monkeypatch):
    build_unit = beam.build_unit

    def full_disk(reader, work, unit):
        if unit.name == "train-000002":
            raise OSError(28, "No space left on device", "shard")
        return build_unit(reader, work, unit)

    monkeypatch.setattr(beam, "build_unit", full_disk)
    with pytest.raises(SystemExit, match="not make unit train-000002: shard: No space left"):
        build_small(download, tmp_path / "out", "--engine=beam")
    assert len(list((tmp_path / ".out.unfinished/finished").iterdir())) == 6
    monkeypatch.undo()
    build_small(download, tmp_path / "out", "--engine=beam")
    assert json.loads((tmp_path / "out/manifest.json").read_text())["format"] == FORMAT
