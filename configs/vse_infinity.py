"""VSE-infinity: a dual encoder that pools regions or a grid, and words, by learned weights, with
the triplet loss.

    --config=configs/vse_infinity.py             small, from pixels, on the drawings, minutes on 2
                                                 CPU cores
    --config=configs/vse_infinity.py:tiny_grid   the same on grid features of a trained small model
    --config=configs/vse_infinity.py:region      published sizes, on 36 regions of 2,048 numbers
    --config=configs/vse_infinity.py:grid        published sizes, on grid features of a base model

Published recipe (woodfrog/vse_infty): Flickr30K or COCO, 25 epochs of all captions in batches of
128, AdamW at 5e-4 (BERT a tenth of it), weight decay 1e-4, gradients clipped to 2, all negatives in
the first epoch and the hardest afterwards. A step count stands for epochs here: 113,287 images of
COCO with five captions each give 4,425 steps an epoch. Its rate falls to a tenth at epoch 15; ours
along a cosine.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

SIZES = ("tiny", "tiny_grid", "region", "grid")
EPOCH = 4425  # steps


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/vse_infinity.py", arg, SIZES)
    if image_size:
        raise ValueError(
            f"configs/vse_infinity.py:{arg}: an image size is of no use here; leave it out, and set"
            " config.model.image_size or num_regions"
        )
    config = common.defaults()
    config.task = ConfigDict(
        dict(
            kind="vse_infinity",  # of recipes.tasks.TASKS
            margin=0.2,  # by which what is right should be ahead
            warmup_steps=EPOCH,  # in which all negatives count, the hardest alone afterwards
            # leave pairs with the same image or caption out of the negatives
            mask_duplicates=False,
            dropped_patches=0.0,  # share of the places of a grid that are left out in training
            on_collapse="warn",  # when all vectors become alike: warn | stop
        )
    )
    config.data = common.region_pairs(dropped_words=0.2, dropped_regions=0.2)
    config.tokenizer = placeholder(str)  # a BERT vocab.txt, a SentencePiece .model, or "emoji"
    config.evals = ConfigDict(
        dict(
            retrieval=dict(
                **common.evaluation("retrieval", every_steps=EPOCH, batch_size=512),
                protocol="all_captions",
                rerank_top_k=0,
                rerank="replace",
            )
        )
    )
    if size.startswith("tiny"):
        return _tiny(config, grid=size == "tiny_grid")
    return _published(config, grid=size == "grid")


def _model(**fields):
    return ConfigDict(
        dict(
            kind="vse_infinity",  # of models.build.MODELS; all other fields are arguments
            pooling="gpo",  # gpo | mean
            heads=("retrieval",),  # out of retrieval and vqa
            num_answers=3129,
            dtype="auto",
            remat="none",
            **fields,
        )
    )


def _published(config, *, grid):
    config.batch_size = 128
    config.steps = 25 * EPOCH
    config.model = _model(
        embed_width=1024,
        width=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        vocab_size=30_522,
        text_length=40,
        text_positions=512,
        dropout_rate=0.1,
        # 14 x 14 patches of a base model at 224 px, or what the detector found
        num_regions=196 if grid else 36,
        region_width=768 if grid else 2048,
        region_mlp=0 if grid else 512,
        init_std=0.02,
        scan_layers=True,
    )
    config.optimizer = common.optimizer(learning_rate=5e-4, warmup_steps=0, no_decay=())
    config.optimizer.update(
        schedule="cosine",
        betas=(0.9, 0.999),
        weight_decay=1e-4,
        clip_norm=2.0,
        rate_multipliers=((r"bert/.*", 0.1),),
    )
    config.checkpoint.best_metric = "mean_recall"
    return config


def _tiny(config, *, grid):
    config.batch_size = 64
    config.steps = 500
    sizes = dict(num_heads=4, depth=4, mlp_dim=512)
    config.model = _model(
        embed_width=128,
        width=128,
        vocab_size=4000,
        text_length=16,
        text_positions=16,
        dropout_rate=0.0,
        num_regions=16 if grid else 0,
        init_std=0.08,  # about 1 / sqrt(width), as in configs/stage3.py:tiny
        scan_layers=False,
        **sizes,
    )
    if grid:
        config.model.update(region_width=128, region_mlp=0)
    else:
        config.model.update(image_size=64, patch_size=16, image_width=128)
        config.model.update(image_depth=4, image_heads=4, image_mlp_dim=512)
        config.task.dropped_patches = 0.2
        common.see_drawings(config.data)
    # In so few steps the hardest negatives alone draw all vectors together: all count to the end.
    # Many artists draw one thing under one caption: these are no negatives of each other.
    config.task.update(warmup_steps=config.steps, mask_duplicates=True)
    # A word comes up rarely and has little time to move.
    config.optimizer = common.optimizer(learning_rate=1e-3, warmup_steps=60, no_decay=())
    config.optimizer.rate_multipliers = ((r"bert/embedding/word", 60.0),)
    config.optimizer.clip_norm = 2.0  # the loss is a sum, and falls when the hardest count alone
    config.data.update(captions="text_and_keywords", num_workers=0, num_threads=1, prefetch=4)
    config.tokenizer = "emoji"
    config.evals.retrieval.update(batch_size=128, every_steps=config.steps // 4)
    config.checkpoint.update(every_steps=100, every_minutes=5.0, best_metric="mean_recall")
    config.log_every = 10
    return config
