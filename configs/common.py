"""What the recipes share: model sizes and the defaults of optimizer, input, checkpoints and
logging.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

# depth, width, heads, blocks with a vision-language expert, position, layer scale (0: none), peak
# rate.
SIZES = {
    "tiny": dict(
        depth=4, width=128, num_heads=4, num_upper=1, position="absolute", layer_scale=0.0
    ),
    "base": dict(
        depth=12, width=768, num_heads=12, num_upper=2, position="relative", layer_scale=0.1
    ),
    "base_plus": dict(
        depth=24, width=544, num_heads=16, num_upper=3, position="absolute", layer_scale=0.0
    ),
    "large": dict(
        depth=24, width=1024, num_heads=16, num_upper=3, position="relative", layer_scale=0.1
    ),
}

# Of the colours of the embedded drawings, which are mostly white.
DRAWINGS = dict(mean=(0.85, 0.82, 0.78), std=(0.27, 0.27, 0.32))

# Parameters without weight decay: biases, the norm before attention, the final norm, BERT's norms
# and the position table. The experts' norms and the gammas do decay, as in the official code.
NO_DECAY = (
    r".*bias",
    r"transformer/(lower|upper)/norm/scale",
    r"transformer/norm/scale",
    r"(text_embedding|mlm_head)/norm/scale",
)

# What a run takes from the checkpoint in `init_from`: for each saved parameter the first rule (name
# regex, action) that fits. Both stacks of blocks are named transformer/blocks/..., experts
# transformer/blocks/experts/<modality>/... `init_fresh` lists what the seed fills where the
# checkpoint has nothing. Anything else is an error.
INIT_RULES = (
    (
        r"transformer/relative_position_bias|(image|text)_embedding/position|modality_type",
        "resample",
    ),
    (r".*", "copy"),
)
WARM_STARTS = {
    # From stage 1, or from a converted BEiT, which goes on.
    "stage1": dict(init_rules=INIT_RULES, init_fresh=()),
    # From stage 1, or from a converted BEiT.
    "stage2": dict(
        init_rules=((r"image_embedding/mask_token|mim_head/.*", "skip"), *INIT_RULES),
        init_fresh=(
            r"transformer/blocks/experts/text/.*",
            r"transformer/relative_position_bias/text_rows",
            r"(text_embedding|mlm_head)/.*",
            r"modality_type",
            r"transformer/norm/.*",  # which a BEiT that was fine-tuned to classify does not have
        ),
    ),
    # From stage 2.
    "stage3": dict(
        init_rules=INIT_RULES,
        init_fresh=(
            r"transformer/blocks/experts/vision_language/.*",
            r"(pooler|itc|itc_vl|itm_head)/.*",
        ),
    ),
    # Fine-tuning, from stage 3.
    "retrieval": dict(
        init_rules=((r"(pooler|itc_vl|itm_head|mlm_head)/.*", "skip"), *INIT_RULES), init_fresh=()
    ),
    "retrieval_matching": dict(
        init_rules=((r"(itc_vl|mlm_head)/.*", "skip"), *INIT_RULES), init_fresh=()
    ),
    "vqa": dict(
        init_rules=((r"(itc|itc_vl|itm_head|mlm_head|nlvr2_head)/.*", "skip"), *INIT_RULES),
        init_fresh=(r"vqa_head/.*",),
    ),
    "caption": dict(
        init_rules=((r"(pooler|itc|itc_vl|itm_head)/.*", "skip"), *INIT_RULES), init_fresh=()
    ),
    "nlvr2": dict(
        init_rules=((r"(itc|itc_vl|itm_head|mlm_head|vqa_head)/.*", "skip"), *INIT_RULES),
        init_fresh=(r"nlvr2_head/.*",),
    ),
}

# What of a VLMo or BEiT a classifier has no place for.
_NO_CLASSIFIER = (
    r"image_embedding/mask_token|transformer/norm/.*|text_embedding/.*"
    r"|transformer/blocks/experts/(text|vision_language)/.*"
    r"|(mim_head|pooler|itc|itc_vl|itm_head|mlm_head|vqa_head|nlvr2_head)/.*"
)
WARM_STARTS["classify"] = dict(
    init_rules=(
        (_NO_CLASSIFIER, "skip"),
        # VLMo tells images by a type, which BEiT has not: class token and patches start with it.
        (r"modality_type", "add", r"image_embedding/(class_token|patch_bias)"),
        *INIT_RULES,
    ),
    init_fresh=(r"(pool_norm|head)/.*",),
)
# A classifier may be one, too, but for its norm and its head.
WARM_STARTS["segment"] = dict(
    init_rules=((r"(pool_norm|head)/.*", "skip"), *WARM_STARTS["classify"]["init_rules"]),
    init_fresh=(r"(scales|head|auxiliary_head)/.*",),
)


# Of a dual encoder, for comparison: no fused pass, so none of the parts that it has to itself.
_UNFUSED = r"pooler/.*|transformer/blocks/experts/vision_language/.*"


def read_argument(file, arg, sizes):
    """What stands behind the colon of --config=FILE:SIZE[,IMAGE_SIZE].

    Args:
        file: of the recipe, for messages.
        arg: the argument.
        sizes: those that the recipe has.

    Returns:
        The size, and the image size in pixels, 0 where none is given.

    Raises:
        ValueError: an unknown size, or an image size that is no number.
    """
    size, _, image_size = arg.partition(",")
    if size not in sizes:
        raise ValueError(f"{file}:{arg}: size {size!r} is unknown; use one of {', '.join(sizes)}")
    if image_size and not (image_size.isdigit() and int(image_size)):
        raise ValueError(f"{file}:{arg}: image size {image_size!r} is not a number of pixels")
    return size, int(image_size or 0)


def transformer(size, *, image_size, patch_size, vocab_size, drop_path_rate, init_std=0.02):
    """The `model` part of a config without text: what a BEiT is made of."""
    sizes = SIZES[size]
    return ConfigDict(
        dict(
            kind="beit",  # of models.build.MODELS; every other field is an argument of that model
            image_size=image_size,
            patch_size=patch_size,
            vocab_size=vocab_size,
            mlp_dim=4 * sizes["width"],
            drop_path_rate=drop_path_rate,
            **sizes,
            init_std=init_std,
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
            remat="none",  # none | block | dots
            scan_layers=True,
            # auto | xla | cudnn; auto: cuDNN's fused kernel on NVIDIA GPUs, where it can be
            attention="auto",
        )
    )


def model(size, *, text_length, text_positions, **fields):
    """The `model` part of a config with text: what a VLMo is made of."""
    config = transformer(size, **fields)
    config.update(kind="vlmo", text_length=text_length, text_positions=text_positions)
    return config


def optimizer(*, learning_rate, warmup_steps, no_decay=NO_DECAY):
    """The `optimizer` part of a config: AdamW of the paper with linear warm-up and linear decay to
    0.
    """
    return ConfigDict(
        dict(
            learning_rate=learning_rate,
            schedule="polynomial",
            power=1.0,
            warmup_steps=warmup_steps,
            end_learning_rate=0.0,
            betas=(0.9, 0.98),
            epsilon=1e-8,
            weight_decay=0.01,
            no_decay=no_decay,
            rate_multipliers=(),  # (path regex, factor) pairs
            clip_norm=0.0,  # 0: no clipping
            # path regexes of parameters that do not train; experts are named, as in
            # transformer/lower/experts/image/.*
            frozen=(),
            layer_decay=1.0,  # factor of the rate from each block to the one below it; 1: none
            # sum the gradients of bfloat16 products over chips in float32: twice the bytes
            float32_sums=False,
            bfloat16_moments=False,  # keep both moments in half the memory
            ema_decay=0.0,  # of averaged parameters, kept for evaluation; 0: none are kept
        )
    )


def loading(*, num_threads=8):
    """The fields of the `data` part that say how batches are made, not what is in them."""
    return dict(
        # processes that make batches, no more than there are cores; 0 makes them in threads of this
        # one
        num_workers=8,
        num_threads=num_threads,  # of each
        prefetch=8,  # batches kept ready
        max_broken_fraction=0.001,  # of the records; with more the run stops
    )


def region_pairs(*, dropped_words, dropped_regions, max_masked_tokens=0):
    """The `data` part of a config that learns from region records, with these fields."""
    return ConfigDict(
        dict(
            kind="region_pairs",  # of recipes.data.DATA
            source=placeholder(str),  # a folder of region records, see docs/VILBERT.md
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            captions="text",  # text | text_and_keywords
            mask_rate=0.15,
            max_masked_tokens=max_masked_tokens,
            dropped_words=dropped_words,  # share that is hidden, replaced or left out
            dropped_regions=dropped_regions,  # share that is left out
            **loading(),
        )
    )


def see_drawings(data):
    """Makes the `data` part of region records that of the embedded drawings: the images and views
    of configs/stage3.py:tiny.

    Args:
        data: the part, which is changed.
    """
    del data["dropped_regions"]
    data.update(
        kind="pairs",
        source="emoji",
        captions="text_and_keywords",
        crop_scale=(0.9, 1.0),
        flip=True,
        randaugment=(),
        randaugment_fill=(255, 255, 255),
        color_jitter=(),
        affine=(),
        grey=0.0,
        outlines=0.0,
        **DRAWINGS,
    )


def make_views_and_texts(data, kind):
    """Makes the `data` part of stage 3 that of a text beside its images, of which nothing is drawn
    and no word is masked.

    Args:
        data: the part, which is changed.
        kind: of recipes.data.DATA.
    """
    for name in ("captions", "mask_rate", "max_masked_tokens"):
        del data[name]
    # The official recipe mirrors images at random here, too (`flip`), though "left" becomes wrong.
    data.kind = kind


def dual(config):
    """Makes of a recipe of questions or statements that of a dual encoder with a head on its
    vectors.
    """
    config.model.update(kind="dual_vlmo", experts=("image", "text"))
    config.init_rules = ((_UNFUSED, "skip"), *config.init_rules)
    return config


def evaluation(kind, *, every_steps, batch_size):
    """A member of the `evals` part, whose name there is that of its metrics and its picture."""
    return dict(
        kind=kind,  # of recipes.evaluations.EVALUATIONS
        source=placeholder(str),  # None: config.data.source
        splits=(),  # (): all of the source but the one trained on
        every_steps=every_steps,
        batch_size=batch_size,
        averaged=False,  # score the averaged parameters that config.optimizer.ema_decay keeps
    )


def defaults():
    """Fields that every recipe has beside its model, data, task, evaluations and optimizer."""
    config = ConfigDict()
    config.mode = "train"  # train | eval
    config.seed = 0
    # A work folder or checkpoint whose parameters to start from; "none": random ones.
    config.init_from = placeholder(str)
    config.init_rules, config.init_fresh = INIT_RULES, ()
    config.accumulation = 1  # parts in which a batch goes through the model
    config.mesh = ConfigDict(dict(data=-1, fsdp=1, tensor=1))
    config.checkpoint = ConfigDict(
        dict(
            every_steps=1000,
            every_minutes=30.0,
            keep_last=2,
            # An eval/ metric whose best checkpoint is kept too, such as
            # eval/retrieval/emoji_validation/mean_recall; its last part: the mean of the splits.
            best_metric=placeholder(str),
        )
    )
    config.log_every = 50
    config.compilation_cache = True  # keep compiled programs for the next start, where it is safe
    config.profile = ()  # (first, last) of the steps to trace into the work folder; () for none
    return config
