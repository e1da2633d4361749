"""The visual tokenizer of stage 1: a discrete VAE from a checkpoint, which never trains."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from vlmo_jax.checkpoints.param_names import flatten
from vlmo_jax.checkpoints.saved_params import SavedParams
from vlmo_jax.models.build import ModelMaker, abstract_model, model_maker, random_params

KIND = "discrete_vae"  # config.model.kind of the runs that make one
DALLE_HIDDEN = 256


class VisualTokenizer:
    """The visual tokenizer of a checkpoint.

    Args:
        path: a work folder or checkpoint of configs/visual_tokenizer.py, or a converted one (see
            checkpoints.saved_params.find_checkpoint).

    Attributes:
        vocab_size: V, its codes.
        stride: pixels a side that one code stands for.
        has_decoder: whether codes can be turned into images again.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or no visual tokenizer.
    """

    def __init__(self, path: str | Path) -> None:
        self._saved = SavedParams(path)
        model = self._saved.meta.get("config", {}).get("model", {})
        if model.get("kind") != KIND:
            raise ValueError(
                f"checkpoint {self._saved.name} has a model of kind {model.get('kind')!r}, not"
                f" {KIND!r}; give the work folder of a run of configs/visual_tokenizer.py, or a"
                " converted DALL-E encoder"
            )
        self._set_model(model, any(path[0] == "decoder" for path in self._saved.shapes))

    def _set_model(self, model: dict[str, Any], has_decoder: bool) -> None:
        self._model = {**model, "dtype": "float32"}
        self.vocab_size, self.stride = model["vocab_size"], 2 ** (model["num_groups"] - 1)
        self.has_decoder = has_decoder

    def _make(self, decoder: bool) -> ModelMaker:
        return model_maker(self._model, decoder=decoder)

    def abstract(self, *, decoder: bool = False) -> tuple[nnx.GraphDef, Any]:
        """The graphdef and the shapes of the parameters, with or without the decoder, computing in
        float32.
        """
        graphdef, state = abstract_model(self._make(decoder))
        return graphdef, nnx.to_pure_dict(state)

    def identity(self) -> dict[str, Any]:
        """The step of the checkpoint and the SHA-256 of its encoder, by which a run that goes on
        knows it again.
        """
        digest = hashlib.sha256()
        for path, array in sorted(flatten(self.load()).items()):
            digest.update("/".join(path).encode())
            digest.update(np.ascontiguousarray(array).data)
        return {"step": self._saved.step, "sha256": digest.hexdigest()}

    def load(self, *, decoder: bool = False) -> Any:
        """The parameters as a pure tree of numpy arrays, float32."""
        wanted = nnx.traversals.flatten_mapping(self.abstract(decoder=decoder)[1])
        if missing := sorted("/".join(path) for path in wanted if path not in self._saved.shapes):
            more = " ..." if len(missing) > 5 else ""
            raise ValueError(f"checkpoint {self._saved.name} lacks {', '.join(missing[:5])}{more}")
        return nnx.traversals.unflatten_mapping(self._saved.read(list(wanted)))


class SyntheticVisualTokenizer(VisualTokenizer):
    """A visual tokenizer of DALL-E's size with random parameters: for benchmarks, which read no
    checkpoint.

    Args:
        vocab_size: V.
        stride: pixels a side that one code stands for, a power of two.
    """

    def __init__(self, vocab_size: int, stride: int) -> None:
        sizes = dict(num_hidden=DALLE_HIDDEN, blocks_per_group=2, num_init=0)
        groups = int(math.log2(stride)) + 1
        model = dict(kind=KIND, vocab_size=vocab_size, num_groups=groups, **sizes)
        self._set_model(model, has_decoder=False)

    def identity(self) -> dict[str, Any]:
        """There is no checkpoint."""
        return {}

    def load(self, *, decoder: bool = False) -> Any:
        """Random parameters as a pure tree of arrays, float32."""
        return random_params(self._make(decoder), 0)
