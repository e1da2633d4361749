"""The visual tokenizer of stage 1: a discrete VAE from a checkpoint, whose parameters never train."""

import math

import jax.numpy as jnp
from flax import nnx

from vlmo_jax.checkpoints.earlier import upgrade_config
from vlmo_jax.checkpoints.store import SavedParams
from vlmo_jax.models.build import abstract_model
from vlmo_jax.models.dvae import DiscreteVAE

KIND = "discrete_vae"  # config.model.kind of the runs that make one
DALLE_HIDDEN = 256


class VisualTokenizer:
    """The tokenizer of a checkpoint.

    Args:
        path: a work folder or checkpoint of configs/tokenizer.py, or a converted one (see
            checkpoint.find_checkpoint).

    Attributes:
        vocab_size: V, its codes.
        stride: pixels a side that one code stands for.
        has_decoder: whether codes can be turned into images again.

    Raises:
        FileNotFoundError: no checkpoint there.
        ValueError: it is damaged, or no visual tokenizer.
    """

    def __init__(self, path):
        self._saved = SavedParams(path)
        model = upgrade_config(self._saved.meta.get("config", {})).get("model", {})
        if model.get("kind") != KIND:
            raise ValueError(
                f"checkpoint {self._saved.name} is of kind {model.get('kind')!r}, not {KIND!r};"
                " give the work folder of a run of configs/tokenizer.py, or a converted DALL-E"
                " encoder"
            )
        sizes = ("vocab_size", "num_hidden", "num_groups", "blocks_per_group", "num_init")
        self._fields = {name: model[name] for name in sizes}
        self._set_sizes(any(path[0] == "decoder" for path in self._saved.shapes))

    def _set_sizes(self, has_decoder):
        self.vocab_size, self.stride = (
            self._fields["vocab_size"],
            2 ** (self._fields["num_groups"] - 1),
        )
        self.has_decoder = has_decoder

    def abstract(self, *, decoder=False):
        """The graphdef and the shapes of the parameters, with or without the decoder, computing in
        float32.
        """
        graphdef, state = abstract_model(
            lambda rngs: DiscreteVAE(**self._fields, decoder=decoder, dtype=jnp.float32, rngs=rngs)
        )
        return graphdef, nnx.to_pure_dict(state)

    def load(self, *, decoder=False):
        """The parameters as a pure tree of numpy arrays, float32."""
        wanted = nnx.traversals.flatten_mapping(self.abstract(decoder=decoder)[1])
        if missing := sorted("/".join(path) for path in wanted if path not in self._saved.shapes):
            raise ValueError(
                f"checkpoint {self._saved.name} lacks"
                f" {', '.join(missing[:5])}{' ...' if missing[5:] else ''}"
            )
        return nnx.traversals.unflatten_mapping(self._saved.read(list(wanted)))


class SyntheticTokenizer(VisualTokenizer):
    """A tokenizer of DALL-E's size with random parameters: for benchmarks, which read no
    checkpoint.

    Args:
        vocab_size: V.
        stride: pixels a side that one code stands for, a power of two.
    """

    def __init__(self, vocab_size, stride):
        groups = int(math.log2(stride)) + 1
        self._fields = dict(
            vocab_size=vocab_size,
            num_hidden=DALLE_HIDDEN,
            num_groups=groups,
            blocks_per_group=2,
            num_init=0,
        )
        self._set_sizes(has_decoder=False)

    def load(self, *, decoder=False):
        with nnx.use_eager_sharding(False):
            return nnx.to_pure_dict(
                nnx.state(DiscreteVAE(**self._fields, decoder=decoder, rngs=nnx.Rngs(0)))
            )
