"""Images alone: stage 1."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from vlmo_jax.evals.masked_images import ImageEvaluation
from vlmo_jax.input import checks as input_checks
from vlmo_jax.input.masked_images import ImagePretrainExamples, MaskedViews
from vlmo_jax.models.beit import BEiT
from vlmo_jax.models.flops import image_pretrain_flops
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import SYNTHETIC, Recipe, model_fields
from vlmo_jax.recipes.frozen_tokenizer import SyntheticTokenizer, VisualTokenizer
from vlmo_jax.tasks.image_pretrain import ImagePretrainTask


class ImagesRecipe(Recipe):
    """Masked image modelling on images alone."""

    unit = "images"
    evaluator = "masked_images"
    page = "masked_images.png"

    def check_inputs(self):
        checks.check_source(self.config, self.evaluator)
        checks.require(
            self.config.visual_tokenizer,
            "config.visual_tokenizer is not set; give --config.visual_tokenizer=DIR, the work"
            " folder of a run of configs/tokenizer.py or a converted DALL-E encoder",
        )

    def check(self, num_devices):
        config = self.config
        checks.check_run(config, num_devices, self.evaluator)
        checks.check_transformer(config, num_devices)
        checks.check_vocabulary(config, num_devices)
        self.check_inputs()
        checks.check_normalisation(config.data)
        checks.check_crop(config.data)
        with checks.naming_data():
            self._views  # refuses impossible sizes
            input_checks.check_views(
                tuple(config.data.crop_scale), color_jitter=tuple(config.data.color_jitter) or None
            )
        size, grid = (
            config.data.tokenizer_image_size,
            config.model.image_size // config.model.patch_size,
        )
        checks.multiple(
            "data.tokenizer_image_size",
            size,
            grid,
            "the patches a side, config.model.image_size / patch_size",
        )

    @functools.cached_property
    def _views(self):
        model, data = self.config.model, self.config.data
        return MaskedViews(
            image_size=model.image_size,
            tokenizer_image_size=data.tokenizer_image_size,
            patch_size=model.patch_size,
            num_masked=data.num_masked,
            min_block=data.min_block,
        )

    @functools.cached_property
    def _visual_tokenizer(self):
        config = self.config
        pixels = (
            config.data.tokenizer_image_size * config.model.patch_size // config.model.image_size
        )  # of a code
        if config.visual_tokenizer == SYNTHETIC:
            return SyntheticTokenizer(config.model.vocab_size, pixels)
        with checks.naming(config, "visual_tokenizer"):
            tokenizer = VisualTokenizer(config.visual_tokenizer)
        checks.require(
            tokenizer.vocab_size == config.model.vocab_size,
            f"config.visual_tokenizer={config.visual_tokenizer} has {tokenizer.vocab_size} codes,"
            f" not config.model.vocab_size={config.model.vocab_size}; set"
            f" --config.model.vocab_size={tokenizer.vocab_size}",
        )
        grid = config.model.image_size // config.model.patch_size
        checks.require(
            tokenizer.stride == pixels,
            f"config.visual_tokenizer={config.visual_tokenizer} has a code for every"
            f" {tokenizer.stride} x {tokenizer.stride} pixels, which of"
            f" config.data.tokenizer_image_size={config.data.tokenizer_image_size} makes another"
            f" grid than the {grid} x {grid} patches of the model; set"
            f" --config.data.tokenizer_image_size={grid * tokenizer.stride}",
        )
        return tokenizer

    def open(self):
        config = self.config
        self._visual_tokenizer  # refuses one that does not fit
        self.source, self.splits = checks.open_data(config, self.evaluator)

    def make_model(self, rngs):
        return BEiT(**model_fields(self.config.model), rngs=rngs)

    def make_task(self):
        data = self.config.data
        return ImagePretrainTask(
            tokenizer=self._visual_tokenizer.abstract()[0],
            mean=tuple(data.mean),
            std=tuple(data.std),
            dropout=self.config.model.drop_path_rate > 0,
        )

    def load_extra(self):
        with checks.naming(self.config, "visual_tokenizer"):
            return {"tokenizer": self._visual_tokenizer.load()}

    def abstract_extra(self):
        return {"tokenizer": self._visual_tokenizer.abstract()[1]}

    def abstract_batch(self):
        batch, data = self.config.batch_size, self.config.data
        shapes = {
            "image": (
                (batch, self.config.model.image_size, self.config.model.image_size, 3),
                jnp.uint8,
            ),
            "tokenizer_image": (
                (batch, data.tokenizer_image_size, data.tokenizer_image_size, 3),
                jnp.uint8,
            ),
            "masked_positions": ((batch, data.num_masked), jnp.int32),
            "image_id": ((batch,), jnp.uint32),
        }
        return {name: jax.ShapeDtypeStruct(*shape) for name, shape in shapes.items()}

    def batches(self, start_step):
        config, data = self.config, self.config.data
        maker = ImagePretrainExamples(
            self.source,
            self._views,
            config.seed,
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            color_jitter=tuple(data.color_jitter) or None,
        )
        return self._stream(maker, start_step)

    def synthetic_batch(self):
        rng, rows = (
            np.random.default_rng(self.config.seed + jax.process_index()),
            self.config.batch_size // jax.process_count(),
        )
        batch = self._views.empty_batch(rows)
        for name in ("image", "tokenizer_image"):
            batch[name] = rng.integers(0, 256, batch[name].shape, np.uint8)
        batch["masked_positions"] = np.stack(
            [self._views.draw_masked_positions(rng) for _ in batch["image"]]
        )
        return batch | {
            "image_id": np.arange(rows, dtype=np.uint32) + np.uint32(rows * jax.process_index())
        }

    def forward_flops(self):
        return image_pretrain_flops(self.config.model, self.config.data)

    def make_evaluation(self, graphdef, mesh):
        tokenizer, decoder = self._visual_tokenizer, self._visual_tokenizer.has_decoder
        task = dataclasses.replace(
            self.make_task(), tokenizer=tokenizer.abstract(decoder=decoder)[0]
        )
        return ImageEvaluation.build(
            self.splits,
            self._views,
            graphdef,
            task,
            {"tokenizer": tokenizer.load(decoder=decoder)},
            mesh,
            batch_size=self.evaluation.batch_size,
            draw=decoder,
        )

    def describe_data(self):
        tokenizer = self._visual_tokenizer
        return (
            f"{len(self.source):,} training images from {self.config.data.source},"
            f" {self.config.data.num_masked} of"
            f" {(self.config.model.image_size // self.config.model.patch_size) ** 2} patches"
            f" hidden, {tokenizer.vocab_size:,} codes of {self.config.visual_tokenizer}"
        )

    def next_step(self, workdir):
        return (
            f"stage 2 from here, --config=configs/stage2.py --config.init_from={workdir}"
            " --workdir=DIR"
        )

    def preprocessing(self):
        data = self.config.data
        return {
            "image_size": self.config.model.image_size,
            "resize": "square bicubic",
            "mean": list(data.mean),
            "std": list(data.std),
            "tokenizer_image_size": data.tokenizer_image_size,
        }
