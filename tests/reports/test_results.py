import json
import math

from vlmo_jax.reports.results import append_results, results_table


def result(split, **metrics):
    return {"evaluation": "search", "protocol": "all captions", "split": split, "metrics": metrics}


def test_lines_are_added_and_a_cut_one_stays_alone(tmp_path):
    path = tmp_path / "new" / "results.jsonl"
    append_results(path, [result("a", loss=math.nan), result("b", loss=1.0)])
    with path.open("a") as file:
        file.write('{"cut')
    append_results(path, [result("c", loss=2.0)])
    first, second, cut, third = path.read_text().splitlines()
    assert json.loads(first)["metrics"] == {"loss": None} and cut == '{"cut'
    assert [json.loads(line)["split"] for line in (second, third)] == ["b", "c"]


def test_a_table_has_a_column_a_split_and_a_row_a_metric():
    table = results_table(
        [result("train", recall_at_1=0.125, rank=3.0), result("test", recall_at_1=1.0)]
    )
    assert table.splitlines() == [
        "search: all captions",
        "              train     test",
        "recall_at_1  12.50%  100.00%",
        "rank              3        -",
    ]
