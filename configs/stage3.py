"""Stage 3, vision-language pre-training on image-text pairs: ITC, hard-negative ITM, MLM.

    --config=configs/stage3.py                a small VLMo on the drawings, minutes on 2 CPU cores
    --config=configs/stage3.py:tiny_long      the same for half an hour
    --config=configs/stage3.py:base           the paper's recipe (also base_plus, large)
    --config=configs/stage3.py:base,384       at another image size

Paper recipe: VLMo, section 4.1 and the official repository: COCO, VG, SBU and CC3M (4 M images, 10
M pairs), 224 px, batch 1024, 200k steps, AdamW (0.9, 0.98), weight decay 0.01, peak rate 2e-4
(base), 1e-4 (base_plus), 5e-5 (large), 2.5k warm-up steps, linear decay to 0.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

PEAK_RATES = {"base": 2e-4, "base_plus": 1e-4, "large": 5e-5}
TINY_STEPS = {"tiny": 500, "tiny_long": 1600}


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/stage3.py", arg, (*TINY_STEPS, *PEAK_RATES))
    config = common.defaults()
    config.update(common.WARM_STARTS["stage3"])
    config.task = ConfigDict(
        dict(
            kind="pair_pretrain",  # of recipes.tasks.TASKS
            itc_weight=1.0,
            itm_weight=1.0,
            mlm_weight=0.25,
            # leave pairs with the same image or caption out of the negatives
            mask_duplicates=False,
            num_fused=0,  # pairs of a batch that ITM and MLM are learned on; 0: all
            # 0 draws negatives by similarity, as the paper does, 1 at random
            easier_negatives=0.0,
            # parts of the batch, such as the chips, within which negatives are drawn, so that no
            # images travel beyond; 0: one
            negative_groups=0,
            # columns of the similarities at a time, a divisor of the rows of a batch shard, for
            # batches of tens of thousands; 0: all
            contrast_chunk=0,
        )
    )
    config.data = ConfigDict(
        dict(
            kind="pairs",  # of recipes.data.DATA
            # "emoji" (embedded) or a folder made by vlmo_jax.datasets.build
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            captions="text",  # text | text_and_keywords
            crop_scale=(0.5, 1.0),
            flip=True,
            fast_views=False,  # in less time, with pixels that differ a little
            randaugment=(2, 7),  # operations, magnitude; () for none
            randaugment_fill=(128, 128, 128),  # colour of uncovered corners
            color_jitter=(),  # strengths of brightness, contrast, saturation, hue; () for none
            affine=(),  # rotation in degrees, zoom, shift as a share of the side; () for none
            grey=0.0,  # share of the images without colours
            outlines=0.0,  # share of the images as dark outlines on white
            mask_rate=0.15,
            max_masked_tokens=12,
            mean=(0.5, 0.5, 0.5),
            std=(0.5, 0.5, 0.5),
            **common.loading(),
        )
    )
    config.tokenizer = placeholder(str)  # a SentencePiece .model, a BERT vocab.txt, or "emoji"
    config.evals = ConfigDict(
        dict(
            retrieval=dict(
                **common.evaluation("retrieval", every_steps=5000, batch_size=512),
                protocol="all_captions",  # of evals.protocols.PROTOCOLS
                # candidates a query that the ITM head ranks again after training and with mode=eval
                rerank_top_k=0,
                # its score in place of the dual encoder's, or added to it: replace | add
                rerank="replace",
                # vectors, or pairs: each in a pass of its own; auto: by what the model is made for
                scoring="auto",
            )
        )
    )
    if size in TINY_STEPS:
        return _tiny(config, size, image_size or 64)
    return _paper(config, size, image_size or 224)


def _paper(config, size, image_size):
    config.batch_size = 1024
    config.steps = 200_000
    config.model = common.model(
        size,
        image_size=image_size,
        patch_size=16,
        text_length=40,
        text_positions=196,
        vocab_size=30_522,
        drop_path_rate=0.1,
    )
    config.model.remat = "block"
    config.optimizer = common.optimizer(learning_rate=PEAK_RATES[size], warmup_steps=2500)
    return config


def _tiny(config, size, image_size):
    config.batch_size = 64
    config.steps = TINY_STEPS[size]
    config.model = common.model(
        "tiny",
        image_size=image_size,
        patch_size=16,
        text_length=16,
        text_positions=16,
        vocab_size=4000,
        drop_path_rate=0.0,
        # about 1 / sqrt(width): from 0.02 so narrow a model takes long to start learning
        init_std=0.08,
    )
    config.model.scan_layers = (
        False  # four blocks: unrolled they compile as fast and run a third faster on CPU
    )
    config.optimizer = common.optimizer(learning_rate=1e-3, warmup_steps=60)
    config.optimizer.rate_multipliers = (
        (r"text_embedding/word", 60.0),
    )  # a word comes up rarely and has little time to move
    config.data.update(
        source="emoji", captions="text_and_keywords", randaugment=(), max_masked_tokens=5
    )
    if size == "tiny_long":
        _learn_for_long(config)
    else:  # in 4 epochs no more is learned from other views of the drawings
        config.data.crop_scale = (0.9, 1.0)
    config.data.randaugment_fill = (255, 255, 255)
    config.data.update(**common.DRAWINGS)
    config.data.update(num_workers=0, num_threads=1, prefetch=4)
    config.tokenizer = "emoji"
    config.evals.retrieval.update(batch_size=128, every_steps=config.steps // 4)
    config.checkpoint.update(every_steps=100, every_minutes=5.0, best_metric="mean_recall")
    config.log_every = 10
    return config


def _learn_for_long(config):
    """What pays in 54 epochs: see docs/SMALL_MODELS.md for what was tried."""
    # Contrast learns from many pairs at a small cost; the fused passes take most of a step.
    config.batch_size = 256
    config.task.update(num_fused=64, easier_negatives=0.5, mask_duplicates=True)
    config.optimizer.warmup_steps = 100
    # Another hand draws other colours and shapes, or outlines alone.
    config.data.update(
        crop_scale=(0.7, 1.0),
        affine=(8.0, 1.15, 0.04),
        color_jitter=(0.15, 0.15, 0.25, 0.03),
        grey=0.1,
        outlines=0.15,
    )
