"""Texts alone: stage 2."""

from vlmo_jax.datasets import open_text_source
from vlmo_jax.evals.masked_text import TextEvaluation
from vlmo_jax.input.masked_texts import MaskedTextExamples
from vlmo_jax.input.text.masked_rows import TextRows
from vlmo_jax.models.flops import model_flops
from vlmo_jax.models.vlmo import VLMo
from vlmo_jax.recipes import checks
from vlmo_jax.recipes.base import Recipe, abstract_rows, model_fields, synthetic_rows
from vlmo_jax.tasks.text_pretrain import TextPretrainTask

ROW_FIELDS = ("mask_rate", "packing")


class TextsRecipe(Recipe):
    """Masked language modelling on text alone."""

    unit = "texts"
    evaluator = "masked_text"
    page = "fill_in.png"
    page_at_start = True

    def check_inputs(self):
        checks.check_source(
            self.config,
            self.evaluator,
            build="build_text",
            embedded="glosses for the embedded texts",
        )
        checks.check_tokenizer(self.config)
        checks.check_init(self.config, "the image experts and the attention of stage 1")

    def check(self, num_devices):
        config = self.config
        checks.check_run(config, num_devices, self.evaluator)
        checks.check_transformer(config, num_devices)
        checks.check_parts(config)
        self.check_inputs()
        checks.check_text(config, num_devices)
        checks.check_masked_language(config)

    def open(self):
        config = self.config
        self.tokenizer = checks.open_tokenizer(config)
        self.source, self.splits = checks.open_data(config, self.evaluator, open_text_source)

    def make_model(self, rngs):
        return VLMo(**model_fields(self.config.model), rngs=rngs)

    def make_task(self):
        return TextPretrainTask(dropout=self.config.model.drop_path_rate > 0)

    def abstract_batch(self):
        return abstract_rows(self._rows, self.config.batch_size)

    @property
    def _rows(self):
        return TextRows(self.config.model.text_length, self.config.data.max_masked_tokens)

    def batches(self, start_step):
        config, data = self.config, self.config.data
        maker = MaskedTextExamples(
            self.source,
            self.tokenizer,
            self._rows,
            seed=config.seed,
            **{name: data[name] for name in ROW_FIELDS},
        )
        return self._stream(maker, start_step)

    def synthetic_batch(self):
        return synthetic_rows(self._rows, self.config, self.config.model.vocab_size)

    def forward_flops(self):
        return model_flops(self.config.model).text_pretrain

    def make_evaluation(self, graphdef, mesh):
        config = self.config
        return TextEvaluation.build(
            self.splits,
            self.tokenizer,
            graphdef,
            mesh,
            batch_size=self.evaluation.batch_size,
            rows=self._rows,
            **{name: config.data[name] for name in ROW_FIELDS},
        )

    def describe_data(self):
        return f"{len(self.source):,} training texts from {self.config.data.source}"

    def next_step(self, workdir):
        return (
            f"stage 3 from here, --config=configs/stage3.py --config.init_from={workdir}"
            " --workdir=DIR"
        )

    def preprocessing(self):
        return {"image_size": self.config.model.image_size}
