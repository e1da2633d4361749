"""Stage 2, language pre-training on text alone: masked language modelling.

    --config=configs/stage2.py             a small VLMo on the texts, minutes on 2 CPU cores
    --config=configs/stage2.py:base        the paper's recipe (also base_plus, large)
    --config=configs/stage2.py:base,384    with the image part at another image size

Each with --config.init_from=DIR: it starts from stage 1's work folder, or from a converted BEiT;
`--config.init_from=none` starts from random parameters.

Paper recipe: VLMo, section 4.1 and the official repository: Wikipedia and BookCorpus, 196 tokens,
batch 1024, 200k steps, rate 2e-4; optimizer and warm-up as in stage 3.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

SIZES = ("tiny", "base", "base_plus", "large")

# What stage 1 has learned stays: the image part, attention with its norm, the gammas. Text experts
# with their norm, text and type embeddings, the MLM head, the position table (also its image part,
# as in the official code) and the final norm train.
FROZEN = (
    r"image_embedding/.*",
    r"transformer/(lower|upper)/(norm|attention)/.*",
    r"transformer/(lower|upper)/experts/image/.*",
)
FROZEN_SCALES = (r"transformer/(lower|upper)/(attention|expert)_scale",)  # where there are any


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/stage2.py", arg, SIZES)
    config = common.defaults()
    config.update(common.WARM_STARTS["stage2"])
    config.task = ConfigDict(dict(kind="text_pretrain"))  # of recipes.tasks.TASKS
    config.data = ConfigDict(
        dict(
            kind="texts",  # of recipes.data.DATA
            # "glosses" (embedded) or a folder made by vlmo_jax.datasets.build_text
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            # fill rows with the texts that follow; False: a text or a window of it a row
            packing=True,
            mask_rate=0.15,
            max_masked_tokens=48,
            **common.loading(num_threads=1),
        )
    )
    config.tokenizer = placeholder(str)  # a SentencePiece .model, a BERT vocab.txt, or "emoji"
    config.evals = ConfigDict(
        dict(masked_text=common.evaluation("masked_text", every_steps=5000, batch_size=512))
    )
    if size == "tiny":
        return _tiny(config, image_size or 64)
    return _paper(config, size, image_size or 224)


def _paper(config, size, image_size):
    config.batch_size = 1024
    config.steps = 200_000
    config.model = common.model(
        size,
        image_size=image_size,
        patch_size=16,
        text_length=196,
        text_positions=196,
        vocab_size=30_522,
        drop_path_rate=0.1,
    )
    config.model.remat = "block"
    return _language(config, learning_rate=2e-4, warmup_steps=2500)


def _tiny(config, image_size):
    config.batch_size = 64
    config.steps = 600
    config.model = common.model(
        "tiny",
        image_size=image_size,
        patch_size=16,
        text_length=32,
        text_positions=32,
        vocab_size=4000,
        drop_path_rate=0.0,
        init_std=0.08,  # as in stage 3
    )
    config.model.scan_layers = False
    config.data.update(source="glosses", max_masked_tokens=8, num_workers=0, prefetch=4)
    config.tokenizer = "emoji"
    config.evals.masked_text.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.update(every_steps=200, every_minutes=5.0)
    config.log_every = 20
    return _language(config, learning_rate=2e-3, warmup_steps=60)


def _language(config, *, learning_rate, warmup_steps):
    config.model.experts = ("image", "text")
    config.model.heads = ("mlm",)
    config.optimizer = common.optimizer(learning_rate=learning_rate, warmup_steps=warmup_steps)
    config.optimizer.frozen = FROZEN + (FROZEN_SCALES if config.model.layer_scale else ())
    return config
