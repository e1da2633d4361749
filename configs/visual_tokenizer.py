"""The visual tokenizer of stage 1: a discrete VAE with DALL-E's architecture, trained on images
alone.

    --config=configs/visual_tokenizer.py          a small one, minutes on 2 CPU cores
    --config=configs/visual_tokenizer.py:dalle    the official size: 112 px for stage 1 at 224 px

A code covers 8 x 8 pixels. Stage 1 shows the tokenizer its images at half the size that the model
sees with patches of 16: the tiny one goes with stage 1 at 64 px, as 112 px go with 224 px in BEiT.

Sizes of `dalle`: Ramesh et al., arXiv 2102.12092, appendix A.1, and the official code. Its training
(256 px, 250 M pairs, batch 512, 3 M steps) isn't repeated here: optimizer and batch are those of
its appendix A.2, the losses those measured on the embedded drawings (see
tasks/visual_tokenizer.py).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

# Biases, as everywhere.
NO_DECAY = (r".*bias",)


def get_config(arg="tiny"):
    if arg not in ("tiny", "dalle"):
        raise ValueError(
            f"configs/visual_tokenizer.py:{arg}: size {arg!r} is unknown; use one of tiny, dalle"
        )
    config = common.defaults()
    config.task = ConfigDict(
        dict(
            kind="visual_tokenizer",  # of recipes.tasks.TASKS
            temperature=2.0,  # of the softmax through which the encoder learns
            gumbel=False,  # draw codes in training instead of taking the likeliest
            usage_weight=0.005,  # keeps all codes in use
            certainty_weight=0.00125,  # makes the encoder decide
        )
    )
    config.data = ConfigDict(
        dict(
            kind="images",  # of recipes.data.DATA
            # "emoji" (embedded) or a folder made by vlmo_jax.datasets.build
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            crop_scale=(0.5, 1.0),
            flip=True,
            fast_views=False,  # in less time, with pixels that differ a little
            **common.loading(),
        )
    )
    config.evals = ConfigDict(
        dict(reconstruction=common.evaluation("reconstruction", every_steps=10_000, batch_size=128))
    )
    return _dalle(config) if arg == "dalle" else _tiny(config)


def _model(**sizes):
    return ConfigDict(
        dict(
            kind="discrete_vae",  # of models.build.MODELS
            **sizes,
            num_groups=4,  # between groups the side is halved: a code covers 8 pixels
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
        )
    )


def _dalle(config):
    config.batch_size = 512
    config.steps = 250_000
    config.model = _model(
        image_size=112, vocab_size=8192, num_hidden=256, blocks_per_group=2, num_init=128
    )
    config.optimizer = common.optimizer(learning_rate=1e-4, warmup_steps=5000, no_decay=NO_DECAY)
    config.optimizer.update(schedule="cosine", betas=(0.9, 0.999), weight_decay=1e-4)
    return config


def _tiny(config):
    config.batch_size = 32
    config.steps = 600
    config.model = _model(
        image_size=32, vocab_size=256, num_hidden=32, blocks_per_group=1, num_init=0
    )
    config.optimizer = common.optimizer(learning_rate=4e-3, warmup_steps=30, no_decay=NO_DECAY)
    config.optimizer.update(weight_decay=1e-4)
    config.data.update(source="emoji+openclipart", num_workers=0, num_threads=1, prefetch=4)
    config.evals.reconstruction.update(batch_size=128, every_steps=300)
    config.checkpoint.update(every_steps=100, every_minutes=5.0)
    config.log_every = 10
    return config
