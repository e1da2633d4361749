import errno
import json
import os

import pytest

from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets import build, check, sources, splits


@pytest.fixture
def folder(tmp_path, encoded_image):
    """Twenty images in two folders with a JSONL of captions."""
    source = tmp_path / "photos"
    rows = []
    for i in range(20):
        path = source / f"part{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded_image(i, "JPEG"))
        rows.append({"image": f"part{i % 2}/{i}.jpg", "text": f"photo number {i}"})
    _write_captions(source, rows)
    return source


def _write_captions(source, rows):
    (source / "captions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _read_captions(source):
    return [json.loads(line) for line in (source / "captions.jsonl").read_text().splitlines()]


def test_folder_becomes_a_data_set(folder, tmp_path):
    (folder / "unused.png").write_bytes(b"")
    report = build.build_dataset(folder, tmp_path / "out")
    assert report == build.BuildReport({"train": 20}, {}, 0, 1)
    records = sources.open_source(str(tmp_path / "out"), "train")
    assert [record.image_id for record in records] == [
        row["image"] for row in _read_captions(folder)
    ]
    assert all(record.image == (folder / record.image_id).read_bytes() for record in records)
    assert records[3].texts == ("photo number 3",)


def test_splits_of_the_captions_file_hold_unless_others_are_asked_for(folder, tmp_path):
    _write_captions(
        folder,
        [
            row | {"split": "val" if i < 5 else "train"}
            for i, row in enumerate(_read_captions(folder))
        ],
    )
    assert build.build_dataset(folder, tmp_path / "a").counts == {"val": 5, "train": 15}
    assert build.build_dataset(folder, tmp_path / "b", splits="test").counts == {"test": 20}


def test_shares_are_drawn_by_seed(folder, tmp_path):
    ids = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        out = tmp_path / name
        report = build.build_dataset(
            folder, out, splits={"train": 0.75, "validation": 0.25}, seed=seed
        )
        assert report.counts == {"train": 15, "validation": 5}
        ids[name] = {
            split: [r.image_id for r in sources.open_source(str(out), split)]
            for split in report.counts
        }
        assert len(set(ids[name]["train"] + ids[name]["validation"])) == 20
    assert ids["a"] == ids["b"] != ids["c"]


def test_unusable_images_are_left_out_and_listed(folder, tmp_path):
    (folder / "part0/2.jpg").write_bytes((folder / "part0/2.jpg").read_bytes()[:200])
    (folder / "part1/3.jpg").unlink()
    rows = _read_captions(folder)
    rows[4]["text"] = "  "
    _write_captions(folder, rows)
    report = build.build_dataset(folder, tmp_path / "out", max_broken=0.15)
    assert report.counts == {"train": 17} and report.blank_captions == 1
    assert set(report.left_out) == {"part0/2.jpg", "part1/3.jpg", "part0/4.jpg"}
    assert (
        "no such file" in report.left_out["part1/3.jpg"]
        and report.left_out["part0/4.jpg"] == "no caption"
    )
    listed = (tmp_path / "out/left_out.tsv").read_text().splitlines()
    assert [line.split("\t")[0] for line in listed] == list(report.left_out)
    with pytest.raises(
        ValueError, match="(?s)3 of 20.*--max_broken 10.00%.*part1/3.jpg: no such file"
    ):
        build.build_dataset(folder, tmp_path / "stopped", max_broken=0.1)
    assert not (tmp_path / "stopped").exists() and not list(tmp_path.glob(".*"))


def test_a_split_left_with_no_image_is_refused(folder, tmp_path):
    (folder / "part0/0.jpg").write_bytes(b"")
    _write_captions(
        folder,
        [row | {"split": "train" if i else "test"} for i, row in enumerate(_read_captions(folder))],
    )
    with pytest.raises(ValueError, match="no image is left for split test"):
        build.build_dataset(folder, tmp_path / "out", max_broken=0.5)


def test_captions_of_another_folder_are_refused(folder, tmp_path):
    _write_captions(folder, [{"image": "elsewhere/99.jpg", "text": "x"}])
    with pytest.raises(ValueError, match="names no image of .*elsewhere/99.jpg.*for example .part"):
        build.build_dataset(folder, tmp_path / "out")


def test_linked_folders_are_read_once(folder, tmp_path):
    (folder / "part0" / "back").symlink_to(folder)
    assert build.build_dataset(folder, tmp_path / "out").counts == {"train": 20}


@pytest.mark.parametrize(
    "argument, expected",
    [
        ("test", "test"),
        ("train=0.9,validation=0.1", {"train": 0.9, "validation": 0.1}),
        ("train=1", {"train": 1.0}),
    ],
)
def test_split_argument(argument, expected):
    assert splits.parse_splits(argument) == expected


@pytest.mark.parametrize(
    "argument",
    [
        "train=0.9,val=0.2",
        "train=0.9,val",
        "train,val",
        "a=0.5,a=0.5",
        "a=1.5,b=-0.5",
        "a b",
        "a=x",
        "",
    ],
)
def test_bad_split_arguments_are_refused(argument):
    with pytest.raises(ValueError, match="split"):
        splits.parse_splits(argument)


def test_command_says_what_was_written_and_what_is_next(folder, tmp_path, capsys):
    out = tmp_path / "out"
    build.main([str(folder), str(out), "--split", "train=0.5,test=0.5"])
    assert (
        f"Wrote 20 images (train 10, test 10) to {out}. Next: python -m vlmo_jax.datasets.stats"
        f" {out}" in capsys.readouterr().out
    )
    with pytest.raises(SystemExit, match="already exists"):
        build.main([str(folder), str(out)])


def test_paths_of_another_machine_are_matched_and_counted(folder, tmp_path):
    rows = _read_captions(folder)
    _write_captions(folder, [row | {"image": f"D:\\\\x\\\\{row['image']}"} for row in rows])
    report = build.build_dataset(folder, tmp_path / "out")
    assert report.counts == {"train": 20} and not report.left_out
    assert report.notes[0].startswith("20 of 20 paths were matched inside another folder")


def test_a_folder_of_images_alone_is_for_stage_1(folder, tmp_path):
    (folder / "captions.jsonl").unlink()
    report = build.build_dataset(folder, tmp_path / "out")
    assert report.counts == {"train": 20} and "no captions" in report.notes[0]
    images = sources.open_image_source(str(tmp_path / "out"), "train")
    assert len(images) == 20 and images[0].texts == ()
    with pytest.raises(ValueError, match="holds images without captions, not images with captions"):
        sources.open_source(str(tmp_path / "out"), "train")
    assert not check.check_dataset(str(tmp_path / "out"))["train"].broken


@pytest.mark.parametrize("name", ["x" * 300, "a-b", "a\nb", "all"])
def test_odd_names_of_splits_are_refused(name):
    with pytest.raises(UserError, match="split"):
        splits.parse_splits(name)


def test_too_many_open_files_are_no_broken_images(folder, tmp_path, monkeypatch):
    def refuse(path):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(OSError, match="Too many open files"):
        build.build_dataset(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
