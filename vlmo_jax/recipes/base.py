"""What train, evaluate and bench ask of a recipe."""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.input.hosts import Host
from vlmo_jax.input.pipeline import Loading, stream_batches

SYNTHETIC = "synthetic"  # stands for a data set, or a tokenizer, that is not read

# Fields of config.data that say how batches are made, not what is in them.
STREAM_FIELDS = ("num_workers", "num_threads", "prefetch", "max_broken_fraction")

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class Recipe:
    """A kind of run: its model, task, data and evaluation.

    `check` comes first, then, for a run that reads data, `open`. Neither model nor batches are
    made before they are asked for.

    Attributes:
        config: ConfigDict of the recipe.
        unit: what a batch is made of, in the plural.
        evaluator: the member of config.evals that says how the run is evaluated.
        page: file name of the picture that the last evaluation draws.
        page_at_start: whether the evaluation before the first step draws it too, for a picture of
            before and after.
        tokenizer: of the texts, once the recipe is open; None where there are none.
    """

    unit: ClassVar[str]
    evaluator: ClassVar[str]
    page: ClassVar[str]
    page_at_start: ClassVar[bool] = False
    tokenizer = None

    def __init__(self, config):
        self.config = config

    @property
    def evaluation(self):
        """The part of the config that says how the run is evaluated."""
        return self.config.evals[self.evaluator]

    def check_inputs(self):
        """Refuses configs that do not say what to read; opens nothing, and asks nothing of the
        devices.

        Raises:
            ConfigError: at the first field that is not set.
        """
        raise NotImplementedError

    def check(self, num_devices):
        """Refuses impossible configs for a job of `num_devices` devices, those of `check_inputs`
        included.

        Raises:
            ConfigError: at the first impossible value or combination.
        """
        raise NotImplementedError

    def open(self):
        """Opens data sets and tokenizers.

        Raises:
            ConfigError: one that is missing, damaged, or does not fit.
        """
        raise NotImplementedError

    def make_model(self, rngs):
        """Builds the model from nnx.Rngs."""
        raise NotImplementedError

    def make_task(self):
        """The task: `prepare`, `loss` and `gradients` (see gradients.py)."""
        raise NotImplementedError

    def abstract_batch(self):
        """Shapes and types of a training batch, name -> jax.ShapeDtypeStruct."""
        raise NotImplementedError

    def load_extra(self):
        """What a step reads beside the parameters it trains, such as a frozen tokenizer: a pure
        tree of numpy arrays.
        """
        return {}

    def abstract_extra(self):
        """Shapes and types of `load_extra`, without reading anything."""
        return {}

    def batches(self, start_step):
        """The training batches of this process from `start_step` to the end: an iterator and
        context manager.
        """
        raise NotImplementedError

    def _stream(self, maker, start_step):
        """What `batches` returns, of the examples that `maker` writes."""
        config = self.config
        return stream_batches(
            maker,
            batch_size=config.batch_size,
            start_step=start_step,
            end_step=config.steps,
            host=Host(jax.process_index(), jax.process_count()),
            loading=Loading(**{name: config.data[name] for name in STREAM_FIELDS}),
        )

    def synthetic_batch(self):
        """What this process contributes to a made-up batch of `abstract_batch`'s shapes, for
        benchmarks: numpy arrays.
        """
        raise NotImplementedError

    def forward_flops(self):
        """FLOPs of the forward passes of a training step, an example (see models/flops.py)."""
        raise NotImplementedError

    def make_evaluation(self, graphdef, mesh):
        """The evaluations of the run: `run(params, step, page=None)` gives `eval/...` metrics, and
        draws `page` if asked.
        """
        raise NotImplementedError

    def describe_data(self):
        """What is trained on, in a few words."""
        raise NotImplementedError

    def next_step(self, workdir):
        """What to do with the finished run in `workdir`, in words and commands."""
        raise NotImplementedError

    def tokenizer_meta(self):
        """File and SHA-256 of the text tokenizer, kept with every checkpoint, or None."""
        return self.tokenizer and {
            "file": str(self.tokenizer.path),
            "sha256": self.tokenizer.fingerprint,
        }

    def preprocessing(self):
        """How inputs become arrays, kept with every checkpoint: plain JSON values."""
        raise NotImplementedError


def compute_dtype(model_config):
    """Name of the type that a model computes in; "auto" is float32 on CPU and bfloat16 elsewhere."""
    if model_config.dtype != "auto":
        return model_config.dtype
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def model_fields(model_config):
    """The fields of `config.model` as arguments of a model."""
    fields = model_config.to_dict()
    return {
        **fields,
        "dtype": DTYPES[compute_dtype(model_config)],
        "layer_scale": fields["layer_scale"] or None,
    }


def abstract_rows(rows, batch_size):
    """Shapes and types of a batch of `rows` (see input/schema.py), name -> jax.ShapeDtypeStruct."""
    return {
        name: jax.ShapeDtypeStruct((batch_size, *column.shape), column.dtype)
        for name, column in rows.columns.items()
    }


def synthetic_rows(rows, config, vocab_size=0):
    """This process' made-up rows of a batch: numpy arrays."""
    count, process = config.batch_size // jax.process_count(), jax.process_index()
    rng = np.random.default_rng(config.seed + process)
    return rows.synthetic(count, rng, vocab_size=vocab_size, first_row=count * process)


def count_params(abstract_params):
    """Number of parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract_params))
