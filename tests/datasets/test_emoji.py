import io
import json
import tarfile

import pytest

from vlmo_jax.datasets import emoji, images, sources

ARTISTS = {
    "twemoji": 1892,
    "noto": 1653,
    "noto-blob": 1226,
    "fluent-flat": 1594,
    "fluent-3d": 1852,
    "emojione2": 1328,
    "fxemoji": 466,
}


@pytest.fixture
def drawings(tmp_path, encoded_image):
    """A folder laid out like the source: 3 artists, 6 concepts, noto's last drawing repeats the one
    before.
    """
    source = tmp_path / "source"
    source.mkdir()
    lines = []
    for artist in ("noto", "other", "twemoji"):
        with tarfile.open(source / f"{artist}.tar", "w") as tar:
            for i in range(6):
                data = encoded_image(min(i, 4) if artist == "noto" else i, "WEBP")
                member = tarfile.TarInfo(f"{i}.webp")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                lines.append(
                    {
                        "artist": artist,
                        "file": f"{i}.webp",
                        "codepoints": f"C{i}",
                        "duplicate_of": "noto/4" if (artist, i) == ("noto", 5) else None,
                    }
                )
    (source / "images.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (source / "concepts.jsonl").write_text(
        "".join(
            json.dumps(
                {
                    "codepoints": f"C{i}",
                    "name": f"concept {i}",
                    "keywords": [f"k{i}"],
                    "group": "even" if i % 2 == 0 else "odd",
                    "subgroup": "small" if i < 3 else "large",
                }
            )
            + "\n"
            for i in range(6)
        )
    )
    return source


def test_splits_keep_artist_and_concepts_apart(drawings, tmp_path):
    counts = emoji.build_emoji(drawings, tmp_path / "out", unseen_concepts=2)
    assert counts == {"train": 7, "unseen_concepts": 2, "unseen_artist": 6}
    train, concepts, artist = (
        list(sources.open_source(str(tmp_path / "out"), split)) for split in counts
    )
    assert {record.image_id for record in artist} == {f"twemoji/{i}" for i in range(6)}
    assert {record.image_id.split("/")[0] for record in concepts} == {"noto"}
    assert not {record.texts for record in concepts} & {record.texts for record in train}
    assert not {"noto/4", "noto/5"} & {record.image_id for record in concepts}
    assert "noto/5" not in {record.image_id for record in train}
    assert train[0].keywords == ("k" + train[0].texts[0][-1],)
    assert json.loads((tmp_path / "out" / emoji.GROUPS).read_text()) == {
        "even": {"small": ["concept 0", "concept 2"], "large": ["concept 4"]},
        "odd": {"small": ["concept 1"], "large": ["concept 3", "concept 5"]},
    }


def test_a_broken_drawing_stops_the_build(drawings, tmp_path):
    tar = drawings / "other.tar"
    data = bytearray(tar.read_bytes())
    start = data.index(b"WEBP")
    data[start : start + 40] = bytes(40)
    tar.write_bytes(data)
    with pytest.raises(ValueError, match="image other/0"):
        emoji.build_emoji(drawings, tmp_path / "out", unseen_concepts=2)
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def embedded():
    return {
        split: list(sources.open_source("emoji", split)) for split in sources.split_sizes("emoji")
    }


def test_embedded_splits(embedded):
    assert {split: len(records) for split, records in embedded.items()} == {
        "train": 7620,
        "unseen_concepts": 100,
        "unseen_artist": 1892,
    }
    train_names = {record.texts for record in embedded["train"]}
    assert not train_names & {record.texts for record in embedded["unseen_concepts"]}
    assert {record.image_id.split("/")[0] for record in embedded["unseen_artist"]} == {"twemoji"}
    assert {record.image_id.split("/")[0] for record in embedded["unseen_concepts"]} == {"noto"}
    assert {record.image_id.split("/")[0] for record in embedded["train"]} == set(ARTISTS) - {
        "twemoji"
    }
    ids = [record.image_id for records in embedded.values() for record in records]
    assert len(set(ids)) == len(ids)


def test_embedded_captions(embedded):
    for split in ("unseen_artist", "unseen_concepts"):
        names = [record.texts for record in embedded[split]]
        assert all(len(texts) == 1 and texts[0].strip() for texts in names) and len(
            set(names)
        ) == len(names)
    assert sum(bool(record.keywords) for record in embedded["train"]) > 7500


def test_every_embedded_concept_has_a_group(embedded):
    groups = json.loads((sources.EMBEDDED["emoji"] / emoji.GROUPS).read_text(encoding="utf-8"))
    grouped = [
        name for subgroups in groups.values() for names in subgroups.values() for name in names
    ]
    drawn = {record.texts[0] for records in embedded.values() for record in records}
    assert len(grouped) == len(set(grouped)) == 1914 and drawn == set(grouped)


def test_embedded_images_decode(embedded):
    for record in (
        embedded["unseen_concepts"] + embedded["train"][::20] + embedded["unseen_artist"][::20]
    ):
        assert images.decode_image(record.image).size == (64, 64)


def test_embedded_files_are_small_and_carry_their_licences():
    folder = sources.EMBEDDED["emoji"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 12 * 2**20
    notice = (folder / "NOTICE").read_text()
    assert (
        all(artist in notice for artist in ARTISTS)
        and "Unicode" in notice
        and "Princeton" in notice
    )
    for licence in ("Apache-2.0", "MIT", "Unicode-3.0", "WordNet-3.0"):
        assert (
            f"licenses/{licence}.txt" in notice
            and (folder / "licenses" / f"{licence}.txt").stat().st_size > 500
        )
