"""python -m vlmo_jax.encode: rows and names in step, counts exact, stopped anywhere and gone on."""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile

import numpy as np
import pyarrow.parquet
import pytest

from tests.inference.models import pictures, save_picture
from tests.paths import ROOT
from vlmo_jax.inference.commands import encode
from vlmo_jax.inference.stored import OtherVectorsError, read_vectors

NAMES = ["a/1.png", "a/2.png", "b/3.png", "b/c/4.png", "b/c/5.png"]


@pytest.fixture
def shots(tmp_path):
    """A folder of five pictures, and one that is broken."""
    for name, array in zip(NAMES, pictures(5)):
        (tmp_path / "shots" / name).parent.mkdir(parents=True, exist_ok=True)
        save_picture(tmp_path / "shots" / name, array)
    (tmp_path / "shots" / "b" / "broken.png").write_bytes(b"<html>gone</html>")
    return tmp_path / "shots"


@pytest.fixture(autouse=True)
def loaded(model, monkeypatch):
    """Models are compiled once for all tests here."""
    monkeypatch.setattr("vlmo_jax.inference.loading.load", lambda path, **options: model)


def write_tar(path, files):
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


def run(source, out, folder, *flags):
    encode.main([str(source), str(out), f"--model={folder}", *flags])
    return read_vectors(out)


def test_a_folder_becomes_vectors_with_names(shots, tmp_path, folder, model, capsys):
    vectors, ids = run(shots, tmp_path / "out", folder, "--part_inputs=4")
    wanted = [name.removesuffix(".png") for name in NAMES]
    assert sorted(ids) == wanted and vectors.dtype == np.float32
    rows = dict(zip(wanted, model.encode_image([shots / name for name in NAMES])))
    np.testing.assert_allclose(vectors, [rows[one] for one in ids], rtol=0, atol=1e-6)
    skipped = [json.loads(one) for one in (tmp_path / "out/skipped.jsonl").read_text().splitlines()]
    assert [one["input"] for one in skipped] == ["b/broken"] and "html" in skipped[0][
        "reason"
    ].lower()
    about = json.loads((tmp_path / "out" / "about.json").read_text())
    facts = {name: about[name] for name in ("finished", "rows", "skipped", "parts", "dimension")}
    assert facts == dict(finished=True, rows=5, skipped=1, parts=2, dimension=16)
    assert about["fingerprint"] == model.fingerprint and about["preprocessing"]["image_size"] == 32
    assert "Wrote 5 vectors in 2 parts" in capsys.readouterr().out


def test_a_stopped_command_goes_on_with_what_is_missing(
    shots, tmp_path, folder, capsys, monkeypatch
):
    out, flags = tmp_path / "out", ("--part_inputs=2", "--dtype=float16", "--json")
    vectors, ids = run(shots, tmp_path / "whole", folder, *flags)
    assert vectors.dtype == np.float16

    write, parts = encode._encode, []

    def stopped(chunk, *rest):
        if parts:
            raise KeyboardInterrupt
        parts.append(chunk)
        return write(chunk, *rest)

    monkeypatch.setattr(encode, "_encode", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(shots, out, folder, *flags)
    with pytest.raises(OtherVectorsError, match="is not finished"):
        read_vectors(out)
    (out / "part-00001.npy").write_bytes(b"half of it")  # killed before its names were there
    monkeypatch.undo()
    capsys.readouterr()
    again, names = run(shots, out, folder, *flags)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["made"] for line in lines[:-1]] == [False, True, True]
    assert lines[-1] == {"out": str(out), "rows": 5, "skipped": 1, "parts": 3}
    assert names == ids and (again == vectors).all()


def test_other_inputs_models_and_settings_are_refused(shots, tmp_path, folder):
    out = tmp_path / "out"
    run(shots, out, folder)
    with pytest.raises(OtherVectorsError, match="holds vectors of dtype='float32', and now it is"):
        run(shots, out, folder, "--dtype=float16")
    save_picture(shots / "a" / "new.png", pictures(1)[0])
    with pytest.raises(OtherVectorsError, match="part-00000: the inputs have changed"):
        run(shots, out, folder)
    assert len(run(shots, out, folder, "--restart")[1]) == 6
    with pytest.raises(OtherVectorsError, match="shots holds other files"):
        run(shots, shots, folder)


@pytest.mark.parametrize("name", ["about.json", "part-00000.parquet", "part-00000.npy"])
def test_files_of_others_are_left_alone(shots, tmp_path, folder, name):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / name).write_text("[1]")
    with pytest.raises(OtherVectorsError, match=f"theirs holds other files .{name}.; give a"):
        run(shots, tmp_path / "theirs", folder, "--restart")
    assert [path.name for path in (tmp_path / "theirs").iterdir()] == [name]


def test_names_in_a_list_may_be_no_utf8_and_texts_may_not(shots, tmp_path, folder, monkeypatch):
    odd = os.fsencode(shots) + b"/\xff.png"
    shutil.copy(shots / NAMES[0], odd)
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + odd + b"\n")
    assert run(tmp_path / "list.txt", tmp_path / "1", folder)[1] == [os.fsdecode(odd)]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(odd), encoding="ascii"))
    assert run("-", tmp_path / "2", folder)[1] == [os.fsdecode(odd)]
    (tmp_path / "list.txt").write_bytes("a cat\nein K\u00e4fer\n".encode("latin-1"))
    assert run(tmp_path / "list.txt", tmp_path / "3", folder, "--texts")[1] == ["1"]
    [left] = [json.loads(one) for one in (tmp_path / "3/skipped.jsonl").read_text().splitlines()]
    assert left["input"] == "2" and "halves of characters" in left["reason"]


def test_lists_tars_and_data_sets_are_read(shots, tmp_path, folder, model, monkeypatch):
    paths = tmp_path / "list.txt"
    paths.write_text("shots/a/1.png\nshots/gone.png\nshots/a/1.png\n")
    vectors, ids = run(paths, tmp_path / "1", folder)
    assert ids == ["shots/a/1.png"] * 2
    np.testing.assert_allclose(vectors[0], model.encode_image(shots / "a/1.png")[0], atol=1e-6)

    (tmp_path / "list.jsonl").write_text('{"image": "shots/a/2.png", "id": "two"}\n')
    assert run(tmp_path / "list.jsonl", tmp_path / "2", folder)[1] == ["two"]

    (tmp_path / "tars").mkdir()
    files = {f"{n}.jpg": (shots / NAMES[n]).read_bytes() for n in (0, 1)}
    write_tar(tmp_path / "tars" / "00000.tar", files)
    vectors, ids = run(tmp_path / "tars", tmp_path / "3", folder, "--format=webdataset_images")
    assert ids == ["00000/0", "00000/1"]
    np.testing.assert_allclose(
        vectors, model.encode_image([shots / n for n in NAMES[:2]]), atol=1e-6
    )

    vectors, ids = run("emoji", tmp_path / "4", folder, "--split=unseen_concepts[:3]")
    rows = [json.loads(one) for one in (tmp_path / "4/part-00000.jsonl").read_text().splitlines()]
    assert len(ids) == 3 and rows[0] == {"id": ids[0], "input": "unseen_concepts[:3]/0"}
    table = pyarrow.parquet.read_table(tmp_path / "4/part-00000.parquet")
    assert table.to_pylist() == rows

    monkeypatch.setattr("sys.stdin", io.StringIO("a red heart\n\ntwo cats\n"))
    vectors, ids = run("-", tmp_path / "5", folder, "--texts")
    assert ids == ["1", "3"]
    np.testing.assert_allclose(vectors, model.encode_text(["a red heart", "two cats"]), atol=1e-6)
    texts = run("emoji", tmp_path / "6", folder, "--texts", "--split=unseen_concepts[:2]")[1]
    assert len(texts) >= 2 and all("#" in one for one in texts)


def test_texts_of_what_img2dataset_fetched(shots, tmp_path, folder):
    (tmp_path / "fetched").mkdir()
    (tmp_path / "fetched" / "00000_stats.json").write_text("{}")
    picture = (shots / NAMES[0]).read_bytes()
    files = {"0.jpg": picture, "0.txt": b"a cat", "1.jpg": b"", "1.txt": b"a dog"}
    write_tar(tmp_path / "fetched" / "00000.tar", files)
    run(tmp_path / "fetched", tmp_path / "out", folder, "--texts", "--format=img2dataset")
    about, skipped = (
        (tmp_path / "out" / name).read_text() for name in ("about.json", "skipped.jsonl")
    )
    assert json.loads(about)["rows"] == 1 and json.loads(about)["skipped"] == 1
    assert json.loads(skipped) == {"input": "00000/1", "reason": "the file is empty"}


def test_what_cannot_be_read_is_told(tmp_path, folder):
    (tmp_path / "list.txt").write_text("gone.png\n")
    with pytest.raises(ValueError, match="none of its 1 inputs could be encoded"):
        encode.main([str(tmp_path / "list.txt"), str(tmp_path / "out"), f"--model={folder}"])
    (tmp_path / "list.jsonl").write_text('{"path": "a.png"}\n')
    with pytest.raises(ValueError, match="list.jsonl line 1 has no text 'image'; write"):
        encode.main([str(tmp_path / "list.jsonl"), str(tmp_path / "2"), f"--model={folder}"])

    with pytest.raises(FileNotFoundError, match="nowhere: there is no such file, folder or data"):
        encode.main(["nowhere", str(tmp_path / "3"), f"--model={folder}"])
    (tmp_path / "list.txt").write_text("a text\n")
    assert run(tmp_path / "list.txt", tmp_path / "3", folder, "--texts")[1] == ["1"]


def test_help_comes_at_once():
    command = [sys.executable, "-X", "importtime", "-m", "vlmo_jax.encode", "--help"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0 and "skipped.jsonl lists" in ended.stdout
    assert " jax" not in ended.stderr and "orbax" not in ended.stderr
