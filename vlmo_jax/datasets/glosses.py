"""Builds the embedded data set of English texts: python -m vlmo_jax.datasets.glosses SRC OUT

SRC holds `wordnet.txt.gz` (a gloss of WordNet 3.0 with its examples a line), `kjv.txt.gz` (a verse
of the King James Bible a line) and `austen.txt.gz` (a paragraph of Jane Austen's novels a line). A
slice of each is taken, small enough to ship:

- WordNet: single lines from all over it, every eighth for `train`, one of 150 others for
`validation`. - the Bible and the novels: runs of 16 lines, so that text goes on for a while; every
seventh for `train`, one of a
  hundred others for `validation`.

A text that comes again is left out, so that `validation` has none of `train`. Ids are
"wordnet:LINE" and so on. What the package ships in vlmo_jax/datasets/embedded/glosses was made with
this command; the README there has the details.
"""

import pathlib
from collections.abc import Iterator, Sequence

from vlmo_jax.datasets import build_text, embedding, records, writer
from vlmo_jax.datasets.readers import text_files

BOOKS = ("wordnet", "kjv", "austen")
_RUN = 16
_DESCRIPTION = (
    "English texts: glosses and examples of WordNet 3.0, verses of the King James Bible, paragraphs"
    " of Jane Austen."
)
_LICENSE = (
    "WordNet 3.0 licence for ids that begin with wordnet, public domain otherwise; see the NOTICE"
    " of the vlmo_jax package."
)


def build_glosses(
    source: pathlib.Path, out: pathlib.Path, *, overwrite: bool = False
) -> dict[str, int]:
    """Builds the data set.

    Args:
        source: the folder described in the docstring of the module.
        out: where the data set goes.
        overwrite: replace a data set that is already there.

    Returns:
        {split: number of records}.

    Raises:
        FileNotFoundError: a file of `source` is missing.
        FileExistsError: as `writer.DatasetWriter`.
        ValueError: a file cannot be read.
    """
    counts: dict[str, int] = {}
    with writer.DatasetWriter(
        out, kind=records.TEXTS, description=_DESCRIPTION, license=_LICENSE, overwrite=overwrite
    ) as dataset:
        seen: set[str] = set()
        for split in ("train", "validation"):
            texts = {text: text_id for text_id, text in _texts(source, split) if text not in seen}
            for text, text_id in texts.items():
                for number, passage in enumerate(
                    text_files.cut_passages(text, build_text.PASSAGE_LENGTH)
                ):
                    dataset.write(
                        split,
                        records.TextRecord(passage, f"{text_id}.{number}" if number else text_id),
                    )
                    counts[split] = counts.get(split, 0) + 1
            seen |= texts.keys()
    return counts


def split_of(book: str, line: int) -> str | None:
    """Returns the split of a line, counted from 1, of a book; None if it is left out."""
    if book == "wordnet":
        return "train" if line % 8 == 1 else "validation" if line % 150 == 3 else None
    run = (line - 1) // _RUN
    return "train" if run % 7 == 0 else "validation" if run % 100 == 3 else None


def _texts(source: pathlib.Path, split: str) -> Iterator[tuple[str, str]]:
    for book in BOOKS:
        path = source / f"{book}.txt.gz"
        with open(path, "rb") as file:
            for line, text in text_files.read_documents(path, file, "lines"):
                if text and split_of(book, line) == split:
                    yield f"{book}:{line}", text


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, builds, and says what was written."""
    embedding.build_embedded(
        build_glosses,
        argv,
        name="glosses",
        description=__doc__,
        holds=f"{', '.join(BOOKS)} as .txt.gz",
        unit="texts",
    )


if __name__ == "__main__":
    main()
