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
val2014, 3,129 of the real files, in the order of the files, on which published heads depend. Where
one of them is empty, as "a" is in normal form, the file has a JSON object a line.

Left out, each by name: questions without an annotation or with other than ten answers, annotations
without a question, questions without text, and those of images that are missing.
"""

import hashlib
import json
import sys
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vlmo_jax.datasets import records
from vlmo_jax.datasets.answer_lists import ANSWERS, answers_text
from vlmo_jax.datasets.errors import DataError, MissingDataError
from vlmo_jax.datasets.readers.image_bytes import read_image
from vlmo_jax.datasets.readers.protocol import Entry
from vlmo_jax.datasets.vqa_answers import Annotation, build_vocabulary

HELD_OUT = 1000  # images of val2014
PEOPLE = 10
SUBSETS = ("train2014", "val2014", "test2015", "test-dev2015")
SPLITS = ("standard", "plain")
QUESTIONS_FILE = "v2_OpenEnded_mscoco_{}_questions.json"
ANNOTATIONS_FILE = "v2_mscoco_{}_annotations.json"


class Asked(NamedTuple):
    """A question of an image, with what people answered; see `records.QuestionsRecord`."""

    question_id: str
    question: str
    answers: tuple[str, ...] = ()
    main_answer: str = ""
    answer_type: str = ""
    question_type: str = ""


class VqaV2Reader:
    """Reads the official files; see `protocol.Reader`.

    Args:
        source: the folder of the download.
        splits: one of SPLITS.

    Raises:
        DataError: unknown splits.
    """

    kind = records.QUESTIONS
    description = "VQAv2: questions about images of COCO, each answered by ten people"

    def __init__(self, source: Path, splits: str = "standard") -> None:
        if splits not in SPLITS:
            raise DataError(f"splits={splits} is not known; use one of {', '.join(SPLITS)}")
        self._source, self._plain = Path(source), splits == "plain"
        self.license = ""
        self._counts: dict[str, dict[str, int]] = {}
        self._left_out: dict[str, str] = {}
        self._answers: list[str] = []
        self._asked: dict[str, int] = {}

    @property
    def published(self) -> Mapping[str, Mapping[str, int]]:
        """See `protocol.Reader`."""
        test = {
            "test2015": {"questions": 447_793, "images": 81_434},
            "test_dev": {"questions": 107_394, "images": 36_807},
        }
        if self._plain:
            return {
                "train2014": {"questions": 443_757, "images": 82_783},
                "val2014": {"questions": 214_354, "images": 40_504},
                **test,
            }
        images = 82_783 + 40_504 - HELD_OUT
        return {"train": {"images": images}, "validation": {"images": HELD_OUT}, **test}

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
                f"{self._source} has no questions; put {QUESTIONS_FILE.format('train2014')} there,"
                " or the same of val2014, test2015 or test-dev2015"
            )
        self._counts, self._left_out, self._asked = {}, {}, {}
        annotated: list[Annotation] = []
        for subset, path in found.items():
            if path is not None:
                yield from self._entries_of(subset, path, annotated)
        self._answers = build_vocabulary(annotated)

    def _entries_of(self, subset: str, path: Path, annotated: list[Annotation]) -> Iterator[Entry]:
        document = _read_json(path)
        self.license = self.license or _license(document)
        annotations = self._annotations(subset, annotated)
        images = self._by_image(path, document, annotations)
        held_out = set()
        if subset == "val2014" and not self._plain:
            held_out = held_out_images(images)
        folder = self._image_folder(subset)
        for image_id, questions in images.items():
            split = self._split_of(subset, image_id in held_out)
            counts = self._counts.setdefault(split, {"images": 0, "questions": 0})
            counts["images"] += 1
            counts["questions"] += len(questions)
            name = f"COCO_{'test2015' if subset == 'test-dev2015' else subset}_{image_id:012d}"
            record_id = f"test-dev2015/{name}" if subset == "test-dev2015" else name
            yield Entry(split, record_id, str(folder / f"{name}.jpg"), tuple(questions))

    def _split_of(self, subset: str, held_out: bool) -> str:
        if subset.startswith("test"):
            return {"test2015": "test2015", "test-dev2015": "test_dev"}[subset]
        if self._plain:
            return subset
        return "validation" if held_out else "train"

    def _by_image(
        self, path: Path, document: Mapping, annotations: dict[str, Asked] | None
    ) -> dict[int, list[Asked]]:
        """The questions of each image, in the order of the file."""
        images: dict[int, list[Asked]] = {}
        seen: set[str] = set()
        for number, row in enumerate(_rows(document, "questions", path)):
            where = f"{path} questions[{number}]"
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
                f"{self._source} has the questions of {subset} and no {name}; put it beside them"
            )
        found: dict[str, Asked] = {}
        for number, row in enumerate(_rows(_read_json(path), "annotations", path)):
            where = f"{path} annotations[{number}]"
            asked = _annotation(row, where)
            _refuse_twice(asked.question_id, found, where)
            found[asked.question_id] = asked
            annotated.append(Annotation(number, 0, asked.main_answer, ()))
        return found

    def load(self, entry: Entry) -> records.QuestionsRecord:
        """See `protocol.Reader`."""
        return questions_record(read_image(Path(entry.place)), entry.record_id, entry.content)

    def counts(self) -> dict[str, dict[str, int]]:
        """See `protocol.Reader`."""
        return self._counts

    def left_out(self) -> dict[str, str]:
        """See `protocol.Reader`."""
        return self._left_out

    def files(self) -> dict[str, str]:
        """Text files that belong beside the records, {name: contents}, once `entries` is exhausted:
        the answers to choose from, and how many questions the server asks of each split.
        """
        asked = {split: counts["questions"] for split, counts in self._counts.items()}
        asked.pop("test_dev", None)
        if "test2015" in asked:  # also those that were left out
            asked["test2015"] = self._asked[QUESTIONS_FILE.format("test2015")]
        files = {"questions.json": json.dumps(asked) + "\n"}
        return {ANSWERS: answers_text(self._answers), **files} if self._answers else files

    def _leave_out(self, question_id: str, why: str) -> None:
        self._left_out[f"question {question_id}"] = why

    def _find(self, name: str) -> Path | None:
        places = [self._source / name, *sorted(self._source.glob(f"*/{name}"))]
        return next((place for place in places if place.is_file()), None)

    def _image_folder(self, subset: str) -> Path:
        name = "test2015" if subset == "test-dev2015" else subset
        places = (self._source / name, self._source / "images" / name)
        return next((place for place in places if place.is_dir()), places[0])


def held_out_images(image_ids: Mapping[int, Any]) -> set[int]:
    """The images of val2014 that are held out for validation: the same for the same ids."""
    count = min(HELD_OUT, len(image_ids) // 5)
    return set(sorted(image_ids, key=_place)[:count])


def _place(image_id: int) -> str:
    return hashlib.sha256(f"vqav2 validation {image_id}".encode()).hexdigest()


def questions_record(
    image: bytes, image_id: str, questions: tuple[Asked, ...]
) -> records.QuestionsRecord:
    """An image with its questions as a record."""
    return records.QuestionsRecord(
        image=image,
        image_id=image_id,
        questions=tuple(one.question for one in questions),
        question_ids=tuple(one.question_id for one in questions),
        answers=tuple(answer for one in questions for answer in one.answers),
        num_answers=np.array([len(one.answers) for one in questions], np.int32),
        main_answers=tuple(one.main_answer for one in questions),
        answer_types=tuple(one.answer_type for one in questions),
        question_types=tuple(one.question_type for one in questions),
    )


def _question(row: Mapping, where: str) -> tuple[Asked, int]:
    """A question without its answers, and the number of its image."""
    question_id, image_id = str(_field(row, "question_id", where)), row.get("image_id")
    text = _field(row, "question", where)
    if not isinstance(image_id, int) or not isinstance(text, str):
        raise DataError(f"{where} needs a number as image_id and a text as question")
    return Asked(question_id, " ".join(text.split())), image_id


def _annotation(row: Mapping, where: str) -> Asked:
    """The answers to a question, without its text."""
    question_id = str(_field(row, "question_id", where))
    answers = _field(row, "answers", where)
    main = _field(row, "multiple_choice_answer", where)
    texts = isinstance(answers, list) and all(isinstance(one, str) for one in (main, *answers))
    if not texts:
        raise DataError(f"{where} has an answer that is no text")
    types = (str(row.get(name, "")) for name in ("answer_type", "question_type"))
    return Asked(question_id, "", tuple(answers), main, *types)


def _refuse_twice(question_id: str, seen: Container[str], where: str) -> None:
    if question_id in seen:
        raise DataError(f"{where} has question_id {question_id}, as one before it; leave one out")


def _read_json(path: Path) -> Mapping:
    """A document, in which an answer of one person is its text alone: millions of them."""

    def without_ids(row: dict) -> Any:
        return sys.intern(row["answer"]) if _is_answer(row) else row

    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file, object_hook=without_ids)
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8: {error}; download it again") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}; download it again") from error
    if not isinstance(document, dict):
        raise DataError(f"{path} must be an object with questions or annotations")
    return document


def _is_answer(row: dict) -> bool:
    return "answer_id" in row and isinstance(row.get("answer"), str)


def _rows(document: Mapping, name: str, path: Path) -> list:
    rows = document.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} has no list of objects called {name!r}; is it another file?")
    return rows


def _field(row: Mapping, name: str, where: str) -> Any:
    if name not in row:
        raise DataError(f"{where} has no {name!r}; it has {', '.join(map(str, row)) or 'nothing'}")
    return row[name]


def _license(document: Mapping) -> str:
    given = document.get("license")
    if not isinstance(given, dict):
        return ""
    return ", ".join(str(given[name]) for name in ("name", "url") if given.get(name))
