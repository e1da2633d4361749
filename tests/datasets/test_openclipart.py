import io
import json
import tarfile

import pytest
from PIL import Image

from vlmo_jax.datasets import openclipart, sources


@pytest.fixture
def drawings(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    lines = []
    with tarfile.open(source / "images.tar", "w") as tar:
        for number in range(30):
            data = io.BytesIO()
            Image.new("RGB", (8, 8), (number, 0, 0)).save(data, "WEBP")
            info = tarfile.TarInfo(f"frog{number}.webp")
            info.size = len(data.getvalue())
            tar.addfile(info, io.BytesIO(data.getvalue()))
            lines.append(
                dict(
                    file=info.name,
                    title=f"frog {number}",
                    description="a \n frog" if number == 1 else "",
                    keywords=["green", "animals"],
                    category="animals/small_frogs",
                    license="PD" if number != 7 else "CC",
                )
            )
    (source / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return source


def test_public_domain_drawings_are_split(drawings, tmp_path):
    counts = openclipart.build_openclipart(drawings, tmp_path / "out")
    assert counts == {"train": 27, "validation": 2}
    train = list(sources.open_source(str(tmp_path / "out"), "train"))
    assert train[0].image_id == "frog1" and train[0].texts == ("frog 1", "a frog")
    assert train[1].texts == ("frog 2",) and train[1].keywords == (
        "green",
        "animals",
        "small frogs",
    )
    assert "frog7" not in {record.image_id for record in train}
    assert [
        record.image_id for record in sources.open_source(str(tmp_path / "out"), "validation")
    ] == ["frog0", "frog26"]


def test_a_broken_drawing_is_named_and_nothing_is_left(drawings, tmp_path):
    with pytest.raises(ValueError, match="image frog is broken"):
        openclipart.make_record(
            dict(file="frog.webp", title="", description="", keywords=[], category=""), b"no image"
        )
    (drawings / "images.tar").write_bytes(b"")
    with pytest.raises(tarfile.ReadError):
        openclipart.build_openclipart(drawings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_embedded_data_set():
    assert sources.split_sizes("openclipart") == {"validation": 99, "train": 2357}
    records = [
        record
        for split in ("train", "validation")
        for record in sources.open_source("openclipart", split)
    ]
    assert len({record.image_id for record in records}) == 2456
    assert all(record.texts for record in records) and all(
        text == text.strip() for record in records for text in record.texts
    )
    folder = sources.EMBEDDED["openclipart"]
    assert sum(path.stat().st_size for path in folder.iterdir()) < 5_200_000
    assert "public domain" in " ".join((folder / "NOTICE").read_text().split())
