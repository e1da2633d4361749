"""Fine-tuning on images with a class, such as ImageNet-1k: the image encoder alone.

    --config=configs/finetune_classify.py             groups of the embedded drawings, minutes on 2
                                                      CPU cores (tiny_subgroup: their subgroups)
    --config=configs/finetune_classify.py:base        ImageNet-1k (also base_plus, large), from
                                                      images without labels, or from VLMo
    --config=configs/finetune_classify.py:base_22k    the same, from a BEiT that classifies
                                                      ImageNet-22k (also large_22k)
    --config=configs/finetune_classify.py:base,384    at another image size than 224

Each with --config.init_from=DIR: the work folder of any stage, or a converted VLMo or BEiT, at
whatever image size it was made; `--config.init_from=none` starts from random parameters.

Official recipes of BEiT (unilm, beit/README.md and run_class_finetuning.py): AdamW (0.9, 0.999),
cosine from the peak rate to 1e-6, label smoothing 0.1, colour jitter 0.4, RandAugment, erasing
0.25, in evaluation the middle 224 of 256 pixels (from 384 px: all of the shorter side).

                       batch  rate  warm-up  epochs  layer decay  drop-path  decay  mixup  cutmix
    base               1,024  4e-3       20     100         0.65        0.1   0.05    0.8     1.0
    large              1,024  1e-3        5      50         0.75        0.2   0.05    0.8     1.0
    base_22k             512  2e-5        5      30         0.85        0.1   1e-8      0       0
    large_22k            512  2e-5        5      30         0.90        0.4   1e-8      0       0

base_plus, which BEiT does not have, takes the recipe of base. Averages of the parameters are kept
beside them (`ema_decay`, which the official code offers and the published runs leave out), and
scored and saved too.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

IMAGES = 1_281_167
# batch, peak rate, epochs of warm-up, epochs, layer decay, drop-path, weight decay, mixup, cutmix
RECIPES = {
    "base": (1024, 4e-3, 20, 100, 0.65, 0.1, 0.05, 0.8, 1.0),
    "base_plus": (1024, 4e-3, 20, 100, 0.65, 0.1, 0.05, 0.8, 1.0),
    "large": (1024, 1e-3, 5, 50, 0.75, 0.2, 0.05, 0.8, 1.0),
    "base_22k": (512, 2e-5, 5, 30, 0.85, 0.1, 1e-8, 0.0, 0.0),
    "large_22k": (512, 2e-5, 5, 30, 0.9, 0.4, 1e-8, 0.0, 0.0),
}
TINY = {"tiny": ("group", 9), "tiny_subgroup": ("subgroup", 98)}  # what tells classes, how many
# Biases, scales, class token and positions, whichever a model has; position tables do decay.
NO_DECAY = (
    r".*/((q_|v_|out_|patch_)?bias|(attention_|expert_)?scale)",
    r"image_embedding/(class_token|position)",
)
WHOLE_FROM = 384  # pixels from which evaluation looks at the whole shorter side


def get_config(arg="tiny"):
    sizes = (*TINY, *RECIPES)
    size, image_size = common.read_argument("configs/finetune_classify.py", arg, sizes)
    config = common.defaults()
    config.update(common.WARM_STARTS["classify"])
    config.task = ConfigDict(dict(kind="classify", smoothing=0.1))  # of recipes.tasks.TASKS
    config.data = ConfigDict(
        dict(
            kind="classes",  # of recipes.data.DATA
            # "emoji" (embedded) or a folder made by vlmo_jax.datasets.build
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            classes="folder",  # what tells the class: folder | group | subgroup | text
            # a file with a class a line, in the order of their numbers; None: classes.txt beside
            # the data, or all that the training split has, sorted
            class_list=placeholder(str),
            resize="centre_crop",  # of evaluation: square | centre_crop
            crop_share=0.875,  # of the shorter side that the middle takes
            crop_scale=(0.08, 1.0),
            flip=True,
            fast_views=False,  # in less time, with pixels that differ a little
            color_jitter=(0.4, 0.4, 0.4, 0.0),
            randaugment=(2, 9),  # operations and magnitude, 0 to 10; () for none
            randaugment_fill=(128, 128, 128),
            affine=(),  # rotation in degrees, zoom and shift as a share of the side; () for none
            grey=0.0,  # share of the images without colours
            outlines=0.0,  # share of the images as outlines
            erasing=0.25,  # share of the images of which a box becomes noise
            mixup=0.0,  # of the beta distribution of shares; 0: images are not blended
            cutmix=0.0,  # the same of boxes that are cut out
            mix_switch=0.5,  # how often a box is cut out, where both may be
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            **common.loading(),
        )
    )
    config.evals = ConfigDict(
        dict(
            classification=common.evaluation("classification", every_steps=5000, batch_size=512),
            averaged=common.evaluation("classification", every_steps=5000, batch_size=512),
        )
    )
    config.evals.averaged.averaged = True
    if size in TINY:
        return _tiny(config, size, image_size or 64)
    return _official(config, size, image_size or 224)


def _model(size, num_classes, **fields):
    model = common.transformer(size, vocab_size=1, patch_size=16, **fields)
    del model.vocab_size
    model.update(kind="image_classifier", num_classes=num_classes)
    model.shared_table = False
    return model


def _official(config, size, image_size):
    batch_size, rate, warm_up, epochs, layer_decay, drop_path, decay, mixup, cutmix = RECIPES[size]
    epoch = IMAGES // batch_size
    config.batch_size, config.steps = batch_size, epochs * epoch
    scale = size.removesuffix("_22k")
    config.model = _model(scale, 1000, image_size=image_size, drop_path_rate=drop_path)
    config.model.remat = "block"
    if scale == "large":
        config.model.layer_scale = 1e-5
    if size.endswith("_22k"):
        config.init_rules = ((r"head/.*", "skip"), *config.init_rules)  # of other classes
    config.data.update(mixup=mixup, cutmix=cutmix)
    if image_size >= WHOLE_FROM:
        config.data.crop_share = 1.0
    config.optimizer = _optimizer(learning_rate=rate, warmup_steps=warm_up * epoch)
    config.optimizer.update(
        end_learning_rate=1e-6, weight_decay=decay, layer_decay=layer_decay, ema_decay=0.9999
    )
    for evaluation in config.evals.values():
        evaluation.splits = ("validation",)
        evaluation.every_steps = 5 * epoch
    config.checkpoint.best_metric = "classification/accuracy"
    return config


def _tiny(config, size, image_size):
    config.batch_size, config.steps = 128, 800
    classes, count = TINY[size]
    config.model = _model("tiny", count, image_size=image_size, drop_path_rate=0.05, init_std=0.08)
    config.model.scan_layers = False
    config.data.update(source="emoji", classes=classes, resize="square", crop_share=1.0)
    # As the long recipe of stage 3 shows the drawings: another hand draws other colours and shapes.
    config.data.update(
        crop_scale=(0.7, 1.0),
        color_jitter=(0.15, 0.15, 0.25, 0.03),
        randaugment=(),
        randaugment_fill=(255, 255, 255),
        affine=(8.0, 1.15, 0.04),
        grey=0.1,
        outlines=0.15,
        mixup=0.1,
        cutmix=0.0,
    )
    config.data.update(**common.DRAWINGS)
    config.data.update(num_workers=0, num_threads=1, prefetch=4)
    config.optimizer = _optimizer(learning_rate=1e-3, warmup_steps=60)
    config.optimizer.update(weight_decay=0.05, layer_decay=0.75, ema_decay=0.99)
    for evaluation in config.evals.values():
        evaluation.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.update(every_steps=200, every_minutes=5.0)
    config.log_every = 20
    return config


def _optimizer(*, learning_rate, warmup_steps):
    optimizer = common.optimizer(
        learning_rate=learning_rate, warmup_steps=warmup_steps, no_decay=NO_DECAY
    )
    optimizer.update(schedule="cosine", betas=(0.9, 0.999))
    return optimizer
