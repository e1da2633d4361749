"""A folder is enough: moved, of an earlier version, converted; what cannot be loaded says why."""

import functools
import shutil

import numpy as np
import pytest

import vlmo_jax
from tests.inference.models import pictures, save, save_stage3, save_vqa
from tests.interop.official_weights import weights
from tests.paths import DATA
from vlmo_jax.checkpoints.saved_params import SavedParams, find_checkpoint
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.interop.convert import convert
from vlmo_jax.interop.tensor_files import write_safetensors


def without_files(meta):
    """As a version wrote it whose checkpoints carried no files."""
    return {name: value for name, value in meta.items() if name != "files"}


def own_tokenizer(folder):
    """A tokenizer of one's own: the embedded one under another name."""
    folder.mkdir(exist_ok=True)
    return shutil.copy(load_tokenizer("emoji").path, folder / "mine.model")


def of_another_path(file):
    """Changes a meta of a checkpoint that carries nothing to say that its tokenizer was there."""

    def change(meta):
        return {**without_files(meta), "tokenizer": {**meta["tokenizer"], "file": str(file)}}

    return change


def test_a_moved_checkpoint_is_all_that_is_needed(tmp_path):
    file = own_tokenizer(tmp_path / "here")
    made = save(tmp_path / "run", "stage3:tiny,32", f"tokenizer={file}", "data.split=train[:8]")
    texts = ["a red heart", "two cats"]
    wanted = vlmo_jax.load(made).encode_text(texts)
    (tmp_path / "elsewhere").mkdir()
    shutil.move(made / "checkpoints" / "0", tmp_path / "elsewhere" / "7")
    shutil.rmtree(made)
    shutil.rmtree(tmp_path / "here")
    model = vlmo_jax.load(tmp_path / "elsewhere" / "7")
    assert (model.encode_text(texts) == wanted).all()
    assert model.tokenizer.fingerprint == load_tokenizer("emoji").fingerprint
    assert model.config.model.image_size == 32 and model.name.name == "7"


def test_a_copied_checkpoint_knows_its_answers(tmp_path, vqa_folder, answering):
    shutil.copytree(vqa_folder / "checkpoints" / "0", tmp_path / "3")
    answers = vlmo_jax.load(tmp_path / "3").answers
    assert answers == answering.answers
    assert len(set(answers)) == answering.config.model.num_answers


def test_an_earlier_checkpoint_finds_its_tokenizer_by_its_contents(tmp_path):
    gone = tmp_path / "gone" / "mine.model"
    made = save_stage3(tmp_path / "run", change=of_another_path(gone))
    assert vlmo_jax.load(made).tokenizer.path.name == "sentencepiece.model"  # the embedded one
    own = own_tokenizer(tmp_path / "other")
    shutil.copy(own, made / "tokenizer.model")
    assert vlmo_jax.load(made / "checkpoints").tokenizer.path == made / "tokenizer.model"


def test_an_earlier_checkpoint_without_its_files_asks_for_them(tmp_path):
    def change(meta):
        other = {"file": "/gone/mine.model", "sha256": "0" * 64}
        return {**without_files(meta), "tokenizer": other}

    model = vlmo_jax.load(save_stage3(tmp_path / "run", change=change))
    assert model.tokenizer is None and model.encode_image(pictures(1)).shape == (1, 16)
    with pytest.raises(vlmo_jax.UnfitModelError, match=r"give the file: .*load\(.*tokenizer=FILE"):
        model.encode_text("a cat")
    with pytest.raises(ValueError, match="not the one that the model in .*gone/mine.model"):
        vlmo_jax.load(tmp_path / "run", tokenizer="emoji")


def test_a_converted_checkpoint_takes_a_tokenizer_and_answers(tmp_path):
    def change(meta):
        preprocessing = {k: v for k, v in meta["preprocessing"].items() if k != "answers"}
        return {**without_files(meta), "tokenizer": None, "preprocessing": preprocessing}

    made, image = save_vqa(tmp_path / "run", change=change), pictures(1)[0]
    with pytest.raises(vlmo_jax.UnfitModelError, match="by numbers.*answers=FILE"):
        vlmo_jax.load(made, tokenizer="emoji").answer(image, "what")
    count = vlmo_jax.load(made).config.model.num_answers
    file = tmp_path / "answers.txt"
    file.write_text("".join(f"answer {number}\n" for number in range(count)))
    model = vlmo_jax.load(made, tokenizer="emoji", answers=file)
    [[(answer, probability)]] = model.answer(image, "what", top_k=1)
    assert answer.startswith("answer ") and 0 < probability < 1
    file.write_text("yes\nno\n")
    with pytest.raises(
        ValueError, match=f"lists 2 answers, and the model in .* with {count}; give"
    ):
        vlmo_jax.load(made, answers=file)


def test_official_weights_are_loaded_with_the_vocabulary_beside_them(tmp_path):
    tensors, words = weights("tiny_base_pretrain"), DATA / "wordpiece_vocab.txt"
    rows = len(words.read_text().split())
    for name in ("text_embeddings.word_embeddings.weight", "mlm_score.decoder.weight"):
        tensors[name] = np.resize(tensors[name], (rows, 32))
    tensors["mlm_score.bias"] = np.resize(tensors["mlm_score.bias"], rows)
    write_safetensors(tmp_path / "vlmo.safetensors", tensors)
    convert(
        tmp_path / "vlmo.safetensors",
        tmp_path / "ours",
        "vlmo",
        tokenizer=str(words),
        image_size=32,
    )
    shutil.move(tmp_path / "ours", tmp_path / "moved")
    (tmp_path / "moved" / words.name).unlink()
    model = vlmo_jax.load(tmp_path / "moved")
    assert model.tokenizer.contents == words.read_bytes()
    assert model.encode_image(pictures(1)).shape == model.encode_text("a cat").shape == (1, 32)
    assert 0 < model.match(pictures(1), "a cat")[0] < 1


def test_an_earlier_model_of_questions_reads_the_answers_of_its_data(tmp_path):
    model = vlmo_jax.load(save_vqa(tmp_path / "run", change=without_files))
    assert len(model.answers) == model.config.model.num_answers and "yes" in model.answers


def test_what_is_no_model_of_images_and_texts_is_refused(tmp_path, folder):
    def of_images(meta, kind="beit"):
        return {**meta, "config": {**meta["config"], "model": {"kind": kind}}}

    with pytest.raises(vlmo_jax.UnfitModelError, match="kind='beit'.*without texts; give the"):
        vlmo_jax.load(save_stage3(tmp_path / "run", change=of_images))
    segmenter = functools.partial(of_images, kind="image_segmenter")
    with pytest.raises(vlmo_jax.UnfitModelError, match="segments images, .*--config.mode=eval"):
        vlmo_jax.load(save_stage3(tmp_path / "segments", change=segmenter))
    stage2 = save(tmp_path / "stage2", "stage2:tiny", "data.split=train[:1%]")
    with pytest.raises(vlmo_jax.UnfitModelError, match="'text_pretrain'. was trained without im"):
        vlmo_jax.load(stage2)
    (tmp_path / "vlmo.pt").write_bytes(b"weights")
    with pytest.raises(ValueError, match="is a file, .*vlmo_jax.interop.convert .*vlmo.pt OUT"):
        vlmo_jax.load(tmp_path / "vlmo.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint in .*nowhere; give a work folder"):
        vlmo_jax.load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="has no averaged parameters"):
        vlmo_jax.load(folder, averaged=True)


def test_params_are_those_of_the_checkpoint(folder, model):
    saved = SavedParams(folder)
    assert find_checkpoint(folder)[0] == model.name.parent
    path = ("itc", "logit_scale")
    assert np.asarray(model.params["itc"]["logit_scale"]) == saved.read([path])[path]
    with pytest.raises(AttributeError):
        model.config.steps_of_mine = 3
