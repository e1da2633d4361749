"""CLIP: a dual encoder that learns from pairs by contrast alone.

    --config=configs/clip.py           a small one on the drawings, minutes on 2 CPU cores
    --config=configs/clip.py:b32       the paper's ViT-B/32 (also b16, l14, l14_336)
    --config=configs/clip.py:b32,384   at another image size
    --config=configs/clip.py:tiny,vqa  with a head for questions on both vectors (also b32, ...)

Paper recipe: arXiv 2103.00020: 400 M pairs of the web, 32 epochs, batch 32,768, AdamW (0.9, 0.98,
1e-6), weight decay 0.2 on all but gains and biases, peak rate 5e-4 after 2,000 steps, cosine decay
to 0, a random square crop and nothing else, the scale at most 100. `config.data.source` is any data
set of pairs.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, finetune_vqa, stage3

# Image tower, text tower: width, depth, heads; the space they meet in; pixels.
SIZES = {
    "tiny": dict(patch=16, image=(128, 4, 4), text=(128, 4, 4), embed_dim=128, image_size=64),
    "b32": dict(patch=32, image=(768, 12, 12), text=(512, 12, 8), embed_dim=512, image_size=224),
    "b16": dict(patch=16, image=(768, 12, 12), text=(512, 12, 8), embed_dim=512, image_size=224),
    "l14": dict(patch=14, image=(1024, 24, 16), text=(768, 12, 12), embed_dim=768, image_size=224),
}
SIZES["l14_336"] = {**SIZES["l14"], "image_size": 336}
NO_DECAY = (r".*(bias|scale)", r"image_embedding/class_token")
VQA = "vqa"
LIMITS = ((r"itc/logit_scale", (0.0, 4.605170)),)  # the scale from 1 to 100, by its logarithm
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
PAIRS, EPOCHS, BATCH = 400_000_000, 32, 32_768  # of the paper


def get_config(arg="tiny"):
    parts = [part for part in arg.split(",") if part != VQA]
    size, image_size = common.read_argument("configs/clip.py", ",".join(parts), SIZES)
    tiny, answers = size == "tiny", len(parts) < len(arg.split(","))
    source = finetune_vqa if answers else stage3
    config = source.get_config("tiny" if tiny else "base")
    config.model = _model(SIZES[size], image_size)
    if tiny:
        config.model.update(text_length=16, vocab_size=4000, scan_layers=False)
    else:
        config.model.remat = "block"
        config.tokenizer = "clip"
        config.data.update(crop_scale=(0.9, 1.0), flip=False, randaugment=(), mean=MEAN, std=STD)
        # An evaluation sees the square in the middle of an image: square | centre_crop
        config.data.resize = "centre_crop"
    if answers:
        return _answering(config)
    config = _contrast(config)
    return _tiny(config) if tiny else _paper(config)


def _contrast(config):
    config.init_fresh = ()
    config.init_from = "none"  # from random parameters; or a work folder, or a converted CLIP
    config.task = ConfigDict(
        dict(
            kind="retrieval",  # of recipes.tasks.TASKS: the contrast alone
            # leave pairs with the same image or caption out of the negatives
            mask_duplicates=False,
            contrast_chunk=0,  # columns of the similarities at a time, see stage3; 0: all
        )
    )
    config.data.max_masked_tokens = 0
    config.optimizer.update(
        schedule="cosine",
        betas=(0.9, 0.98),
        epsilon=1e-6,
        weight_decay=0.2,
        no_decay=NO_DECAY,
        rate_multipliers=(),
        limits=LIMITS,  # (path regex, (least, most)) pairs that no update leaves
    )
    return config


def _answering(config):
    """A head on both vectors, which no token of one ever meets: of one's own trying, not CLIP's."""
    config.model.update(heads=("vqa",), num_answers=384 if config.tokenizer == "emoji" else 3129)
    config.init_rules = ((r"itc/.*", "skip"), *common.INIT_RULES)
    config.optimizer.no_decay = NO_DECAY
    return config


def _model(sizes, image_size):
    (width, depth, heads), (text_width, text_depth, text_heads) = sizes["image"], sizes["text"]
    return ConfigDict(
        dict(
            kind="clip",  # of models.build.MODELS; every other field is an argument of that model
            image_size=image_size or sizes["image_size"],
            patch_size=sizes["patch"],
            width=width,
            depth=depth,
            num_heads=heads,
            mlp_dim=4 * width,
            vocab_size=49_408,
            text_length=77,
            text_width=text_width,
            text_depth=text_depth,
            text_num_heads=text_heads,
            text_mlp_dim=4 * text_width,
            embed_dim=sizes["embed_dim"],
            activation="quick_gelu",  # as OpenAI's weights; gelu
            heads=("retrieval",),
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
            remat="none",  # none | block | dots
            scan_layers=True,
        )
    )


def _paper(config):
    config.batch_size, config.steps = BATCH, EPOCHS * PAIRS // BATCH
    config.optimizer.update(learning_rate=5e-4, warmup_steps=2000)
    config.data.prefetch = 2  # a batch has 5 GB
    return config


def _tiny(config):
    # A word comes up rarely: without it a drawing by another hand is found less often.
    config.optimizer.rate_multipliers = ((r"text_embedding/word", 10.0),)
    config.evals.zero_shot = dict(
        **common.evaluation("zero_shot", every_steps=config.steps // 4, batch_size=128),
        # what tells an image's class: folder | group | subgroup (of groups.json) | text
        classes="group",
        templates="drawings",  # plain | photos | drawings, or a file with one a line
        names=placeholder(str),  # a file of what classes are called; None: as their folders
    )
    config.evals.zero_shot.splits = ("unseen_artist",)
    config.checkpoint.best_metric = "retrieval/mean_recall"
    return config
