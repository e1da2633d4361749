"""`Model.caption` and python -m vlmo_jax.caption."""

import json

import numpy as np
import pytest

import vlmo_jax
from tests.inference.models import pictures, save_picture
from vlmo_jax.inference.captions import WrongSearchError
from vlmo_jax.inference.commands import caption
from vlmo_jax.tasks.beam_search import special_tokens
from vlmo_jax.tasks.caption import make_captioner


@pytest.fixture(scope="module")
def writing(caption_folder):
    return vlmo_jax.load(caption_folder)


def test_captions_are_those_of_evaluation(writing):
    images = pictures(3)
    found = writing.caption(images, beams=2, max_length=8)
    write = make_captioner(
        writing._graphdef,
        mean=writing._mean,
        std=writing._std,
        tokens=special_tokens(writing.tokenizer),
        training="masked",
        beams=2,
        length=8,
        length_penalty=0.6,
    )
    wanted = write(writing.params, {"image": writing.preprocess(images)})
    assert [text for text, _ in found] == [
        writing.tokenizer.decode(ids.tolist()).strip() for ids in wanted.token_ids
    ]
    np.testing.assert_allclose([score for _, score in found], wanted.score, rtol=1e-4)
    assert all(len(ids) == 8 for ids in wanted.token_ids)
    assert len({score for _, score in found}) == 3


def test_what_is_left_out_has_no_caption(writing):
    [first, broken] = writing.caption(
        [pictures(1)[0], b"no image"], beams=2, max_length=8, on_error="skip"
    )
    assert first[0] and broken[0] == "" and np.isnan(broken[1])


def test_impossible_searches_and_other_models_are_refused(writing, model):
    image = pictures(1)
    with pytest.raises(WrongSearchError, match="max_length=17 is not allowed; use 3 to 16"):
        writing.caption(image, max_length=17)
    with pytest.raises(WrongSearchError, match="beams=0 is not allowed; use 1 to 3999"):
        writing.caption(image, beams=0)
    with pytest.raises(WrongSearchError, match="length_penalty=-1 is not allowed"):
        writing.caption(image, length_penalty=-1)
    with pytest.raises(vlmo_jax.UnfitModelError, match="writes captions; .*finetune_caption.py"):
        model.caption(image)


def test_the_command_writes_a_line_an_image(caption_folder, tmp_path, capsys):
    save_picture(tmp_path / "0.png", pictures(1)[0])
    (tmp_path / "images.jsonl").write_text('{"image": "0.png", "n": 1}\n{"image": "gone.png"}\n')
    search = ["--beams=2", "--max_length=8"]
    command = [str(tmp_path / "images.jsonl"), f"--model={caption_folder}", *search]
    caption.main([*command, "--json"])
    said = capsys.readouterr()
    first, second = map(json.loads, said.out.splitlines())
    assert first["n"] == 1 and first["caption"] and first["score"] < 0
    assert "No such file" in second["error"] and "caption" not in second
    assert said.err.endswith("1 of 2 images could not be used\n")
    caption.main(command)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"0.png  {first['caption']}")
    assert lines[1].startswith("    error  gone.png: No such file")
