"""A small split and a stand-in for the model, for the retrieval tests; run as a script it is one of
two processes.
"""

import functools
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from vlmo_jax.datasets import Record
from vlmo_jax.evals import RetrievalEvaluator
from vlmo_jax.input.plain_images import EvalImages, ImageRows
from vlmo_jax.input.text.tokenizer import load_tokenizer
from vlmo_jax.parallel import sharding
from vlmo_jax.tasks.retrieval import Encoders

NUM_IMAGES, SIZE, LENGTH, WIDTH = 13, 8, 12, 16
WORDS = ["cat", "dog", "house", "tree", "red", "green", "blue", "happy", "sad", "small"]


class Source(list):
    """Records that count how often each is read."""

    def __init__(self, records):
        super().__init__(records)
        self.reads = 0

    def __getitem__(self, row):
        self.reads += 1
        return super().__getitem__(row)


def make_source():
    rng = np.random.default_rng(0)
    records = []
    for row in range(NUM_IMAGES):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)).save(file, "PNG")
        captions = tuple(" ".join(rng.choice(WORDS, 4)) for _ in range(1 + row % 3))
        records.append(Record(file.getvalue(), captions, (), f"drawing {row}"))
    return Source(records)


def make_params(vocab_size):
    keys = jax.random.split(jax.random.key(0), 3)
    shapes = ((SIZE * SIZE * 3, WIDTH), (vocab_size, WIDTH), (WIDTH, WIDTH))
    return [np.asarray(jax.random.normal(key, shape)) for key, shape in zip(keys, shapes)]


def normalize(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@jax.jit
def encode_image(params, batch):
    pixels = batch["image"].reshape(len(batch["image"]), -1) / 127.5 - 1
    return normalize(jnp.matmul(pixels, params[0], precision="highest"))


@jax.jit
def encode_text(params, batch):
    return normalize(
        jnp.sum(params[1][batch["token_ids"]] * batch["token_mask"][..., None], axis=1)
    )


@jax.jit
def match(params, batch):
    image, text = encode_image(params, {"image": batch["image"]}), encode_text(params, batch)
    return jnp.sum(jnp.matmul(image, params[2], precision="highest") * text, axis=-1)


ENCODERS = Encoders(encode_image, encode_text, match)


def make_evaluator(mesh, source=None, kind=RetrievalEvaluator, **options):
    options = {
        "name": "drawings",
        "images": functools.partial(EvalImages, rows=ImageRows(SIZE)),
        "text_length": LENGTH,
        "batch_size": 8,
    } | options
    return kind(source or make_source(), load_tokenizer("emoji"), mesh=mesh, **options)


def main():
    port, process = sys.argv[1:]
    jax.distributed.initialize(f"localhost:{port}", 2, int(process))
    params = make_params(load_tokenizer("emoji").vocab_size)
    mesh = sharding.make_mesh()
    with jax.set_mesh(mesh):
        params = [
            jax.make_array_from_process_local_data(sharding.replicated(mesh), array)
            for array in params
        ]
        metrics, examples = make_evaluator(mesh).evaluate_with_examples(ENCODERS, params, 0, 4)
    print("RESULT", json.dumps([metrics, examples.image_captions]))


if __name__ == "__main__":
    main()
