"""What conversion takes: parameters once, a few tensors at a time, and nothing of the file."""

import functools
import subprocess
import sys
import tracemalloc
import types

import jax
import numpy as np
import pytest

from tests.interop.test_clip import script
from tests.paths import ROOT
from vlmo_jax.interop.beit import BeitSizes, beit_places, to_beit
from vlmo_jax.interop.beit_segmenter import segmenter_fields, to_beit_segmenter
from vlmo_jax.interop.clip import to_clip
from vlmo_jax.interop.clip_names import OPENAI
from vlmo_jax.interop.float32_tensors import Float32Tensors
from vlmo_jax.interop.formats import FORMATS
from vlmo_jax.interop.places import fill_places
from vlmo_jax.interop.tensor_files import read_tensors, write_safetensors
from vlmo_jax.models.build import abstract_params, model_maker
from vlmo_jax.models.segmenter import POOLED_PARTS

BEIT = BeitSizes(
    image_size=32,
    patch_size=16,
    width=512,
    depth=6,
    num_upper=1,
    num_heads=8,
    mlp_dim=2048,
    position="absolute",
    shared_table=False,
    layer_scale=True,
    vocab_size=64,
    mask_token=True,
    final_norm=True,
)
SEGMENTED = BEIT._replace(width=256, depth=8, mlp_dim=1024, position="relative")
SEGMENTED = SEGMENTED._replace(vocab_size=None, mask_token=False, final_norm=False)
HEADS = dict(num_classes=4, head_channels=256, auxiliary_channels=8)
CLIP = dict(image_size=32, patch_size=16, width=512, depth=5, num_heads=8, mlp_dim=2048)
CLIP |= dict(vocab_size=64, text_length=8, embed_dim=64)
CLIP |= dict(text_width=256, text_depth=2, text_num_heads=4, text_mlp_dim=1024)


def random_params(kind, fields):
    draws = np.random.default_rng(0)
    shapes = abstract_params(model_maker({"kind": kind, **fields}))
    return jax.tree.map(lambda x: draws.standard_normal(x.shape, np.float32) * 0.02, shapes)


def halves(tensors):
    return {name: tensor.astype(np.float16) for name, tensor in tensors.items()}


@functools.cache
def clip_tensors(spelling):
    return halves(to_clip(random_params("clip", CLIP), CLIP, spelling))


@functools.cache
def beit_tensors(huggingface):
    params = random_params("beit", BEIT.model_fields())
    return halves(to_beit(params, BEIT, huggingface=huggingface))


@functools.cache
def segmenter_tensors(huggingface):
    fields = segmenter_fields(SEGMENTED, HEADS, blocks=(1, 3, 5, 7), parts=POOLED_PARTS)
    params = random_params(fields.pop("kind"), fields)
    return halves(to_beit_segmenter(params, SEGMENTED, huggingface=huggingface))


def openai_archive(folder):
    scalars = dict(input_resolution=32, context_length=8, vocab_size=64)
    return script(
        folder / "clip.pt",
        {**clip_tensors(OPENAI), **{name: np.array(x) for name, x in scalars.items()}},
    )


def read(source, name, **hints):
    tensors = Float32Tensors(
        functools.partial(read_tensors, source),
        mapped=True,
        bar=types.SimpleNamespace(total=0, update=lambda: None),
    )
    return FORMATS[name].read(tensors, **hints)


@pytest.mark.parametrize(
    ("name", "make", "spelling", "hints"),
    [
        ("clip", clip_tensors, OPENAI, {"activation": "gelu"}),
        ("beit", beit_tensors, False, {}),
        ("beit", beit_tensors, True, {}),
        ("beit_segmenter", segmenter_tensors, False, {}),
        ("beit_segmenter", segmenter_tensors, True, {}),
    ],
)
def test_halves_are_read_one_by_one(tmp_path, name, make, spelling, hints):
    source = tmp_path / "halves.safetensors"
    write_safetensors(source, make(spelling))
    read(source, name, **hints)  # what tracing a model takes for good
    tracemalloc.start()
    try:
        read(source, name, **hints)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    # Parameters are float32: twice the file.
    assert peak < 2.7 * source.stat().st_size


def test_what_was_read_holds_nothing_of_the_file(tmp_path):
    converted = read(openai_archive(tmp_path), "clip")
    assert set(converted.aside) == {"input_resolution", "context_length", "vocab_size"}
    for tensor in (*converted.aside.values(), *jax.tree.leaves(converted.params)):
        while tensor is not None:
            assert not isinstance(tensor, np.memmap)
            tensor = tensor.base if isinstance(tensor, np.ndarray) else None


def test_jax_takes_parameters_over_without_a_copy():
    places = beit_places(BEIT)
    params = fill_places({n: t.astype(np.float32) for n, t in beit_tensors(False).items()}, places)
    for ours in jax.tree.leaves(params):
        taken = jax.device_put(ours, jax.devices("cpu")[0])
        assert taken.unsafe_buffer_pointer() == ours.ctypes.data


PEAK = """
import pathlib, sys
from vlmo_jax.interop import convert
from vlmo_jax.commands.freed_memory import return_freed_memory

def told(name):
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))

source, out = sys.argv[1:]
return_freed_memory()
convert.convert(source, out + "_first", "clip")  # what a program like this takes at all
before = told("VmRSS")
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
convert.convert(source, out, "clip")
print(told("VmHWM") - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_a_whole_conversion_of_halves(tmp_path):
    source = openai_archive(tmp_path)
    command = [sys.executable, "-c", PEAK, str(source), str(tmp_path / "ours")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(done.stdout.split()[-1]) < 2.5 * source.stat().st_size
