"""What a loaded model says: the values of evaluation, for inputs in any form and number."""

import functools
import io
import itertools
import json
import logging
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

import vlmo_jax
from tests.inference.models import pictures, save_picture, save_stage3
from tests.paths import ROOT
from vlmo_jax.datasets import Record, open_source
from vlmo_jax.datasets.images import decode_image
from vlmo_jax.evals import RetrievalEvaluator
from vlmo_jax.input.images.pixels import resize_square
from vlmo_jax.input.plain_images import CROPPED, EvalImages, ImageRows
from vlmo_jax.parallel.sharding import make_mesh
from vlmo_jax.tasks.retrieval import make_encoders
from vlmo_jax.tasks.vqa import make_answerer


def close(found, wanted, tolerance=1e-6):
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance)


def test_values_are_those_of_evaluation(model):
    source = open_source("emoji", "unseen_concepts")
    records = [source[row] for row in range(11)]
    images = [record.image for record in records]
    evaluator = RetrievalEvaluator(
        records,
        model.tokenizer,
        name="some",
        images=functools.partial(EvalImages, rows=ImageRows(model.image_size)),
        text_length=model.text_length,
        batch_size=8,
        mesh=make_mesh(),
    )
    config = model.config.data
    encoders = make_encoders(model._graphdef, mean=tuple(config.mean), std=tuple(config.std))
    with jax.set_mesh(make_mesh()):
        _, search = evaluator.search(encoders, model.params, 0)
    wanted_images, wanted_texts = search.to_text.similar
    close(model.encode_image(images), wanted_images)
    close(model.encode_text(evaluator.texts), wanted_texts)

    batch = {"image": model.preprocess(images[:8]), **model.tokenize(evaluator.texts[:8])._asdict()}
    log_odds = np.asarray(encoders.match(model.params, batch), np.float64)
    close(model.match(images[:8], evaluator.texts[:8]), 1 / (1 + np.exp(-log_odds)))
    assert np.ptp(log_odds) > 0.01


def test_values_are_the_same_for_every_batch_size_and_shapes_are_few(folder, model):
    images, texts = pictures(37), [f"a red heart {number}" for number in range(37)]
    larger = vlmo_jax.load(folder / "checkpoints" / "0", batch_size=40)
    for each in (model.encode_image, larger.encode_image):
        rows = each(images)
        assert rows.shape == (37, 16) and rows.dtype == np.float32
        close(np.linalg.norm(rows, axis=1), 1)
        close(each(images[:1]), rows[:1])
    close(larger.encode_image(images), model.encode_image(images))
    close(larger.encode_text(texts), model.encode_text(texts))
    close(larger.match(images, texts), model.match(images, texts))
    assert larger._encoders.encode_image._cache_size() == 2  # of a batch, and of a few
    with pytest.raises(ValueError, match="batch_size=12 does not divide over 8 devices; use"):
        vlmo_jax.load(folder, batch_size=12)


def test_images_come_in_any_form(model, tmp_path):
    [array] = pictures(1)
    path = save_picture(tmp_path / "a.png", array)
    with path.open("rb") as file:
        mixed = [path, str(path), file, path.read_bytes(), Image.open(path), array]
        found = model.preprocess(image for image in mixed)
    assert found.dtype == np.uint8 and found.shape == (6, 32, 32, 3)
    assert (found == np.asarray(resize_square(Image.fromarray(array), 32))).all()
    for single in (str(path), path.read_bytes(), Image.open(path), array):
        assert (model.preprocess(single) == found[:1]).all()
    assert (model.preprocess(np.stack([array, array])) == found[:2]).all()
    assert (model.preprocess(np.array([str(path), str(path)])) == found[:2]).all()
    texts = model.encode_text(["a red heart", "rain"])
    for kind in (object, str, np.dtypes.StringDType()):
        assert (model.encode_text(np.array(["a red heart", "rain"], kind)) == texts).all()


def test_images_are_upright_over_white_and_left_as_they_were(model, tmp_path):
    array = pictures(1)[0]
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    path = save_picture(tmp_path / "turned.png", array, exif=exif)
    wanted = np.asarray(resize_square(decode_image(path.read_bytes()), 32))
    picture = Image.open(path)
    assert (model.preprocess([path, picture]) == wanted).all()
    assert picture.size == array.shape[1::-1] and picture.getexif()[0x0112] == 6

    grey, clear = array[:, :, 0], np.concatenate([array, np.zeros_like(array[:, :, :1])], axis=2)
    rows = model.preprocess([grey, grey[:, :, None], np.stack([grey] * 3, axis=2), clear])
    assert (rows[0] == rows[1]).all() and (rows[0] == rows[2]).all() and (rows[3] == 255).all()


def test_a_generator_is_read_a_few_batches_ahead(model):
    images, taken = pictures(4), []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield b"no picture" if number == 700 else images[number % 4]

    with pytest.raises(vlmo_jax.BrokenInputError, match=r"input 700 \(a bytes\)"):
        model.encode_image(endless())
    assert len(taken) <= 700 + 4 * 128


def test_no_inputs_give_no_rows(model, answering):
    assert model.encode_image([]).shape == (0, 16) and model.encode_text(iter([])).shape == (0, 16)
    assert model.match([], []).shape == (0,) and model.preprocess([]).shape == (0, 32, 32, 3)
    assert answering.answer([], []) == [] and model.tokenize([]).token_ids.shape == (0, 16)


BROKEN = {
    "nowhere.png": "No such file or directory",
    "https://example.org/a.png": "nothing is downloaded here; fetch it first",
    b"": "the file is empty",
    b"<html>gone</html>": "UnidentifiedImageError",
    "a\0.png": "embedded null byte",
    7: "it is a int; give a path, an open file",
}


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_broken_image_is_named(model, broken):
    images = pictures(2)
    with pytest.raises(vlmo_jax.BrokenInputError) as caught:
        model.encode_image([images[0], broken, images[1]])
    error = caught.value
    assert BROKEN[broken] in str(error) and error.position == 1 and "\n" not in str(error)
    assert str(error).startswith(f"input 1 ({broken if isinstance(broken, str) else 'a '}")


def test_other_broken_inputs_are_named(model, tmp_path):
    fraction = pictures(1)[0] / 255
    for array, why in (
        (fraction, "float64; give uint8"),
        (np.zeros((2, 3), np.int8), "int8; give"),
    ):
        with pytest.raises(vlmo_jax.BrokenInputError, match=why):
            model.encode_image(array)
    with pytest.raises(vlmo_jax.BrokenInputError, match=r"shape is \[2, 3, 5\]"):
        model.encode_image([np.zeros((2, 3, 5), np.uint8)])
    path = tmp_path / "a.txt"
    path.write_text("words")
    with path.open() as file, pytest.raises(vlmo_jax.BrokenInputError, match="a.txt.*mode 'rb'"):
        model.encode_image([file])
    path.write_bytes(b"\xff\xd8 as a JPEG begins")
    with path.open() as file, pytest.raises(vlmo_jax.BrokenInputError, match="a.txt.*mode 'rb'"):
        model.encode_image([file])
    with pytest.raises(vlmo_jax.BrokenInputError, match="a.txt.*closed file"):
        model.encode_image([file])
    with pytest.raises(vlmo_jax.BrokenInputError, match="it has 0 x 5 pixels"):
        model.encode_image(Image.new("RGB", (0, 5)))
    whole = save_picture(tmp_path / "a.jpg", pictures(1)[0]).read_bytes()
    cut = Image.open(io.BytesIO(whole[:-200]))
    with pytest.raises(vlmo_jax.BrokenInputError, match="OSError: image file is truncated"):
        model.encode_image([cut])
    with pytest.raises(vlmo_jax.BrokenInputError, match=r"input 1 \(a NoneType\).*no text"):
        model.encode_text(["a", None])
    with pytest.raises(vlmo_jax.BrokenInputError, match=r"input 0 \(a .ud83d\).*halves of char"):
        model.encode_text("a \ud83d")
    with pytest.raises(ValueError, match="on_error='ignore' is not known"):
        model.encode_text(["a"], on_error="ignore")


def test_broken_inputs_are_left_out_and_told(model, answering, caplog):
    images = pictures(3)
    rows = model.encode_image(images)
    with caplog.at_level(logging.WARNING):
        found = model.encode_image([images[0], "gone.png", images[2]], on_error="skip")
    assert np.isnan(found[1]).all()
    close(found[[0, 2]], rows[[0, 2]])
    assert "1 inputs were left out: '1: gone.png' (No such file" in caplog.text
    told = []
    found = model.match(["gone.png", images[1]], ["a", "b"], on_error=told.append)
    assert np.isnan(found).tolist() == [True, False]
    assert [(error.position, error.name) for error in told] == [(0, "gone.png")]
    assert [len(pairs) for pairs in answering.answer(
        ["gone.png", images[0]], "what", on_error="skip"
    )] == [0, 3]  # fmt: skip
    found = model.classify(["gone.png", images[0]], ["cat", "dog"], on_error="skip")
    assert np.isnan(found[0]).all() and not np.isnan(found[1]).any()


def test_a_single_input_goes_with_all_others(model):
    images, texts = pictures(3), ["a red heart", "two cats", "rain"]
    pairs = itertools.product(images, texts)
    wanted = model.match(*map(list, zip(*pairs))).reshape(3, 3)
    close(model.match(images[1], texts), wanted[1])
    close(model.match(iter(images), texts[2]), wanted[:, 2])
    close(model.match(images[0], texts[0]), wanted[:1, 0])
    assert np.isnan(model.match("gone.png", texts, on_error="skip")).all()
    for two in (texts[:2], iter(texts[:2])):
        with pytest.raises(ValueError, match="give one text an image"):
            model.match(images, two)


def test_long_texts_are_cut_counted_and_told_once(folder, caplog):
    model = vlmo_jax.load(folder)
    long = "two cats and a dog " * 20
    with caplog.at_level(logging.WARNING):
        rows = model.encode_text([long, "a cat", long + "more"])
        tokens = model.tokenize([long])
    assert model.texts_cut == 3 and caplog.text.count("longer than the 16 tokens") == 1
    close(rows[0], rows[2])
    assert tokens.token_mask.all() and tokens.token_ids[0, -1] == model.tokenizer.end_id


def test_classes_are_averages_of_templates(model):
    images, labels, templates = pictures(4), ["cat", "dog {}", "rain"], ["a {}", "the {} here"]
    found = model.classify(images, labels, templates=templates)
    assert found.shape == (4, 3) and found.dtype == np.float32
    close(found.sum(axis=1), 1)
    first, second = (model.encode_text([t.replace("{}", one) for one in labels]) for t in templates)
    prototypes = (first + second) / np.linalg.norm(first + second, axis=1, keepdims=True)
    scale = np.exp(np.asarray(model.params["itc"]["logit_scale"]))
    logits = scale * model.encode_image(images) @ prototypes.T
    close(found, np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1e-5)
    with pytest.raises(ValueError, match="'a cat' has no place for the label; write {}"):
        model.classify(images, labels, templates=["a cat"])
    with pytest.raises(ValueError, match="labels='cat': give a list"):
        model.classify(images, "cat")


def test_answers_are_those_of_evaluation(answering):
    images, questions = pictures(3), ["what is it", "where is the cat", "is it red"]
    found = answering.answer(images, questions, top_k=5)
    preprocessing = answering.config.data
    ask = make_answerer(
        answering._graphdef, mean=tuple(preprocessing.mean), std=tuple(preprocessing.std), top_k=5
    )
    batch = {
        "image": answering.preprocess(images),
        **answering.tokenize(questions)._asdict(),
    }
    wanted = ask(answering.params, batch)
    assert (
        len(answering.answers) == answering.config.model.num_answers and "yes" in answering.answers
    )
    for pairs, numbers, chances in zip(found, wanted.answer_ids, wanted.probability):
        assert [answer for answer, _ in pairs] == [answering.answers[n] for n in numbers]
        close([probability for _, probability in pairs], chances)
        assert [p for _, p in pairs] == sorted((p for _, p in pairs), reverse=True)


def test_a_model_says_what_it_has_not_learned(model, answering):
    image = pictures(1)[0]
    with pytest.raises(vlmo_jax.UnfitModelError, match="answers questions; .*finetune_vqa.py"):
        model.answer(image, "what is it")
    for call in (lambda: answering.encode_image(image), lambda: answering.encode_text("a")):
        with pytest.raises(vlmo_jax.UnfitModelError, match="for search; .*configs/stage3.py"):
            call()
    with pytest.raises(vlmo_jax.UnfitModelError, match="kind='vqa'.*match; train one with"):
        answering.match(image, "a")


def test_the_encoders_run_from_a_file_without_this_package(model, tmp_path):
    pytest.importorskip("flatbuffers")
    path = model.export(tmp_path / "encoders.npz")
    with pytest.raises(FileExistsError, match="encoders.npz exists; choose another"):
        model.export(tmp_path / "encoders")
    pixels, tokens = model.preprocess(pictures(5)), model.tokenize(["two cats", "rain"])
    np.savez(tmp_path / "inputs.npz", image=pixels, ids=tokens.token_ids, mask=tokens.token_mask)
    program = tmp_path / "program.py"
    program.write_text(
        """
import sys
import jax
import numpy as np

file, inputs = np.load("encoders.npz"), np.load("inputs.npz")
params = [file[name] for name in file.files if name.startswith("params/")]
load = lambda name: jax.export.deserialize(bytearray(file[name].tobytes())).call
image = load("encode_image")(params, inputs["image"])
text = load("encode_text")(params, inputs["ids"], inputs["mask"])
np.savez("outputs.npz", image=image, text=text)
assert "vlmo_jax" not in sys.modules
"""
    )
    subprocess.run([sys.executable, program], cwd=tmp_path, check=True)
    outputs = np.load(tmp_path / "outputs.npz")
    close(outputs["image"], model.encode_image(pictures(5)))
    close(outputs["text"], model.encode_text(["two cats", "rain"]))
    kept = np.load(path)["tokenizer"].tobytes()
    assert kept == model.tokenizer.contents


def test_the_file_says_how_images_are_resized(model, tmp_path):
    pytest.importorskip("flatbuffers")

    def crop(meta):
        return {**meta, "preprocessing": {**meta["preprocessing"], "resize": CROPPED}}

    cropping = vlmo_jax.load(save_stage3(tmp_path / "run", change=crop))
    for each, words in ((model, "resized to squares,"), (cropping, "middle square of")):
        file = np.load(each.export(tmp_path / f"{words[:6]}.npz"))
        about = json.loads(str(file["about"]))
        assert words in about["image"] and about["preprocessing"] == each.preprocessing


def test_the_package_loads_nothing_before_it_is_asked():
    check = "import sys, vlmo_jax; dir(vlmo_jax); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], cwd=ROOT).returncode == 0
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = vlmo_jax.lode
    assert {"load", "Model"} <= set(dir(vlmo_jax))


def test_records_of_data_sets_are_read_by_their_bytes(model):
    record = Record(b"broken", ("a",), (), "x")
    with pytest.raises(vlmo_jax.BrokenInputError, match="a vlmo_jax.datasets.records.Record"):
        model.encode_image([record])
