"""ViLBERT: a stream of regions and one of words, which meet in co-attention.

    --config=configs/vilbert.py        small, patches of the drawings as regions, minutes on 2 CPU
                                       cores; needs --config.visual_tokenizer=DIR
    --config=configs/vilbert.py:base   the published sizes, on 36 regions of a detector

Published recipe (facebookresearch/vilbert-multi-task): Conceptual Captions, 3.1 M pairs, batch 512,
10 epochs, rate 1e-4 (BERT's weights a tenth of it), AdamW (0.9, 0.98), linear warm-up over 10 %,
texts of 36 tokens. The small one predicts the codes of configs/visual_tokenizer.py; with
--config.model.region_classes=0 it predicts the pixels of patches, and needs no tokenizer.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

SIZES = ("tiny", "base")
EPOCHS, PAIRS = 10, 3_100_000

# Biases and all norms, as in the official code.
NO_DECAY = (r".*bias", r".*norm/scale")
# BERT's part, which learns at a tenth of the rate where it starts from BERT.
BERT = r"(text_embedding|text|mlm_head)/.*"


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/vilbert.py", arg, SIZES)
    if image_size:
        raise ValueError(
            f"configs/vilbert.py:{arg}: an image size is of no use here; leave it out, and set"
            " config.model.image_size or num_regions"
        )
    config = common.defaults()
    # A work folder or checkpoint of configs/visual_tokenizer.py, where patches stand in for
    # regions.
    config.visual_tokenizer = placeholder(str)
    config.task = ConfigDict(
        dict(
            kind="vilbert_pretrain",  # of recipes.tasks.TASKS
            itm_weight=1.0,
            mlm_weight=1.0,
            region_weight=1.0,
            region_rate=0.15,  # share of the regions that are predicted
            # ask for words and regions of pairs that belong together only
            aligned_only=False,
            # never take a caption of the same image, or the same caption, for another's
            mask_duplicates=False,
        )
    )
    config.data = ConfigDict(
        dict(
            kind="region_pairs",  # of recipes.data.DATA
            # a folder of region records, see docs/VILBERT.md
            source=placeholder(str),
            split="train",
            weights=(),  # of the data sets that source joins by "+"; (): all records alike
            captions="text",  # text | text_and_keywords
            mask_rate=0.15,
            max_masked_tokens=8,
            dropped_words=0.0,  # share of the words that are hidden, replaced or left out
            dropped_regions=0.0,  # share of the regions that are left out
            **common.loading(),
        )
    )
    config.tokenizer = placeholder(str)  # a BERT vocab.txt, a SentencePiece .model, or "emoji"
    config.evals = ConfigDict()
    return _tiny(config) if size == "tiny" else _base(config)


def _model(**fields):
    return ConfigDict(
        dict(
            kind="vilbert",  # of models.build.MODELS; all other fields are arguments
            fusion="product",  # product | sum
            heads=("itm", "mlm", "region"),  # out of these, vqa and nlvr2
            num_answers=3129,
            dtype="auto",
            remat="none",
            **fields,
        )
    )


def _base(config):
    config.batch_size = 512
    config.steps = EPOCHS * PAIRS // config.batch_size
    config.model = _model(
        image_size=0,
        patch_size=0,
        num_regions=36,
        region_width=2048,
        region_classes=1601,
        text_length=36,
        text_positions=512,
        vocab_size=30_522,
        width=768,
        depth=12,
        num_heads=12,
        mlp_dim=3072,
        vision_width=1024,
        vision_depth=6,
        vision_num_heads=8,
        vision_mlp_dim=1024,
        co_width=1024,
        co_num_heads=8,
        co_blocks=(6, 7, 8, 9, 10, 11),
        vision_co_blocks=(0, 1, 2, 3, 4, 5),
        dropout_rate=0.1,
        init_std=0.02,
        scan_layers=True,
    )
    config.model.remat = "block"
    config.optimizer = common.optimizer(
        learning_rate=1e-4, warmup_steps=config.steps // 10, no_decay=NO_DECAY
    )
    config.optimizer.rate_multipliers = ((BERT, 0.1),)
    return config


def _tiny(config):
    config.batch_size = 64
    config.steps = 500
    config.model = _model(
        image_size=64,
        patch_size=16,
        num_regions=0,
        region_width=0,
        region_classes=256,  # codes of configs/visual_tokenizer.py
        text_length=16,
        text_positions=16,
        vocab_size=4000,
        width=128,
        depth=4,
        num_heads=4,
        mlp_dim=512,
        vision_width=128,
        vision_depth=2,
        vision_num_heads=4,
        vision_mlp_dim=512,
        co_width=128,
        co_num_heads=4,
        co_blocks=(2, 3),
        vision_co_blocks=(0, 1),
        dropout_rate=0.0,
        init_std=0.08,  # about 1 / sqrt(width), as in configs/stage3.py:tiny
        scan_layers=False,
    )
    config.optimizer = common.optimizer(learning_rate=1e-3, warmup_steps=60, no_decay=NO_DECAY)
    # A word comes up rarely and has little time to move.
    config.optimizer.rate_multipliers = ((r"text_embedding/word", 60.0),)
    del config.data["dropped_words"], config.data["dropped_regions"]
    config.data.update(
        kind="pairs",
        source="emoji",
        captions="text_and_keywords",
        max_masked_tokens=5,
        crop_scale=(0.9, 1.0),
        flip=True,
        randaugment=(),
        randaugment_fill=(255, 255, 255),
        color_jitter=(),
        affine=(),
        grey=0.0,
        outlines=0.0,
        mean=(0.85, 0.82, 0.78),
        std=(0.27, 0.27, 0.32),
    )
    config.data.update(num_workers=0, num_threads=1, prefetch=4)
    config.tokenizer = "emoji"
    config.checkpoint.update(every_steps=100, every_minutes=5.0)
    config.log_every = 10
    return config
