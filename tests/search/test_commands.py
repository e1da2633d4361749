"""The commands, with a real model: an index is made, asked and checked."""

import importlib
import importlib.util
import json
import os
import pathlib
import re
import shlex
import sys

import numpy as np
import pytest

from tests.inference.models import save_stage3
from tests.paths import ROOT
from tests.search.worlds import age, draw
from vlmo_jax.checkpoints.saved_params import NoCheckpointError
from vlmo_jax.search import __main__ as program
from vlmo_jax.search import open_index, soundness
from vlmo_jax.search.about import DamagedIndexError
from vlmo_jax.search.commands import check, index, measure, models, query
from vlmo_jax.search.demo.bundled import BUNDLED
from vlmo_jax.search.questions import QueryError


@pytest.fixture(scope="module", autouse=True)
def loaded_once():
    """Each command loads its model; once is enough here."""
    load, kept = models.load, {}

    def load_once(folder, **options):
        if not pathlib.Path(folder).exists():
            return load(folder, **options)
        if str(folder) not in kept:
            kept[str(folder)] = load(folder, **options)
        return kept[str(folder)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "load", load_once)
        patch.setattr(models, "keep_programs", lambda: None)  # not in this person's home
        yield load_once


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    return save_stage3(tmp_path_factory.mktemp("runs") / "stage3")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(5):
        age(draw(folder / f"{'ab'[number % 2]}/{number}.png", number))
    draw(folder / os.fsdecode(b"caf\xe9\n.png"), 9)
    (folder / "a/broken.jpg").write_bytes(b"")
    (folder / "a/0.txt").write_text("the first")
    return folder


@pytest.fixture(scope="module")
def folder(runs, pictures, tmp_path_factory):
    made = tmp_path_factory.mktemp("made") / "my index"
    index.main([str(pictures), str(made), f"--model={runs}"])
    return made


def run(capsys, command, *arguments):
    capsys.readouterr()
    command.main([str(one) for one in arguments])
    return capsys.readouterr()


def test_index_says_what_became_of_the_pictures(folder, pictures, runs, capsys):
    printed = run(capsys, index, pictures, folder).out
    assert "6 pictures (0 new, 0 changed, 0 gone; 0 encoded in 0 s)" in printed
    assert "1 could not be used" in printed and "a/broken.jpg: the file is empty" in printed
    assert f"search query '{folder}' \"a red heart\"" in printed
    told = json.loads(run(capsys, index, pictures, folder, "--json").out)
    assert (told["rows"], told["encoded"], told["skipped"]) == (6, 0, 1)


def test_vectors_are_those_of_the_model(folder, pictures, runs):
    model = models.load(runs)
    with open_index(folder) as opened:
        paths = [opened.original(one.id) for one in opened.pictures]
        assert np.abs(model.encode_image(paths) - opened.vectors).max() < 1e-6
        assert opened.about.origin.fingerprint == model.fingerprint


def test_query_prints_a_table_json_or_paths(folder, pictures, capsys):
    lines = run(capsys, query, folder, "a red heart").out.splitlines()
    assert lines[0].split() == ["score", "picture"] and len(lines) == 7
    assert any(line.endswith("a/0.png  the first") for line in lines)
    assert any("caf\\udce9\\n.png" in line or "caf\\xe9\\n.png" in line for line in lines)
    rows = [json.loads(one) for one in run(capsys, query, folder, "x", "--json").out.splitlines()]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]
    scores = [row["score"] for row in rows]
    assert scores == sorted(scores, reverse=True) and rows[0]["probability"] is None
    assert all(os.path.exists(row["path"]) for row in rows)


def test_paths_are_those_of_the_file_system(folder, pictures, capfdbinary):
    query.main([str(folder), "x", "--paths", "--null"])
    found = capfdbinary.readouterr().out.split(b"\0")
    assert found.pop() == b"" and len(found) == 6
    assert all(os.path.exists(path) for path in found)


def test_terms_weights_and_matches_of_the_command_line(folder, pictures, runs, capsys):
    image = pictures / "b/1.png"
    arguments = ["--image", image, "two cats^2", "--minus=rain^0.5", "--top_k=2", "--rerank=6"]
    rows = [
        json.loads(line)
        for line in run(capsys, query, folder, *arguments, "--json").out.splitlines()
    ]
    model = models.load(runs)
    wanted = model.encode_image(image)[0] + [2, -0.5] @ model.encode_text(["two cats", "rain"])
    wanted /= np.linalg.norm(wanted)
    for row in rows:
        assert row["score"] == pytest.approx(
            float(wanted @ model.encode_image(row["path"])[0]), abs=1e-5
        )
        cats, rain = model.match(row["path"], ["two cats", "rain"])
        assert row["probability"] == pytest.approx(cats * (1 - rain), abs=1e-5)
    assert len(rows) == 2 and rows[0]["probability"] >= rows[1]["probability"]
    table = run(capsys, query, folder, *arguments).out
    assert table.split()[:3] == ["score", "match", "picture"] and " %  " in table


def test_filters_of_the_command_line(folder, pictures, capsys):
    by_name = run(capsys, query, folder, "x", "--folder=b", "--json").out.splitlines()
    in_full = run(capsys, query, folder, "x", f"--folder={pictures}/b", "--json").out.splitlines()
    assert by_name == in_full and len(by_name) == 2
    told = run(capsys, query, folder, "x", "--since=2020").err
    assert "none of 6 pictures is left" in told and "0 have the day" in told


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["x", "--folder=c"], "no such folder; at its top are: a, b"),
        (["x", "--since=soon"], "--since=soon: it is no date; write 2024,"),
        (["x", "--until=2024-13"], "--until=2024-13: "),
        ([], "nothing to look for"),
        (["--image=gone.png"], "gone.png cannot be used: No such file"),
    ],
)
def test_what_cannot_be_asked_is_one_line(folder, arguments, reason):
    with pytest.raises(QueryError, match=reason):
        query.main([str(folder), *arguments])


@pytest.mark.parametrize(
    "text, last, day",
    [
        ("2024", False, "2024-01-01"),
        ("2024", True, "2024-12-31"),
        ("2024-02", False, "2024-02-01"),
        ("2024-2", True, "2024-02-29"),
        ("2024-05-31", True, "2024-05-31"),
    ],
)
def test_days_may_be_months_or_years(text, last, day):
    assert query.parse_day("since", text, last=last).isoformat() == day


def test_long_texts_are_cut_and_said_once(folder, capsys, caplog):
    told = run(capsys, query, folder, "a heart " * 40).err
    assert "note: the text of 80 words is longer than the 16 tokens" in told
    assert not caplog.records


@pytest.mark.skipif(
    importlib.util.find_spec("qdrant_client") is None, reason="pip install -e '.[qdrant]'"
)
def test_vectors_may_be_searched_in_a_store(folder, pictures, tmp_path, capsys):
    store = f"--store=file://{tmp_path}/collections/pictures"
    told = json.loads(run(capsys, index, pictures, folder, store, "--json").out)
    assert told["stored"] == {"added": 6, "removed": 0, "rows": 6}
    there = run(capsys, query, folder, "x", "--folder=b", store).out
    assert there == run(capsys, query, folder, "x", "--folder=b").out
    printed = run(capsys, index, pictures, folder, store).out
    assert "6 vectors, 0 sent, 0 removed" in printed and f'"a red heart" {store}' in printed


def test_a_model_that_is_gone_is_named(folder, runs, capsys):
    moved = runs.with_name("elsewhere")
    runs.rename(moved)
    try:
        with pytest.raises(NoCheckpointError, match="stage3, is not there any more.*--model=DIR"):
            query.main([str(folder), "x"])
        assert run(capsys, query, folder, "x", f"--model={moved}").out.count("\n") == 7
    finally:
        moved.rename(runs)


def test_a_new_index_needs_a_model(pictures, tmp_path):
    with pytest.raises(NoCheckpointError, match="a new index needs a model"):
        index.main([str(pictures), str(tmp_path / "new")])
    assert not (tmp_path / "new").exists()


def test_measure_makes_an_index_and_asks_it(runs, capsys):
    told = json.loads(run(capsys, measure, f"--model={runs}", "--pictures=20", "--json").out)
    assert told["pictures"] == 20 and all(seconds > 0 for seconds in told["seconds"].values())
    assert measure.parse(["--model=demo"]).model == str(BUNDLED)
    with pytest.raises(SystemExit):
        measure.parse(["--model=demo", "--pictures=3"])


def test_check_finds_a_sound_index_sound(folder, capsys):
    printed = run(capsys, check, folder).out
    assert "ok: 6 of them find themselves" in printed
    assert "ok: 6 pictures have the vectors that the model gives them" in printed
    assert "1 could not be used:\na/broken.jpg\tthe file is empty" in printed
    told = json.loads(run(capsys, check, folder, "--json").out)
    assert told["rows"] == 6 and len(told["ok"]) == 6


def test_check_finds_what_is_wrong(runs, pictures, tmp_path):
    made = tmp_path / "made"
    index.main([str(pictures), str(made), f"--model={runs}"])
    path = made / "generations/000001/vectors.npy"
    vectors = np.load(path)
    np.save(path, vectors[::-1])
    with pytest.raises(DamagedIndexError, match="vectors.npy is not what was written"):
        check.main([str(made)])
    np.save(path, vectors)
    with open_index(made) as opened:
        model = models.load(runs)
        swapped = dict(vectors=np.array(vectors[::-1]))
        vars(opened).update(swapped)
        with pytest.raises(DamagedIndexError, match="is not that of its picture"):
            soundness._encode_again(opened, model, np.arange(6))


@pytest.mark.parametrize("name", ["index", "query", "check"])
def test_each_command_has_a_manual(name, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["search", name, "--help"])
    monkeypatch.setattr(program, "log_to_console", lambda: None)  # other tests listen to the log
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 0
    assert f"python -m vlmo_jax.search {name}" in capsys.readouterr().out


PAGE = (ROOT / "docs/SEARCH.md").read_text()


def test_the_commands_of_the_page_are_understood():
    parsed = 0
    for line in re.findall(r"^python -m vlmo_jax\.search (.*)$", PAGE, re.M):
        name, *arguments = shlex.split(line.split("|")[0], comments=True)
        importlib.import_module(program.COMMANDS[name]).parse(arguments)
        parsed += 1
    assert parsed > 10


def test_the_python_of_the_page_runs(folder, tmp_path, monkeypatch, capsys):
    (tmp_path / "my_index").symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("vlmo_jax.inference.loading.load", models.load)
    exec(re.search(r"```python\n(.*?)```", PAGE, re.S)[1], {})
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_an_unknown_command_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["search", "find"])
    monkeypatch.setattr(program, "log_to_console", lambda: None)  # other tests listen to the log
    with pytest.raises(SystemExit, match="'find' is no command; use index, query, .*check"):
        program.main()
