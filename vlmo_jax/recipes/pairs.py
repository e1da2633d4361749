"""Image-text pairs: stage 3, and evaluation of retrieval."""

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.evals.suite import Evaluation
from vlmo_jax.input import checks as input_checks
from vlmo_jax.input.pipeline import train_batches
from vlmo_jax.models.flops import model_flops
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import (
    STREAM_FIELDS,
    Recipe,
    masked_text_shapes,
    model_fields,
    synthetic_masked_text,
)
from vlmo_jax.tasks.pretrain import PretrainTask

# Fields of config.data that the input takes as they are.
INPUT_FIELDS = (
    "captions",
    "crop_scale",
    "flip",
    "randaugment_fill",
    "mask_rate",
    "max_masked_tokens",
    *STREAM_FIELDS,
)


class PairsRecipe(Recipe):
    """Vision-language pre-training on image-text pairs."""

    unit = "pairs"
    evaluator = "retrieval"
    page = "retrieval.png"

    def check_inputs(self):
        checks.check_source(self.config, self.evaluator)
        checks.check_tokenizer(self.config)

    def check(self, num_devices):
        config, top_k = self.config, self.evaluation.rerank_top_k
        checks.check_run(config, num_devices, self.evaluator)
        checks.require(
            top_k >= 0,
            f"config.evals.retrieval.rerank_top_k={top_k} must be 0 (no re-ranking) or more",
        )
        checks.check_transformer(config, num_devices)
        self.check_inputs()
        checks.check_text(config, num_devices)
        if config.mode == "train":
            self._check_training()

    def _check_training(self):
        config, data = self.config, self.config.data
        checks.require(
            config.batch_size >= 2,
            f"config.batch_size={config.batch_size} leaves no negatives; use at least 2",
        )
        checks.check_masked_language(config)
        checks.check_normalisation(data)
        checks.check_crop(data)
        checks.require(
            len(data.randaugment) in (0, 2),
            f"config.data.randaugment={tuple(data.randaugment)} must be (operations, magnitude)"
            " or ()",
        )
        with checks.naming_data():
            input_checks.check_captions(data.captions)
            input_checks.check_views(
                tuple(data.crop_scale),
                tuple(data.randaugment) or None,
                tuple(data.color_jitter) or None,
            )

    def open(self):
        config = self.config
        self.tokenizer = checks.open_tokenizer(config)
        self.source, self.splits = checks.open_data(config, self.evaluator)

    def make_model(self, rngs):
        return VLMo(**model_fields(self.config.model), rngs=rngs)

    def make_task(self):
        config = self.config
        return PretrainTask(
            mean=tuple(config.data.mean),
            std=tuple(config.data.std),
            dropout=config.model.drop_path_rate > 0,
            **config.task.to_dict(),
        )

    def abstract_batch(self):
        batch, size = self.config.batch_size, self.config.model.image_size
        return {
            "image": jax.ShapeDtypeStruct((batch, size, size, 3), jnp.uint8),
            "image_id": jax.ShapeDtypeStruct((batch,), jnp.uint32),
            **masked_text_shapes(self.config),
        }

    def batches(self, start_step):
        config, data = self.config, self.config.data
        return train_batches(
            self.source,
            self.tokenizer,
            image_size=config.model.image_size,
            text_length=config.model.text_length,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=start_step,
            end_step=config.steps,
            host_index=jax.process_index(),
            host_count=jax.process_count(),
            randaugment=tuple(data.randaugment) or None,
            color_jitter=tuple(data.color_jitter) or None,
            **{name: data[name] for name in INPUT_FIELDS},
        )

    def synthetic_batch(self):
        rng = np.random.default_rng(self.config.seed + jax.process_index())
        texts = synthetic_masked_text(self.config, rng)
        size = self.config.model.image_size
        image = rng.integers(0, 256, (len(texts["text_id"]), size, size, 3), np.uint8)
        return {"image": image, "image_id": texts["text_id"], **texts}

    def forward_flops(self):
        return model_flops(self.config.model).pretrain

    def make_evaluation(self, graphdef, mesh):
        return Evaluation.build(self.config, self.splits, self.tokenizer, graphdef, mesh)

    def describe_data(self):
        return f"{len(self.source):,} training images from {self.config.data.source}"

    def next_step(self, workdir):
        return (
            "evaluate on your own pictures, python -m vlmo_jax.datasets.build IMAGES DIR"
            " --captions FILE, then add\n  --config.mode=eval --config.evals.retrieval.source=DIR"
            f" --workdir={workdir} to the command of this run."
        )

    def preprocessing(self):
        config = self.config
        return {
            "image_size": config.model.image_size,
            "resize": "square bicubic",
            "mean": list(config.data.mean),
            "std": list(config.data.std),
        }
