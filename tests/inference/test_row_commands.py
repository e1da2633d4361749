"""python -m vlmo_jax.match and answer: JSON lines in and out, in step."""

import io
import json

import numpy as np
import pytest

from tests.inference.models import pictures, save_picture
from vlmo_jax.inference.commands import answer, match


@pytest.fixture(scope="module")
def shots(tmp_path_factory):
    """Three pictures, and lines about them."""
    folder = tmp_path_factory.mktemp("shots")
    for number, array in enumerate(pictures(3)):
        save_picture(folder / f"{number}.png", array)
    lines = [
        {"image": f"{name}.png", "text": text, "question": text, "mark": name}
        for name, text in (("0", "a red heart"), ("gone", "rain"), ("2", "two cats"))
    ]
    (folder / "pairs.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return folder


def test_pairs_are_matched(shots, folder, model, capsys, monkeypatch):
    match.main([str(shots / "pairs.jsonl"), f"--model={folder}", "--json"])
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [row["mark"] for row in rows] == ["0", "gone", "2"]
    assert "No such file" in rows[1]["error"] and "match" not in rows[1]
    wanted = model.match([shots / "0.png", shots / "2.png"], ["a red heart", "two cats"])
    np.testing.assert_allclose([rows[0]["match"], rows[2]["match"]], wanted, rtol=0, atol=2e-6)
    assert said.err.endswith("1 of 3 pairs could not be used\n")

    monkeypatch.chdir(shots)
    monkeypatch.setattr("sys.stdin", io.StringIO('\n{"image": "0.png", "text": "rain"}\n'))
    match.main(["-", f"--model={folder}"])
    [line] = capsys.readouterr().out.splitlines()
    assert line.split()[1:] == ["0.png", "rain"] and 0 < float(line.split()[0]) < 1
    half = '{"image": "0.png", "text": "half a \\ud83d"}\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(half))
    match.main(["-", f"--model={folder}"])
    assert r"error  0.png  half a \ud83d: it has halves" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO('{"image": "0.png"}\n'))
    with pytest.raises(ValueError, match="standard input line 1 has no text 'text'; write"):
        match.main(["-", f"--model={folder}"])


def test_questions_are_answered(shots, vqa_folder, answering, capsys):
    command = [str(shots / "pairs.jsonl"), f"--model={vqa_folder}", "--top_k=2"]
    answer.main([*command, "--json"])
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    wanted = answering.answer(shots / "2.png", "two cats", top_k=2)[0]
    assert [one for one, _ in rows[2]["answers"]] == [one for one, _ in wanted]
    assert "error" in rows[1] and "answers" not in rows[1]
    answer.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[2].startswith("    error  gone.png  rain: No such file")
    with pytest.raises(SystemExit):
        answer.main([*command[:2], "--top_k=0"])
