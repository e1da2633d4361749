import json

import pytest

from vlmo_jax.datasets import build, sources


@pytest.fixture
def photos(tmp_path, encoded_image):
    """Eight images with captions, of which one is missing, one broken, one without a caption."""
    folder = tmp_path / "photos"
    folder.mkdir()
    rows = []
    for i in range(8):
        (folder / f"{i}.png").write_bytes(encoded_image(i))
        rows.append({"image": f"/elsewhere/photos/{i}.png", "text": f"photo {i}"})
    (folder / "1.png").unlink()
    (folder / "2.png").write_bytes(b"")
    rows[3]["text"] = " "
    (folder / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_both_roads_give_the_same_records(photos, tmp_path, capsys):
    flags = ["--max_broken=0.5"]
    build.main([str(photos), str(tmp_path / "plain"), *flags])
    plain = capsys.readouterr().out
    build.main([str(photos), str(tmp_path / "units"), "--format=folder", "--workers=1", *flags])
    units = capsys.readouterr().out
    one, two = (sources.open_source(str(tmp_path / name), "train") for name in ("plain", "units"))
    assert list(one) == list(two) and len(one) == 5
    left_out = (tmp_path / "plain/left_out.tsv").read_text()
    assert left_out == (tmp_path / "units/left_out.tsv").read_text() and "2.png\t" in left_out
    notes = [line for line in plain.splitlines() if line.startswith("Note: ")]
    assert notes and notes == [line for line in units.splitlines() if line.startswith("Note: ")]
    manifest = json.loads((tmp_path / "units/manifest.json").read_text())
    assert [file["path"] for file in manifest["sources"]] == ["captions.jsonl"]


@pytest.mark.parametrize("road", [[], ["--format=folder", "--workers=1"]])
def test_a_name_that_is_no_text_is_left_out(photos, tmp_path, road, capsys):
    (photos / "captions.jsonl").unlink()
    (photos / "4.png").rename(photos / "\udcff.png")
    build.main([str(photos), str(tmp_path / "out"), "--max_broken=0.9", *road])
    assert "\\udcff.png: its name is no UTF-8; rename it" in capsys.readouterr().out
    assert "\\udcff.png\tits name" in (tmp_path / "out/left_out.tsv").read_text()


def test_options(photos, tmp_path):
    out = tmp_path / "out"
    options = ["captions=none", "split=train=0.5,test=0.5", "seed=1"]
    flags = ["--max_broken=0.5", *(f"--option={option}" for option in options)]
    build.main([str(photos), str(out), "--format=folder", "--workers=1", *flags])
    assert sources.kind_of(str(out)).marker == "bare_images"
    assert set(sources.split_sizes(str(out))) == {"train", "test"}
    with pytest.raises(SystemExit, match="--option seed=x: give a whole number"):
        build.main([str(photos), str(out), "--format=folder", "--option=seed=x"])
