"""Fine-tuning on captions: a model that writes them, word by word.

    --config=configs/finetune_caption.py             a small VLMo writes the names of drawings
    --config=configs/finetune_caption.py:base        BEiT-3's recipe on COCO (also large)
    --config=configs/finetune_caption.py:base,224    at another image size than 480

Each with --config.init_from=DIR: the work folder of stage 3, or a converted official checkpoint, at
whatever image size it was made; `--config.init_from=none` starts from random parameters.

BEiT-3's recipe, which VLMo's paper has not: 480 px, 32 tokens, batch 256, 10 epochs of train and
restval of Karpathy's split, AdamW (0.9, 0.999), weight decay 0.05, peak rate 4e-5 (large 8e-6),
warm-up over one epoch, cosine decay, drop-path 0.1, RandAugment; 70 % of the tokens are hidden,
labels are smoothed by 0.1, and after 12,000 steps the worst fifth of the tokens is left out. Three
beams, up to 64 tokens.
"""

from ml_collections import ConfigDict

from configs import common, stage3

PEAK_RATES = {"base": 4e-5, "large": 8e-6}
CAPTIONS = 566_747  # of train and restval
EPOCHS, BATCH_SIZE = 10, 256
EPOCH = CAPTIONS // BATCH_SIZE


def get_config(arg="tiny"):
    size, image_size = common.read_argument(
        "configs/finetune_caption.py", arg, ("tiny", *PEAK_RATES)
    )
    image_size = image_size or (64 if size == "tiny" else 480)
    config = stage3.get_config(f"{size},{image_size}")
    config.update(common.WARM_STARTS["caption"])
    config.task = ConfigDict(
        dict(
            kind="caption",  # of recipes.tasks.TASKS
            # hidden tokens are predicted, or the one behind each: masked | next_token
            training="masked",
            mask_rate=0.7,
            smoothing=0.1,
            drop_worst=0.2,
            drop_worst_after=12_000,
        )
    )
    config.model.heads = ("caption",)
    config.data.update(max_masked_tokens=0, captions="text")
    config.evals = ConfigDict(
        dict(
            caption=dict(
                **common.evaluation("caption", every_steps=5000, batch_size=32),
                beams=3,  # 1: greedy
                max_length=64,  # tokens with begin and end
                length_penalty=0.6,
                image_blind=False,  # score grey images in the place of the split's, a baseline
            )
        )
    )
    return _tiny(config) if size == "tiny" else _official(config, size)


def _official(config, size):
    config.batch_size, config.steps = BATCH_SIZE, EPOCHS * EPOCH
    config.model.update(text_length=32, drop_path_rate=0.1)
    config.optimizer.update(
        learning_rate=PEAK_RATES[size],
        warmup_steps=EPOCH,
        schedule="cosine",
        betas=(0.9, 0.999),
        weight_decay=0.05,
    )
    config.evals.caption.splits = ("validation",)
    config.checkpoint.best_metric = "cider"
    return config


def _tiny(config):
    config.steps = 600
    config.optimizer.update(learning_rate=5e-4, warmup_steps=60)
    config.data.flip = False
    config.evals.caption.update(
        batch_size=128,
        beams=1,  # which ends when the last caption of a batch does
        max_length=16,
        every_steps=config.steps,
        splits=("unseen_artist",),
    )
    config.evals.blind = ConfigDict(config.evals.caption.to_dict())
    config.evals.blind.image_blind = True
    config.checkpoint.best_metric = None  # the artist that is reported must choose nothing
    return config
