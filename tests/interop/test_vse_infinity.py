"""Files of VSE-infinity's structure are read, used and written back; others are refused by name."""

import jax
import numpy as np
import pytest
from flax import nnx

from tests.interop.torch_files import Code, TorchFile, call, value
from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.interop.convert import convert, export
from vlmo_jax.interop.formats import FORMATS
from vlmo_jax.interop.tensor_files import TensorFileError, read_tensors
from vlmo_jax.layers.regions import Regions
from vlmo_jax.models.build import abstract_params, model_maker

E, F, M, W, V, DEPTH = 8, 12, 6, 16, 40, 2


def tensors_of(rng):
    """The names and shapes of both towers."""

    def gpo():
        shapes = {"gpool.linear.weight": (1, 32)}
        for suffix in ("", "_reverse"):
            for kind in ("ih", "hh"):
                shapes[f"gpool.gru.weight_{kind}_l0{suffix}"] = (96, 32)
                shapes[f"gpool.gru.bias_{kind}_l0{suffix}"] = (96,)
        return shapes

    image = {"fc.weight": (E, F), "fc.bias": (E,), **gpo()}
    image |= {"mlp.layers.0.weight": (M, F), "mlp.layers.0.bias": (M,)}
    image |= {"mlp.layers.1.weight": (E, M), "mlp.layers.1.bias": (E,)}
    for number, width in ((0, M), (1, E)):
        names = ("weight", "bias", "running_mean", "running_var")
        image |= {f"mlp.bns.{number}.{name}": (width,) for name in names}
    text = {"linear.weight": (E, W), "linear.bias": (E,), **gpo()}
    text |= {
        "bert.embeddings.word_embeddings.weight": (V, W),
        "bert.embeddings.position_embeddings.weight": (24, W),
        "bert.embeddings.token_type_embeddings.weight": (2, W),
        "bert.pooler.dense.weight": (W, W),
        "bert.pooler.dense.bias": (W,),
    }
    norms = ["bert.embeddings.LayerNorm"]
    for layer in range(DEPTH):
        root = f"bert.encoder.layer.{layer}."
        norms += [f"{root}attention.output.LayerNorm", f"{root}output.LayerNorm"]
        dense = {f"attention.self.{name}": (W, W) for name in ("query", "key", "value")}
        dense |= {"attention.output.dense": (W, W), "intermediate.dense": (32, W)}
        dense |= {"output.dense": (W, 32)}
        for name, shape in dense.items():
            text |= {f"{root}{name}.weight": shape, f"{root}{name}.bias": shape[:1]}
    for name in norms:
        text |= {f"{name}.weight": (W,), f"{name}.bias": (W,)}
    draw = lambda shapes: {n: rng.uniform(0.1, 1, s).astype(np.float32) for n, s in shapes.items()}
    return draw(image), draw(text)


def write_file(path, image, text, prefix=""):
    """A model_best.pth, with the options of its training as a pickled Namespace."""
    file = TorchFile()
    towers = [
        {f"{prefix}{name}": file.tensor(array) for name, array in part.items()}
        for part in (image, text)
    ]
    towers[0][f"{prefix}mlp.bns.0.num_batches_tracked"] = file.tensor(np.asarray(3, np.int64))
    options = Code(value(call("argparse.Namespace")) + value({"data_name": "f30k"}) + b"b")
    content = {"epoch": 3, "model": towers, "best_rsum": 500.0, "opt": options, "Eiters": 9}
    return file.write(path, content)


@pytest.fixture(scope="module")
def towers():
    return tensors_of(np.random.default_rng(0))


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_is_read_and_written_back(towers, tmp_path, prefix):
    path = write_file(tmp_path / "model_best.pth", *towers, prefix=prefix)
    meta = convert(path, tmp_path / "ours", "vse_infinity", num_heads=2)
    model = meta["config"]["model"]
    assert (model["embed_width"], model["region_width"], model["region_mlp"]) == (E, F, M)
    assert (model["width"], model["depth"], model["num_heads"], model["mlp_dim"]) == (W, 2, 2, 32)
    back = read_tensors(export(tmp_path / "ours", tmp_path / "back", "vse_infinity"))
    wanted = {
        f"{number}.{prefix}{name}": array
        for number, part in enumerate(towers)
        for name, array in part.items()
    }
    assert set(back) - set(wanted) <= {f"0.{prefix}mlp.bns.0.num_batches_tracked"}
    for name, array in wanted.items():
        np.testing.assert_array_equal(back[name], array)


def test_what_is_read_is_a_model_that_runs(towers, tmp_path):
    path = write_file(tmp_path / "model_best.pth", *towers)
    found = FORMATS["vse_infinity"].read(read_tensors(path), num_heads=2)
    maker = model_maker({**found.config["model"], "dtype": "float32"})
    shapes = {path: leaf.shape for path, leaf in flatten(abstract_params(maker)).items()}
    assert {path: leaf.shape for path, leaf in flatten(found.params).items()} == shapes
    with nnx.use_eager_sharding(False):
        graphdef = nnx.graphdef(maker(nnx.Rngs(0)))
    model = nnx.merge(graphdef, jax.tree.map(jax.numpy.asarray, found.params))
    regions = Regions(
        jax.numpy.ones((2, 3, F)), None, jax.numpy.asarray([[1, 1, 0], [1, 0, 0]]) > 0
    )
    vectors = model.retrieval_image(regions)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)


def without(part, name):
    return {key: array for key, array in part.items() if key != name}


def test_other_files_are_refused_by_name(towers, tmp_path):
    image, text = towers
    backbone = {"backbone.top.conv1.weight": np.ones((2, 2), np.float32)}
    gru = {"rnn.weight_ih_l0": np.ones((2, 2), np.float32)}
    cases = [
        (({**backbone, **image}, text), "grid variant: 1 tensors 0.backbone"),
        ((image, {**text, **gru}), "GRU over words"),
        ((without(image, "fc.bias"), text), "missing .*0.fc.bias"),
        ((image, {**text, "vqa.weight": np.ones(3, np.float32)}), "unexpected .*1.vqa.weight"),
        (({**image, "fc.bias": np.ones(3, np.float32)}, text), r"0.fc.bias: shape \(3,\)"),
        ((image, without(text, "bert.embeddings.word_embeddings.weight")), "missing .*word_emb"),
    ]
    for number, (parts, message) in enumerate(cases):
        path = write_file(tmp_path / f"{number}.pth", *parts)
        with pytest.raises(TensorFileError, match=message):
            convert(path, tmp_path / f"out{number}", "vse_infinity", num_heads=2)
        assert not (tmp_path / f"out{number}").exists()
    file = TorchFile()
    path = file.write(tmp_path / "one.pth", {"fc.weight": file.tensor(image["fc.weight"])})
    with pytest.raises(TensorFileError, match="holds a list of two state dicts"):
        convert(path, tmp_path / "one", "vse_infinity")
