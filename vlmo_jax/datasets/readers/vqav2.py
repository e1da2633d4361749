"""VQAv2: questions about COCO's images, each with the answers of ten people.

    SRC/
      v2_OpenEnded_mscoco_train2014_questions.json      and val2014, test2015, test-dev2015
      v2_mscoco_train2014_annotations.json              and val2014
      train2014/COCO_train2014_000000000009.jpg ...     and val2014/, test2015/

The files come from visualqa.org, the images from cocodataset.org. JSON files may lie one folder
down, image folders in images/; whichever of the sets is missing is left out, but questions of
train2014 and val2014 need their annotations.

Splits: train is train2014 and val2014 without 1,000 images of val2014, which are validation. VLMo
holds out as many, by a shuffle without a seed that nobody can repeat; here they are those of the
smallest SHA-256 of "vqav2 validation <image_id>" (a fifth of the images where there are fewer than
5,000). test2015 has no public answers: its predictions go to the server, whole; test_dev is a part
of it, of the same images. `--option splits=plain` gives train2014 and val2014 as they are.

A record is an image with all its questions. answers.txt beside the records lists what a model
chooses from: the normal forms of most frequent answers that stand at least 9 times in train2014 and
val2014, 3,129 of the real files, in the order of the files, on which published heads depend.

Left out, each by name: questions without an annotation or with other than ten answers, annotations
without a question, questions without text, and those of images that are missing.
"""

import hashlib
import json
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any

from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.download_folder import find_file_or_none
from vlmo_jax.datasets.readers.example_records import Asked, QuestionsReader
from vlmo_jax.datasets.readers.findings import Findings
from vlmo_jax.datasets.readers.json_lists import get, read_items, read_member
from vlmo_jax.datasets.readers.plain_text import whole
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.vqa_answers import Annotation, build_vocabulary

HELD_OUT = 1000  # images of val2014
PEOPLE = 10
NUM_ANSWERS = 3129
SUBSETS = ("train2014", "val2014", "test2015", "test-dev2015")
SPLITS = ("standard", "plain")
QUESTIONS_FILE = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS_FILE = "v2_mscoco_{}_annotations.json"


_TEST: dict[str, dict[str, int]] = {
    "test2015": {"questions": 447_793, "images": 81_434},
    "test_dev": {"questions": 107_394, "images": 36_807},
}
_PLAIN = {
    "train2014": {"questions": 443_757, "images": 82_783},
    "val2014": {"questions": 214_354, "images": 40_504},
}
_STANDARD = {
    "train": {"images": 82_783 + 40_504 - HELD_OUT},
    "validation": {"images": HELD_OUT},
}


class VqaV2Reader(QuestionsReader):
    """Reads the official files.

    Args:
        source: the folder of the download.
        splits: one of SPLITS.

    Raises:
        MissingDataError, DataError: there is no such folder, or no such splits.
    """

    description = "VQAv2: questions about images of COCO, each answered by ten people"

    def __init__(self, source: Path, splits: str = "standard") -> None:
        if splits not in SPLITS:
            raise DataError(f"splits={splits} is not known; use one of {', '.join(SPLITS)}")
        super().__init__(source)
        self._plain = splits == "plain"
        self._answers: list[str] = []
        self._asked: dict[str, int] = {}
        self.published = (_PLAIN if self._plain else _STANDARD) | _TEST

    @property
    def notes(self) -> list[str]:
        """As `protocol.Reader`."""
        found = len(self._answers)
        if found in (0, NUM_ANSWERS):
            return []
        return [
            f"{ANSWERS} lists {found:,} answers, where the whole official files give"
            f" {NUM_ANSWERS:,}: heads of published models do not fit"
        ]

    def sources(self) -> list[Path]:
        """See `protocol.Reader`."""
        names = [QUESTIONS_FILE.format(subset) for subset in SUBSETS]
        names += [ANNOTATIONS_FILE.format(subset) for subset in SUBSETS]
        paths = (self._find(name) for name in names)
        return [path for path in paths if path is not None]

    def entries(self) -> Iterator[Entry]:
        """See `protocol.Reader`."""
        found = {subset: self._find(QUESTIONS_FILE.format(subset)) for subset in SUBSETS}
        if not any(found.values()):
            raise MissingDataError(
                f"{self.source} has no questions; put {QUESTIONS_FILE.format('train2014')} there,"
                " or the same of val2014, test2015 or test-dev2015"
            )
        self._findings, self._asked = Findings(), {}
        annotated: list[Annotation] = []
        for subset, path in found.items():
            if path is not None:
                yield from self._entries_of(subset, path, annotated)
        self._answers = build_vocabulary(annotated)

    def _entries_of(self, subset: str, path: Path, annotated: list[Annotation]) -> Iterator[Entry]:
        self.license = self.license or _license(path)
        annotations = self._annotations(subset, annotated)
        images = self._by_image(path, annotations)
        held_out = set()
        if subset == "val2014" and not self._plain:
            held_out = held_out_images(images)
        folder = self._image_folder(subset)
        for image_id, questions in images.items():
            split = self._split_of(subset, image_id in held_out)
            name = f"COCO_{'test2015' if subset == 'test-dev2015' else subset}_{image_id:012d}"
            record_id = f"test-dev2015/{name}" if subset == "test-dev2015" else name
            yield self._list_questions(split, record_id, f"{folder}/{name}.jpg", questions)

    def _split_of(self, subset: str, held_out: bool) -> str:
        if subset.startswith("test"):
            return {"test2015": "test2015", "test-dev2015": "test_dev"}[subset]
        if self._plain:
            return subset
        return "validation" if held_out else "train"

    def _by_image(self, path: Path, annotations: dict[str, Asked] | None) -> dict[int, list[Asked]]:
        """The questions of each image, in the order of the file."""
        images: dict[int, list[Asked]] = {}
        seen: set[str] = set()
        for _, where, row in read_items(path, "questions"):
            asked, image_id = _question(row, where)
            _refuse_twice(asked.question_id, seen, where)
            seen.add(asked.question_id)
            if annotations is not None:
                found = annotations.pop(asked.question_id, None)
                if found is None:
                    self._leave_out(asked.question_id, "it has no annotation")
                    continue
                asked = found._replace(question=asked.question)
                if len(asked.answers) != PEOPLE:
                    why = f"it has {len(asked.answers)} answers, not {PEOPLE}"
                    self._leave_out(asked.question_id, why)
                    continue
            if not asked.question:
                self._leave_out(asked.question_id, "it has no text")
                continue
            images.setdefault(image_id, []).append(asked)
        for question_id in annotations or {}:
            self._leave_out(question_id, f"it is annotated, and is no question of {path.name}")
        if annotations is None:
            self._asked[path.name] = len(seen)
        return images

    def _annotations(self, subset: str, annotated: list[Annotation]) -> dict[str, Asked] | None:
        """What people answered, by question id; None where that is not public."""
        if subset.startswith("test"):
            return None
        name = ANNOTATIONS_FILE.format(subset)
        path = self._find(name)
        if path is None:
            raise MissingDataError(
                f"{self.source} has the questions of {subset} and no {name}; put it beside them"
            )
        found: dict[str, Asked] = {}
        for number, (_, where, row) in enumerate(read_items(path, "annotations")):
            asked = _annotation(row, where)
            _refuse_twice(asked.question_id, found, where)
            found[asked.question_id] = asked
            annotated.append(Annotation(number, 0, asked.main_answer, ()))
        return found

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}, once `entries` is exhausted:
        the answers to choose from, and how many questions the server asks of each split.
        """
        asked = {split: counts["questions"] for split, counts in self.counts().items()}
        asked.pop("test_dev", None)
        if "test2015" in asked:  # also those that were left out
            asked["test2015"] = self._asked[QUESTIONS_FILE.format("test2015")]
        files = {"questions.json": json.dumps(asked) + "\n"}
        return {ANSWERS: answers_text(self._answers), **files} if self._answers else files

    def _leave_out(self, question_id: str, why: str) -> None:
        self._findings.left_out[f"question {question_id}"] = why

    def _find(self, name: str) -> Path | None:
        return find_file_or_none(self.source, name)

    def _image_folder(self, subset: str) -> str:
        name = "test2015" if subset == "test-dev2015" else subset
        inside = f"images/{name}"
        return (
            inside
            if not (self.source / name).is_dir() and (self.source / inside).is_dir()
            else name
        )


def held_out_images(image_ids: Mapping[int, Any]) -> set[int]:
    """The images of val2014 that are held out for validation: the same for the same ids."""
    count = min(HELD_OUT, len(image_ids) // 5)
    return set(sorted(image_ids, key=_place)[:count])


def _place(image_id: int) -> str:
    return hashlib.sha256(f"vqav2 validation {image_id}".encode()).hexdigest()


def _question(row: Any, where: str) -> tuple[Asked, int]:
    """A question without its answers, and the number of its image."""
    question_id, image_id = str(get(row, "question_id", int, where)), row.get("image_id")
    text = _field(row, "question", where)
    if type(image_id) is not int or not isinstance(text, str):
        raise DataError(f"{where} needs a number as image_id and a text as question")
    return Asked(question_id, " ".join(whole(text, where).split())), image_id


def _annotation(row: Any, where: str) -> Asked:
    """The answers to a question, without its text."""
    question_id = str(get(row, "question_id", int, where))
    answers = _field(row, "answers", where)
    main = _field(row, "multiple_choice_answer", where)
    rows = answers if isinstance(answers, list) else [answers]
    texts: list[Any] = [row.get("answer") if isinstance(row, dict) else row for row in rows]
    if not all(isinstance(text, str) for text in (main, *texts)):
        raise DataError(f"{where} has an answer that is no text")
    types = (sys.intern(str(row.get(name, ""))) for name in ("answer_type", "question_type"))
    # Millions of answers, of which many are the same.
    main, *texts = (sys.intern(whole(text, where)) for text in (main, *texts))
    return Asked(question_id, "", tuple(texts), main, *types)


def _refuse_twice(question_id: str, seen: Container[str], where: str) -> None:
    if question_id in seen:
        raise DataError(f"{where} has question_id {question_id}, as one before it; leave one out")


def _field(row: Any, name: str, where: str) -> Any:
    if not isinstance(row, dict):
        raise DataError(f"{where} is {repr(row)[:60]}, where an object must be")
    if name not in row:
        raise DataError(f"{where} has no {name!r}; it has {', '.join(map(str, row)) or 'nothing'}")
    return row[name]


def _license(path: Path) -> str:
    given = read_member(path, "license")
    if not isinstance(given, dict):
        return ""
    return ", ".join(str(given[name]) for name in ("name", "url") if given.get(name))
