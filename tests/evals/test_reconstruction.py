"""Scores of a tokenizer are those of its rows on any mesh; failures name the evaluator."""

import io

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from tests import tiny
from vlmo_jax.datasets import Record
from vlmo_jax.evals.reconstruction import ReconstructionEvaluation, ReconstructionEvaluator
from vlmo_jax.tasks.visual_tokenizer import Reconstruction, VisualTokenizerModel

SIZE, CODES = 4, 8
FIELDS = dict(image_size=SIZE, vocab_size=CODES, batch_size=8)


@pytest.fixture(scope="module")
def records():
    rng, records = np.random.default_rng(0), []
    for number in range(19):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(file, "PNG")
        records.append(
            Record(image=file.getvalue(), texts=("a drawing",), keywords=(), image_id=str(number))
        )
    return records


@pytest.fixture(scope="module")
def model():
    """Codes: the red of the quarters in steps of 64, plus a parameter. Reconstruction: black."""

    def score(offset, batch):
        image = batch["image"].astype(jnp.float32)
        codes = batch["image"][:, ::2, ::2, 0] // 64 + offset
        error = jnp.square(image / 255).mean((1, 2, 3)) + 0 * offset
        return Reconstruction(error, codes.astype(jnp.int32).reshape(-1, 4))

    return VisualTokenizerModel(
        jax.jit(score), jax.jit(lambda offset, batch: jnp.zeros_like(batch["image"]))
    )


def evaluation(records, model, mesh):
    evaluator = ReconstructionEvaluator(records, name="some_split", mesh=mesh, **FIELDS)
    return ReconstructionEvaluation("codes", [evaluator], model)


def test_scores_are_those_of_the_rows_on_every_mesh(records, model, tmp_path):
    pixels = np.stack([np.asarray(Image.open(io.BytesIO(record.image))) for record in records])
    share = np.bincount((pixels[:, ::2, ::2, 0] // 64 + 2).ravel()) / (4 * len(records))
    share = share[share > 0]
    expected = {
        "eval/codes/some_split/psnr": np.mean(
            -10 * np.log10(np.square(pixels / 255).mean((1, 2, 3)))
        ),
        "eval/codes/some_split/codes_in_use": 4.0,
        "eval/codes/some_split/code_perplexity": np.exp(-np.sum(share * np.log(share))),
    }
    for shape in ((1, 1, 1), (4, 2, 1)):
        with jax.set_mesh(mesh := tiny.mesh_of(shape)):
            found = evaluation(records, model, mesh).run(
                jnp.float32(2), 0, page=tmp_path / "page.png"
            )
        assert found == pytest.approx(expected, rel=1e-5)
        assert Image.open(tmp_path / "page.png").size[0] > 3 * 96


def test_failures_name_the_evaluator_and_the_step(records, model):
    with jax.set_mesh(mesh := tiny.mesh_of((8, 1, 1))):
        with pytest.raises(ValueError, match="'some_split': batch_size=12 does not divide over 8"):
            ReconstructionEvaluator(
                records, name="some_split", mesh=mesh, **{**FIELDS, "batch_size": 12}
            )
        with pytest.raises(RuntimeError, match="'some_split' failed at step 7: .*not finite"):
            evaluation(records, model, mesh).run(jnp.float32(np.nan), 7)
