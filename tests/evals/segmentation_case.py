"""Small records with masks and a stand-in for the model, for the tests of segmentation; run as a
script it is one of two processes.
"""

import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vlmo_jax.datasets.masks import IGNORED
from vlmo_jax.datasets.records import SegmentationRecord
from vlmo_jax.evals.segmentation import SegmentationEvaluator
from vlmo_jax.evals.window_views import Looking
from vlmo_jax.input.segmented_images import Labelling
from vlmo_jax.parallel import sharding

CLASSES = ("dark", "light", "never")
BATCH_SIZE = 4
LOOKING = Looking(32, 20)
SIZES = [(32, 56), (72, 32), (64, 40), (32, 32)]  # 3 + 3 + 2 + 1 windows
SHARES = np.array([-1, 1, 0], np.float32)  # of light in the logits


def png(pixels):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def record(height, width, name, *, label=1, noise=0, ignored=0):
    """Light where the mask has the label; of its first rows some are ignored."""
    rng = np.random.default_rng(height * width)
    mask = np.kron(rng.integers(0, 2, (height // 8, width // 8)), np.ones((8, 8))).astype(np.uint8)
    light = mask * 255.0 + noise * rng.normal(size=mask.shape)
    pixels = np.repeat(light.clip(0, 255)[..., None], 3, axis=-1).astype(np.uint8)
    mask *= label
    mask[:ignored] = IGNORED
    return SegmentationRecord(png(pixels), np.frombuffer(png(mask), np.uint8), name)


def make_records():
    return [
        record(*size, f"drawing {row}", noise=200, ignored=row) for row, size in enumerate(SIZES)
    ]


@jax.jit
def by_light(shares, batch):
    """Takes light pixels for class 1, the others for class 0."""
    light = batch["image"].astype(jnp.float32).mean(-1, keepdims=True) / 127.5 - 1
    return jnp.matmul(light, shares[None]) - jnp.array([0.0, 0.0, 2.0]).reshape(1, 1, 1, 3)


def make_evaluator(mesh, records=None, *, batch_size=BATCH_SIZE, **looking):
    return SegmentationEvaluator(
        records or make_records(),
        name="split",
        classes=CLASSES,
        labelling=Labelling(3, zero_is_other=False),
        looking=Looking(LOOKING.side, LOOKING.stride, **looking),
        batch_size=batch_size,
        mesh=mesh,
    )


def result_of(evaluator, shares):
    """What an evaluator finds, as plain values."""
    scores, segmented = evaluator.evaluate(by_light, shares, 1)
    return {
        "scores": scores,
        "counts": segmented.counts.tolist(),
        "per_image": [list(row) for row in segmented.per_image],
        "predictions": [classes.tolist() for *_, classes in segmented.examples],
    }


def main():
    port, process = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(process))
    mesh = sharding.make_mesh()
    with jax.set_mesh(mesh):
        shares = jax.make_array_from_process_local_data(sharding.replicated(mesh), SHARES)
        found = result_of(make_evaluator(mesh), shares)
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()
