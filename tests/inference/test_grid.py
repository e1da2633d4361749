"""Features of a grid: those of the model, with boxes, whole or not at all."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from tests import tiny
from tests.inference.models import pictures, save_picture
from vlmo_jax.checkpoints.store import save_params
from vlmo_jax.datasets import build, open_region_source
from vlmo_jax.inference.commands import grid_features
from vlmo_jax.inference.grid import patch_boxes
from vlmo_jax.inference.heads import UnfitModelError
from vlmo_jax.input.images.pixels import resize_square
from vlmo_jax.layers.embeddings import normalize_image


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three pictures with captions, as a data set."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number, picture in enumerate(pictures(3)):
        save_picture(folder / f"{number}.png", picture)
        rows.append(f"{number}.png\tpicture {number}\n")
    (folder / "captions.tsv").write_text("image\ttext\n" + "".join(rows))
    out = folder.parent / "source"
    build.main([str(folder), str(out)])
    return out


def checkpoint(folder, **changes):
    """A checkpoint of the tiny VLMo."""
    config = tiny.config()
    config.model.dtype = "float32"
    values = tiny.params()
    data = config.data
    meta = {
        "config": {**json.loads(config.to_json()), **changes},
        "preprocessing": {
            "image_size": tiny.SIZE,
            "resize": "square bicubic",
            "mean": list(data.mean),
            "std": list(data.std),
        },
    }
    save_params(folder / "checkpoints", values, meta)
    return values, data


def test_features_are_those_of_the_model(source, tmp_path):
    values, data = checkpoint(tmp_path / "model")
    out = tmp_path / "grid"
    grid_features.main([str(source), str(out), f"--model={tmp_path / 'model'}", "--batch_size=2"])
    records = open_region_source(str(out), "train")
    assert len(records) == 3
    model = nnx.merge(tiny.graphdef(), values)
    for number, picture in enumerate(pictures(3)):
        (record,) = (r for r in map(records.__getitem__, range(3)) if r.texts[0][-1] == str(number))
        image = np.asarray(resize_square(Image.fromarray(picture), tiny.SIZE))[None]
        wanted = model.patch_states(jnp.asarray(normalize_image(image, data.mean, data.std)))[0]
        np.testing.assert_allclose(record.features, wanted, atol=1e-4)
        assert (record.height, record.width) == picture.shape[:2]
        np.testing.assert_array_equal(record.boxes, patch_boxes(2, *picture.shape[1::-1]))
    facts = json.loads((out / grid_features.GRID_FILE).read_text())
    assert len(facts["fingerprint"]) == 64 and facts["grid"] == 2 and facts["width"] == 16


def test_patches_stand_row_by_row():
    assert patch_boxes(2, 40, 20).tolist() == [
        [0, 0, 20, 10],
        [20, 0, 40, 10],
        [0, 10, 20, 20],
        [20, 10, 40, 20],
    ]


def test_other_models_are_refused(source, tmp_path):
    checkpoint(tmp_path / "model", model={"kind": "discrete_vae"})
    with pytest.raises(UnfitModelError, match="'discrete_vae'; features of a grid are those of"):
        grid_features.main([str(source), str(tmp_path / "out"), f"--model={tmp_path / 'model'}"])
    assert not (tmp_path / "out").exists()
