"""Images alone: the visual tokenizer of stage 1, and evaluation of its reconstructions."""

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.evals.reconstruction import ReconstructionEvaluation
from vlmo_jax.input import checks as input_checks
from vlmo_jax.input.views import ImageExamples
from vlmo_jax.models.dvae import DiscreteVAE
from vlmo_jax.models.flops import visual_tokenizer_flops
from vlmo_jax.parallel import sharding
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import DTYPES, Recipe, compute_dtype
from vlmo_jax.tasks.visual_tokenizer import TokenizerTask, make_tokenizer_model


class TokenizerRecipe(Recipe):
    """Training of a discrete VAE on any set of images; their texts are not read."""

    unit = "images"
    evaluator = "reconstruction"
    page = "reconstructions.png"

    def check_inputs(self):
        checks.check_source(self.config, self.evaluator)

    def check(self, num_devices):
        config = self.config
        checks.check_run(config, num_devices, self.evaluator)
        self._check_model(num_devices)
        self.check_inputs()
        if config.mode == "train":
            self._check_training()

    def _check_model(self, num_devices):
        config, model = self.config, self.config.model
        sizes = ("image_size", "vocab_size", "num_hidden", "num_groups", "blocks_per_group")
        checks.positive(config, [f"model.{name}" for name in sizes])
        checks.require(
            model.num_init >= 0,
            f"config.model.num_init={model.num_init} must be 0 (half of num_hidden) or more",
        )
        checks.one_of("model.dtype", model.dtype, ("auto", *DTYPES))
        stride = f"the tokenizer's stride, 2 ** (config.model.num_groups={model.num_groups} - 1)"
        checks.multiple("model.image_size", model.image_size, 2 ** (model.num_groups - 1), stride)
        _, fsdp, tensor = sharding.mesh_shape(config.mesh, num_devices)
        checks.multiple(
            "model.num_hidden",
            model.num_hidden,
            4 * fsdp,
            "4 x config.mesh.fsdp: a block works at a fourth of its width",
        )
        checks.multiple("model.vocab_size", model.vocab_size, tensor, "config.mesh.tensor")
        if model.num_init:
            checks.multiple("model.num_init", model.num_init, fsdp, "config.mesh.fsdp")

    def _check_training(self):
        config, task, data = self.config, self.config.task, self.config.data
        checks.positive(config, ("task.temperature",))
        for name in ("usage_weight", "certainty_weight"):
            checks.require(
                task[name] >= 0, f"config.task.{name}={task[name]} must be 0 (off) or more"
            )
        checks.require(
            config.accumulation == 1,
            f"config.accumulation={config.accumulation} is not allowed: how evenly codes are used"
            " is known of the whole batch alone; use 1 with a smaller config.batch_size, or more"
            " devices",
        )
        checks.check_crop(data)
        with checks.naming_data():
            input_checks.check_views(tuple(data.crop_scale))

    def open(self):
        config = self.config
        self.source, self.splits = checks.open_data(config, self.evaluator)

    def make_model(self, rngs):
        return DiscreteVAE(**model_arguments(self.config.model), rngs=rngs)

    def make_task(self):
        return TokenizerTask(**self.config.task.to_dict())

    def abstract_batch(self):
        batch, size = self.config.batch_size, self.config.model.image_size
        return {
            "image": jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
            "image_id": jax.ShapeDtypeStruct((batch,), jnp.uint32),
        }

    def batches(self, start_step):
        config, data = self.config, self.config.data
        maker = ImageExamples(
            self.source,
            image_size=config.model.image_size,
            seed=config.seed,
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
        )
        return self._stream(maker, start_step)

    def synthetic_batch(self):
        rng, rows = (
            np.random.default_rng(self.config.seed + jax.process_index()),
            self.config.batch_size // jax.process_count(),
        )
        return {
            "image": rng.integers(
                0, 256, (rows, *self.abstract_batch()["image"].shape[1:]), np.uint8
            ),
            "image_id": np.arange(rows, dtype=np.uint32) + np.uint32(rows * jax.process_index()),
        }

    def forward_flops(self):
        return visual_tokenizer_flops(self.config.model, self.config.data)

    def make_evaluation(self, graphdef, mesh):
        model = self.config.model
        return ReconstructionEvaluation.build(
            self.splits,
            make_tokenizer_model(graphdef),
            image_size=model.image_size,
            vocab_size=model.vocab_size,
            batch_size=self.evaluation.batch_size,
            mesh=mesh,
        )

    def describe_data(self):
        return f"{len(self.source):,} training images from {self.config.data.source}"

    def next_step(self, workdir):
        size = self.config.model.image_size
        return (
            f"stage 1, which predicts these codes: its tokenizer is {workdir}, and reads its images"
            f" at {size} px."
        )

    def preprocessing(self):
        return {
            "image_size": self.config.model.image_size,
            "resize": "square bicubic",
            "mean": [0.0] * 3,
            "std": [1.0] * 3,
        }


def model_arguments(model_config):
    """The arguments of DiscreteVAE in the `model` part of a tokenizer's config; `image_size` is of
    the data alone.
    """
    fields = {name: value for name, value in model_config.to_dict().items() if name != "image_size"}
    return {**fields, "dtype": DTYPES[compute_dtype(model_config)]}
