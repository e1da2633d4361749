import gzip

import pytest

from vlmo_jax.datasets import glosses, sources


@pytest.fixture
def books(tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    for book in glosses.BOOKS:
        with gzip.open(source / f"{book}.txt.gz", "wt") as file:
            file.writelines(f"{book} says {i if i != 3 else 1} things\n" for i in range(1, 2001))
    return source


def test_splits_keep_texts_apart(books, tmp_path):
    counts = glosses.build_glosses(books, tmp_path / "out")
    train, validation = (
        list(sources.open_text_source(str(tmp_path / "out"), split)) for split in counts
    )
    assert counts == {"train": 250 + 2 * 287, "validation": len(validation)}
    assert not {record.text for record in train} & {record.text for record in validation}
    ids = [record.text_id for record in train + validation]
    assert len(set(ids)) == len(ids)
    assert "wordnet:3" not in ids  # the third lines repeat the first ones
    assert [record.text_id for record in validation if record.text_id.startswith("kjv")] == [
        f"kjv:{i}" for i in [*range(49, 65), *range(1649, 1665)]
    ]


def test_a_missing_book_leaves_nothing(books, tmp_path):
    (books / "kjv.txt.gz").unlink()
    with pytest.raises(FileNotFoundError, match="kjv.txt.gz"):
        glosses.build_glosses(books, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.fixture(scope="module")
def embedded():
    return {
        split: list(sources.open_text_source("glosses", split))
        for split in sources.split_sizes("glosses")
    }


def test_embedded_splits(embedded):
    assert {split: len(records) for split, records in embedded.items()} == {
        "train": 24999,
        "validation": 1147,
    }
    texts = {split: {record.text for record in records} for split, records in embedded.items()}
    assert not texts["train"] & texts["validation"]
    for records in embedded.values():
        assert {record.text_id.split(":")[0] for record in records} == set(glosses.BOOKS)
        assert all(
            record.text == " ".join(record.text.split()) and 0 < len(record.text) <= 1000
            for record in records
        )


def test_embedded_files_are_small_and_carry_their_licences():
    folder = sources.EMBEDDED_TEXTS["glosses"]
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) <= 2_000_000
    notice = (folder / "NOTICE").read_text()
    assert all(book in notice for book in glosses.BOOKS) and "Princeton" in notice
    assert (
        "licenses/WordNet-3.0.txt" in notice
        and "without fee" in (folder / "licenses" / "WordNet-3.0.txt").read_text()
    )
