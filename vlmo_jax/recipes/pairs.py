"""Image-text pairs: stage 3, and evaluation of retrieval."""

from vlmo_jax.evals.suite import Evaluation
from vlmo_jax.input.images.augmentation import Augmentation
from vlmo_jax.input.pairs import PairExamples, PairRows
from vlmo_jax.input.text.captions import check_captions
from vlmo_jax.models.flops import model_flops
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import Recipe, abstract_rows, model_fields, synthetic_rows
from vlmo_jax.tasks.pretrain import PretrainTask


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
        check_captions(data.captions)
        self._augmentation()  # refuses impossible strengths

    def _augmentation(self):
        data = self.config.data
        return Augmentation(
            tuple(data.crop_scale),
            data.flip,
            tuple(data.randaugment),
            data.randaugment_fill,
            tuple(data.color_jitter),
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

    @property
    def _rows(self):
        model = self.config.model
        return PairRows(model.image_size, model.text_length, self.config.data.max_masked_tokens)

    def abstract_batch(self):
        return abstract_rows(self._rows, self.config.batch_size)

    def batches(self, start_step):
        config, data = self.config, self.config.data
        maker = PairExamples(
            self.source,
            self.tokenizer,
            self._rows,
            config.seed,
            captions=data.captions,
            augmentation=self._augmentation(),
            mask_rate=data.mask_rate,
        )
        return self._stream(maker, start_step)

    def synthetic_batch(self):
        return synthetic_rows(self._rows, self.config, self.config.model.vocab_size)

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
