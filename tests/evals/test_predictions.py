import json
import os

import numpy as np
import pytest

from vlmo_jax.evals.masked import masked_predictions
from vlmo_jax.evals.predictions import predictions_path, write_predictions


def test_one_line_an_example(tmp_path):
    examples = [{"id": "ä", "rank": np.int32(3), "score": np.float32(0.5)}, {"top": np.arange(2)}]
    write_predictions(tmp_path / "new", "retrieval", "coco_test", examples)
    path = predictions_path(tmp_path / "new", "retrieval", "coco_test")
    assert path.name == "retrieval_coco_test.jsonl"
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert lines == [{"id": "ä", "rank": 3, "score": 0.5}, {"top": [0, 1]}]


def test_a_failure_leaves_the_file_before(tmp_path):
    write_predictions(tmp_path, "a", "b", [{"id": 1}])

    def breaks():
        yield {"id": 2}
        yield {"id": float("nan")}

    with pytest.raises(ValueError, match="not JSON compliant"):
        write_predictions(tmp_path, "a", "b", breaks())
    assert os.listdir(tmp_path) == ["a_b.jsonl"]
    assert json.loads((tmp_path / "a_b.jsonl").read_text()) == {"id": 1}


def test_other_processes_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("jax.process_index", lambda: 1)
    write_predictions(tmp_path, "a", "b", iter([]))
    write_predictions(None, "a", "b", iter([]))
    assert not os.listdir(tmp_path)


def test_masked_rows_have_their_own_means(tmp_path):
    sums = np.array([[3.0, 1, 2], [0.0, 0, 0]])
    write_predictions(tmp_path, "words", "test", masked_predictions(sums))
    lines = (tmp_path / "words_test.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"row": 0, "loss": 1.5, "right": 1, "masked": 2},
        {"row": 1, "loss": None, "right": 0, "masked": 0},
    ]
