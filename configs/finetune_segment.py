"""Fine-tuning on images with the class of each pixel, such as ADE20K: the image encoder with
UperNet.

    --config=configs/finetune_segment.py             sheets of the embedded drawings, minutes on 2
                                                     CPU cores
    --config=configs/finetune_segment.py:base        ADE20K from images without labels or from VLMo
    --config=configs/finetune_segment.py:base_22k    the same, from a BEiT that classified
                                                     ImageNet-22k (also large, large_22k)
    --config=configs/finetune_segment.py:base,640    at another size of windows than 512

Each with --config.init_from=DIR: the work folder of any stage, or a converted VLMo or BEiT, at
whatever image size it was made; `--config.init_from=none` starts from random parameters.

Official recipes of BEiT (unilm, beit/semantic_segmentation, mmsegmentation 0.11): 160,000 steps of
16 images, AdamW (0.9, 0.999), decay 0.05, 1,500 steps of warm-up, then linearly to 0; views of
resized images (0.5 to 2), no class over 75 % of one, mirrored, colours distorted; losses over all
pixels, the auxiliary one by 0.4; ImageNet's mean and deviation.

                   rate  layer decay  drop-path  blocks
    base           7e-4         0.65        0.1  3, 5, 7, 11
    base_22k       3e-5         0.90        0.1
    large, _22k    2e-5         0.95        0.2  7, 11, 15, 23
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, stage1

# peak rate, layer decay, drop-path
RECIPES = {
    "base": (7e-4, 0.65, 0.1),
    "base_22k": (3e-5, 0.9, 0.1),
    "large": (2e-5, 0.95, 0.2),
    "large_22k": (2e-5, 0.95, 0.2),
}
BLOCKS = {"tiny": (0, 1, 2, 3), "base": (3, 5, 7, 11), "large": (7, 11, 15, 23)}
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the second published number, mirrored too


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/finetune_segment.py", arg, ("tiny", *RECIPES))
    config = common.defaults()
    config.update(common.WARM_STARTS["segment"])
    config.task = ConfigDict(
        dict(
            kind="segment",  # of recipes.tasks.TASKS
            auxiliary_weight=0.4,
            mean_over="all",  # pixels that a loss is averaged over: labelled | all
        )
    )
    config.data = ConfigDict(
        dict(
            kind="segmentations",  # of recipes.data.DATA
            # "emoji_masks" (embedded) or a folder made by vlmo_jax.datasets.build
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            # a file with a class a line by number; None: classes.txt beside the data, or numbers
            class_list=placeholder(str),
            reduce_zero_label=True,  # label 0 is ignored, and the others are one less
            resize_range=(0.5, 2.0),  # of the size at which the shorter side is a window
            most_of_one=0.75,  # share of a view that one class may cover
            flip=True,
            distortion=True,  # of brightness, contrast, saturation and hue
            mean=(0.485, 0.456, 0.406),
            std=(0.229, 0.224, 0.225),
            **common.loading(),
        )
    )
    config.evals = ConfigDict(dict(segmentation=_evaluation()))
    if size == "tiny":
        return _tiny(config, image_size or 128)
    return _official(config, size, image_size or 512)


def _evaluation(**fields):
    """A member of `config.evals`; windows and scales as of the first published number."""
    evaluation = common.evaluation("segmentation", every_steps=16_000, batch_size=16)
    evaluation.update(stride=341, scales=(1.0,), flip=False)
    return {**evaluation, **fields}


def _model(size, num_classes, channels, **fields):
    model = common.transformer(size, vocab_size=1, patch_size=16, **fields)
    del model.vocab_size
    model.update(kind="image_segmenter", num_classes=num_classes)
    model.blocks = BLOCKS[size]
    model.head_channels = channels
    model.auxiliary_channels = min(channels, 256)
    model.head_dropout = 0.1
    model.shared_table = False
    return model


def _official(config, size, image_size):
    rate, layer_decay, drop_path = RECIPES[size]
    scale = size.removesuffix("_22k")
    width = common.SIZES[scale]["width"]
    config.batch_size, config.steps = 16, 160_000
    config.model = _model(scale, 150, width, image_size=image_size, drop_path_rate=drop_path)
    config.model.remat = "block"
    if scale == "large":
        config.model.layer_scale = 1e-5
    config.optimizer = _optimizer(config, learning_rate=rate, warmup_steps=1500)
    config.optimizer.layer_decay = layer_decay
    config.evals.segmentation.update(stride=image_size * 2 // 3, splits=("validation",))
    config.checkpoint.best_metric = "segmentation/mean_iou"
    return config


def _tiny(config, image_size):
    config.batch_size, config.steps = 16, 900
    config.model = _model("tiny", 10, 48, image_size=image_size, drop_path_rate=0.0, init_std=0.08)
    config.model.scan_layers = False
    config.task.mean_over = "labelled"
    config.data.update(source="emoji_masks", reduce_zero_label=False, resize_range=(1.0, 1.4))
    config.data.update(num_workers=0, num_threads=1, prefetch=4, most_of_one=1.0, distortion=False)
    config.optimizer = _optimizer(config, learning_rate=2e-3, warmup_steps=60)
    config.optimizer.layer_decay = 0.9
    config.evals.segmentation.update(stride=image_size * 2 // 3, every_steps=config.steps)
    config.checkpoint.update(every_steps=300, every_minutes=5.0)
    config.log_every = 20
    return config


def _optimizer(config, *, learning_rate, warmup_steps):
    no_decay = stage1.NO_DECAY + (stage1.NO_DECAY_SCALES if config.model.layer_scale else ())
    no_decay += stage1.NO_DECAY_POSITIONS if config.model.position == "absolute" else ()
    no_decay += (r".*/(running_mean|running_variance)",)
    optimizer = common.optimizer(
        learning_rate=learning_rate, warmup_steps=warmup_steps, no_decay=no_decay
    )
    optimizer.update(schedule="polynomial", betas=(0.9, 0.999), weight_decay=0.05)
    return optimizer
