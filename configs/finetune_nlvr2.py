"""Fine-tuning on NLVR2: statements about two images, true or false.

    --config=configs/finetune_nlvr2.py             a small VLMo on statements about the drawings
    --config=configs/finetune_nlvr2.py:base        the official recipe (also base_plus, large)
    --config=configs/finetune_nlvr2.py:base,224    at another image size than 384

Each with --config.init_from=DIR: the work folder of stage 3, or a converted official checkpoint, at
whatever image size it was made; `--config.init_from=none` starts from random parameters. The small
one learns more from the work folder of finetune_vqa, whose model has learned to look things up.

Official recipe: 384 px, batch 128, 10 epochs, AdamW (0.9, 0.98), weight decay 0.01, peak rate 5e-5
(base_plus and large 3e-5), warm-up over a tenth of the steps, linear decay to 0, drop-path 0.1
(base), 0.2 (base_plus), 0.15 (large).
"""

from ml_collections import ConfigDict

from configs import common, stage3

PEAK_RATES = {"base": 5e-5, "base_plus": 3e-5, "large": 3e-5}
DROP_PATH = {"base": 0.1, "base_plus": 0.2, "large": 0.15}
STATEMENTS, EPOCHS, BATCH_SIZE = 86_373, 10, 128
STEPS = EPOCHS * STATEMENTS // BATCH_SIZE


def get_config(arg="tiny"):
    sizes = ("tiny", "tiny_dual", *PEAK_RATES)
    size, image_size = common.read_argument("configs/finetune_nlvr2.py", arg, sizes)
    if size.endswith("_dual"):
        return common.dual(_fused(size.removesuffix("_dual"), image_size))
    return _fused(size, image_size)


def _fused(size, image_size):
    image_size = image_size or (64 if size == "tiny" else 384)
    config = stage3.get_config(f"{size},{image_size}")
    config.update(common.WARM_STARTS["nlvr2"])
    config.task = ConfigDict(dict(kind="nlvr2"))  # of recipes.tasks.TASKS
    common.make_views_and_texts(config.data, "statements")
    config.model.heads = ("nlvr2",)
    config.evals = ConfigDict(
        dict(nlvr2=common.evaluation("nlvr2", every_steps=1000, batch_size=256)),
    )
    config.checkpoint.best_metric = "accuracy"
    return _tiny(config) if size == "tiny" else _official(config, size)


def _official(config, size):
    config.batch_size, config.steps = BATCH_SIZE, STEPS
    config.model.drop_path_rate = DROP_PATH[size]
    config.optimizer.update(learning_rate=PEAK_RATES[size], warmup_steps=STEPS // 10)
    config.evals.nlvr2.splits = ("dev",)
    return config


def _tiny(config):
    config.steps = 1400
    # At 1e-3, and with word embeddings that move faster, as in stage 3, it learns nothing.
    config.optimizer.update(learning_rate=3e-4, warmup_steps=100)
    config.optimizer.rate_multipliers = ((r"nlvr2_head/.*", 10.0),)
    # Places are asked about, "left" and "right" among them.
    config.data.update(source="emoji_statements", flip=False)
    config.evals.nlvr2.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.best_metric = None  # the artist that is reported must choose nothing
    return config
