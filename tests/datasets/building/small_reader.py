"""A small format for tests.

The folder holds rows.jsonl, a row {"split": ..., "image": ..., "texts": [...]} a picture, and the
pictures. A row without texts is not listed. Where a file "kill" lies beside them, the process that
loads the picture that it names is killed, as by the machine; where a file "slow" lies there, each
takes its time, and the process notes who it is.
"""

import json
import os
import signal
import time
from pathlib import Path

from vlmo_jax.datasets import images, records
from vlmo_jax.datasets.readers.protocol import Entry, LeftOutError


class SmallReader:
    kind = records.IMAGES
    description = "Pictures for tests."
    license = "free"
    published = {"train": {"images": 20, "captions": 20}, "test": {"images": 5}}

    def __init__(self, source: Path, times: int = 1):
        self._source, self._times = source, int(times)
        self._counts: dict = {}
        self._left_out: dict = {}

    def sources(self):
        return [self._source / "rows.jsonl"]

    def entries(self):
        for line in (self._source / "rows.jsonl").read_text().splitlines():
            row = json.loads(line)
            if not row["texts"]:
                self._left_out[row["image"]] = "no caption"
                continue
            counts = self._counts.setdefault(row["split"], {"images": 0, "captions": 0})
            counts["images"] += 1
            counts["captions"] += len(row["texts"])
            yield Entry(row["split"], row["image"], row["image"], row["texts"] * self._times)

    def load(self, entry):
        kill = self._source / "kill"
        if kill.is_file() and kill.read_text() == entry.place:
            os.kill(os.getpid(), signal.SIGKILL)
        if (self._source / "slow").is_file():
            (self._source / "pids").mkdir(exist_ok=True)
            (self._source / "pids" / str(os.getpid())).touch()
            time.sleep(0.05)
        try:
            data = (self._source / entry.place).read_bytes()
            images.decode_image(data)
        except (FileNotFoundError, ValueError) as error:
            raise LeftOutError(f"{entry.place}: {type(error).__name__}") from error
        return records.Record(data, tuple(entry.content), (), entry.record_id)

    def counts(self):
        return self._counts

    def left_out(self):
        return self._left_out


class QuestionsReader(SmallReader):
    kind = records.QUESTIONS
    published: dict = {}

    def load(self, entry):
        record = super().load(entry)
        questions = tuple(f"what {text}" for text in record.texts)
        ids = tuple(f"{entry.record_id}-{i}" for i in range(len(questions)))
        blank = ("",) * len(questions)
        numbers = [0] * len(questions)
        return records.QuestionsRecord(
            record.image, record.image_id, questions, ids, (), numbers, blank, blank, blank
        )
