"""docs/INFERENCE.md shows what comes out, and the notebook beside it runs."""

import doctest
import importlib.util
import json
import re
import shlex
import shutil

from matplotlib import pyplot

from tests.inference.models import pictures, save_picture
from tests.paths import ROOT

FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def test_the_page_shows_what_comes_out(tmp_path, monkeypatch, folder, vqa_folder, caption_folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "runs" / "stage3")
    shutil.copytree(vqa_folder, tmp_path / "runs" / "finetune_vqa")
    shutil.copytree(caption_folder, tmp_path / "runs" / "finetune_caption")
    (tmp_path / "holiday").mkdir()
    names = ["a.jpg", "b.png", *(f"holiday/{number}.jpg" for number in range(5))]
    for name, array in zip(names, pictures(len(names))):
        save_picture(tmp_path / name, array)
    (tmp_path / "pairs.jsonl").write_text('{"image": "a.jpg", "text": "two cats"}\n')
    (tmp_path / "questions.jsonl").write_text('{"image": "a.jpg", "question": "what is it"}\n')
    (tmp_path / "images.jsonl").write_text('{"image": "a.jpg"}\n')
    page = (ROOT / "docs" / "INFERENCE.md").read_text()
    if importlib.util.find_spec("flatbuffers") is None:
        page = page[: page.index("## A file that runs without")]
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    run = re.findall(r"^python -m vlmo_jax\.(\w+) (.*)$", page, re.MULTILINE)
    assert [name for name, _ in run] == ["encode", "match", "answer", "caption"]
    for name, arguments in run:
        importlib.import_module(f"vlmo_jax.inference.commands.{name}").main(shlex.split(arguments))
    test = doctest.DocTestParser().get_doctest("".join(blocks), {}, "INFERENCE.md", None, 0)
    assert len(test.examples) > 25
    report = []
    results = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append)
    assert not results.failed, "".join(report)


def test_the_notebook_runs(tmp_path, monkeypatch, folder):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(folder, tmp_path / "runs" / "stage3")
    notebook = json.loads((ROOT / "docs" / "inference.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    names = {}
    for cell in cells:
        exec(cell, names)
    assert len(cells) > 5 and names["vectors"].shape == (100, 16)
    assert [error.name for error in names["broken"]] == ["gone.png"]
    assert len(names["figure"].axes) == 15
    pyplot.close(names["figure"])
