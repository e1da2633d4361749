"""Stage 1, vision pre-training on images alone: masked image modelling as in BEiT.

    --config=configs/stage1.py             a small BEiT on the drawings, minutes on 2 CPU cores
    --config=configs/stage1.py:base        the paper's recipe (also base_plus, large)
    --config=configs/stage1.py:base,384    at another image size

Each with --config.visual_tokenizer=DIR. The visual tokenizer is the work folder of a run of
configs/visual_tokenizer.py, or DALL-E's encoder converted by `python -m vlmo_jax.interop.convert`.

Paper recipe: BEiT, arXiv 2106.08254, sections 2.5 and 3, and the official repository's command for
ImageNet-22k (14,197,122 images, 150 epochs): batch 2048, peak rate 1.5e-3, 10k warm-up steps,
cosine decay to 1e-5, AdamW, weight decay 0.05 (not on norms, biases, gammas, class token and
positions; it does act on the position table), gradients clipped at 3, drop-path 0.1, layer scale
0.1 (large: 1e-5), one position table for all layers. Betas are the paper's (0.9, 0.999); the
official code's default is (0.9, 0.98). The official VLMo starts from such a checkpoint, fine-tuned
to classify, instead of a stage 1 of its own. base_plus, which BEiT does not have, takes the recipe
of base with VLMo's absolute positions and no layer scale.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

SIZES = ("tiny", "base", "base_plus", "large")
EPOCHS, IMAGES = 150, 14_197_122

NO_DECAY = (r".*/(bias|q_bias|v_bias|out_bias|patch_bias|scale)", r"image_embedding/class_token")
NO_DECAY_SCALES = (r"transformer/(lower|upper)/(attention|expert)_scale",)  # where there are any
NO_DECAY_POSITIONS = (r"image_embedding/position",)


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/stage1.py", arg, SIZES)
    config = common.defaults()
    config.update(common.WARM_STARTS["stage1"])
    # A work folder or checkpoint of configs/visual_tokenizer.py, or a converted DALL-E encoder.
    config.visual_tokenizer = placeholder(str)
    config.task = ConfigDict(dict(kind="image_pretrain"))  # of recipes.tasks.TASKS
    config.data = ConfigDict(
        dict(
            kind="masked_images",  # of recipes.data.DATA
            # "emoji" (embedded) or a folder made by vlmo_jax.datasets.build; texts are not read
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            tokenizer_image_size=0,  # side of the visual tokenizer's view; it has one code a patch
            crop_scale=(0.08, 1.0),
            flip=True,
            fast_views=False,  # in less time, with pixels that differ a little
            color_jitter=(
                0.4,
                0.4,
                0.4,
                0.0,
            ),  # strengths of brightness, contrast, saturation, hue; () for none
            num_masked=0,  # patches that are hidden, about 40 %
            min_block=16,  # smallest block of them
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            **common.loading(),
        )
    )
    config.evals = ConfigDict(
        dict(masked_images=common.evaluation("masked_images", every_steps=5000, batch_size=512))
    )
    if size == "tiny":
        return _tiny(config, image_size or 64)
    return _paper(config, size, image_size or 224)


def _paper(config, size, image_size):
    config.batch_size = 2048
    config.steps = EPOCHS * (IMAGES // config.batch_size)
    config.model = common.transformer(
        size, image_size=image_size, patch_size=16, vocab_size=8192, drop_path_rate=0.1
    )
    config.model.shared_table = config.model.position == "relative"
    if size == "large":
        config.model.layer_scale = 1e-5
    config.model.remat = "block"
    config.data.tokenizer_image_size = image_size // 2
    config.data.num_masked = 75 * (image_size // 16) ** 2 // 196
    config.optimizer = _optimizer(config, learning_rate=1.5e-3, warmup_steps=10_000)
    config.optimizer.update(end_learning_rate=1e-5, weight_decay=0.05, clip_norm=3.0)
    return config


def _tiny(config, image_size):
    config.batch_size = 64
    config.steps = 700
    config.model = common.transformer(
        "tiny",
        image_size=image_size,
        patch_size=16,
        vocab_size=256,
        drop_path_rate=0.0,
        init_std=0.08,  # as in stage 3
    )
    config.model.shared_table = False
    config.model.scan_layers = False
    patches = (image_size // 16) ** 2
    config.data.update(
        source="emoji+openclipart",
        tokenizer_image_size=image_size // 2,
        num_masked=3 * patches // 8,
        min_block=2,
    )
    config.data.update(**common.DRAWINGS)
    config.data.update(num_workers=0, num_threads=1, prefetch=4)
    config.optimizer = _optimizer(config, learning_rate=1e-3, warmup_steps=60)
    config.evals.masked_images.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.update(every_steps=200, every_minutes=5.0)
    config.log_every = 20
    return config


def _optimizer(config, *, learning_rate, warmup_steps):
    no_decay = NO_DECAY + (NO_DECAY_SCALES if config.model.layer_scale else ())
    no_decay += NO_DECAY_POSITIONS if config.model.position == "absolute" else ()
    optimizer = common.optimizer(
        learning_rate=learning_rate, warmup_steps=warmup_steps, no_decay=no_decay
    )
    optimizer.update(schedule="cosine", betas=(0.9, 0.999))
    return optimizer
