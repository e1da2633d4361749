"""Images alone: stage 1."""

import dataclasses
import functools

from vlmo_jax.evals.masked_images import ImageEvaluation
from vlmo_jax.input.images import color_jitter, pixels
from vlmo_jax.input.masked_images import MaskedImageExamples, MaskedViews
from vlmo_jax.models.beit import BEiT
from vlmo_jax.models.flops import masked_image_flops
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import SYNTHETIC, Recipe, abstract_rows, model_fields, synthetic_rows
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
        pixels.check_crop(config.data.crop_scale)
        self._views  # refuses impossible sizes
        color_jitter.check_color_jitter(config.data.color_jitter)
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
        code_size = (
            config.data.tokenizer_image_size * config.model.patch_size // config.model.image_size
        )  # in pixels a side
        if config.visual_tokenizer == SYNTHETIC:
            return SyntheticTokenizer(config.model.vocab_size, code_size)
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
            tokenizer.stride == code_size,
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
        return abstract_rows(self._views, self.config.batch_size)

    def batches(self, start_step):
        config, data = self.config, self.config.data
        maker = MaskedImageExamples(
            self.source,
            self._views,
            config.seed,
            crop_scale=tuple(data.crop_scale),
            flip=data.flip,
            color_jitter=tuple(data.color_jitter),
        )
        return self._stream(maker, start_step)

    def synthetic_batch(self):
        return synthetic_rows(self._views, self.config)

    def forward_flops(self):
        model = self.config.model
        fields = {
            name: model[name]
            for name in ("image_size", "patch_size", "vocab_size", "width", "depth", "mlp_dim")
        }
        return masked_image_flops(**fields, num_masked=self.config.data.num_masked)

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
