"""ViLBERT: a stream of regions and one of words, which meet in co-attention.

    --config=configs/vilbert.py        small, patches of the drawings as regions, minutes on 2 CPU
                                       cores; needs --config.visual_tokenizer=DIR
    --config=configs/vilbert.py:base   the published sizes, on 36 regions of a detector
    --config=configs/vilbert.py:tiny,vqa       fine-tuned on questions (also tiny,nlvr2)
    --config=configs/vilbert.py:tiny,rank      fine-tuned for retrieval (also base,rank)

Fine-tuning starts from --config.init_from=DIR: a work folder of pre-training, or a converted
official checkpoint; `none` are random parameters. Questions and statements come with images, not
with a detector's regions: those of base are refused.

Published recipe (facebookresearch/vilbert-multi-task): Conceptual Captions, 3.1 M pairs, batch 512,
10 epochs, rate 1e-4 (BERT's weights a tenth of it), AdamW (0.9, 0.98), linear warm-up over 10 %,
texts of 36 tokens. For retrieval batch 128, rate 2e-5, four choices. The small one predicts the
codes of configs/visual_tokenizer.py; with --config.model.region_classes=0 it predicts the pixels of
patches, and needs no tokenizer.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common

FILE = "configs/vilbert.py"
SIZES = ("tiny", "base")
TASKS = {"tiny": ("vqa", "nlvr2", "rank"), "base": ("rank",)}
EPOCHS, PAIRS = 10, 3_100_000

# Biases and all norms, as in the official code.
NO_DECAY = (r".*bias", r".*norm/scale")
# BERT's part, which learns at a tenth of the rate where it starts from BERT.
BERT = r"(text_embedding|text|mlm_head)/.*"


def get_config(arg="tiny"):
    size, _, task = arg.partition(",")
    if size not in SIZES:
        raise ValueError(f"{FILE}:{arg}: size {size!r} is unknown; use one of {', '.join(SIZES)}")
    if task and task not in TASKS[size]:
        raise ValueError(
            f"{FILE}:{arg}: task {task!r} is unknown of {size}; leave it out or use one of"
            f" {', '.join(TASKS[size])}"
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
    config.data = common.region_pairs(dropped_words=0.0, dropped_regions=0.0, max_masked_tokens=8)
    config.tokenizer = placeholder(str)  # a BERT vocab.txt, a SentencePiece .model, or "emoji"
    config.evals = ConfigDict(
        dict(
            retrieval=dict(
                **common.evaluation("retrieval", every_steps=5000, batch_size=512),
                protocol="all_captions",  # of evals.protocols.PROTOCOLS
                rerank_top_k=0,  # every pair is scored: there is nothing to rank again
                rerank="replace",
            )
        )
    )
    config = _tiny(config) if size == "tiny" else _base(config)
    return FINE_TUNING[task](config, size) if task else config


def _model(**fields):
    return ConfigDict(
        dict(
            kind="vilbert",  # of models.build.MODELS; all other fields are arguments
            fusion="product",  # product | sum
            heads=("itm", "mlm", "region"),  # out of these, rank, vqa and nlvr2
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
    # Of a split of 5,000 images these are 125 million passes: mode=eval, and on many devices.
    config.evals.retrieval.every_steps = config.steps
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
    # The table also is the decoder, which large steps disturb.
    config.optimizer.rate_multipliers = ((r"text_embedding/word", 6.0),)
    del config.data["dropped_words"]
    common.see_drawings(config.data)
    config.data.update(max_masked_tokens=5, num_workers=0, num_threads=1, prefetch=4)
    config.tokenizer = "emoji"
    # Each of the captions with each of the drawings: of 100 concepts, not of all that are held out.
    config.evals.retrieval.update(
        splits=("unseen_concepts",), every_steps=config.steps // 2, batch_size=256
    )
    config.checkpoint.update(every_steps=100, every_minutes=5.0)
    config.log_every = 10
    return config


def _fine_tune(config, task, rules=()):
    """The head of a task in the place of those of pre-training."""
    del config["visual_tokenizer"]
    config.model.update(heads=(task,), region_classes=0)
    others = rf"(?!{task}_head/)\w+_head/.*"
    config.init_rules = (*rules, (others, "skip"), (r".*", "copy"))
    config.init_fresh = () if rules else (rf"{task}_head/.*",)
    return config


def _rank(config, size):
    # The head starts as the official one does, at random.
    config = _fine_tune(config, "rank")
    config.task = ConfigDict(dict(kind="ranking", num_false=3))  # other texts beside the own one
    config.data.max_masked_tokens = 0
    if size == "base":
        config.batch_size, config.steps = 128, 20 * 145_000 // 128  # Flickr30k
        config.optimizer.update(learning_rate=2e-5, warmup_steps=config.steps // 10)
        config.optimizer.rate_multipliers = ()
        config.evals.retrieval.update(splits=("test",), every_steps=config.steps)
        return config
    config.steps = 300
    config.optimizer.update(learning_rate=5e-4, warmup_steps=30)
    config.evals.retrieval.every_steps = config.steps // 2
    return config


def _vqa(config, size):
    config = _fine_tune(config, "vqa")
    config.task = ConfigDict(dict(kind="vqa"))
    common.make_views_and_texts(config.data, "questions")
    config.data.answers = placeholder(str)  # a list, one a line; None: answers.txt of the data set
    config.data.answer_matching = "official"  # see configs/finetune_vqa.py
    config.steps, config.model.num_answers = 1500, 384
    config.optimizer.update(learning_rate=5e-4, warmup_steps=100)
    # Places are asked about, "left" and "right" among them.
    config.data.update(source="emoji_questions", flip=False)
    evaluation = common.evaluation("vqa", every_steps=config.steps // 2, batch_size=128)
    config.evals = ConfigDict(dict(vqa=evaluation))
    return config


def _nlvr2(config, size):
    config = _fine_tune(config, "nlvr2")
    config.task = ConfigDict(dict(kind="nlvr2"))
    common.make_views_and_texts(config.data, "statements")
    config.steps = 1400
    config.optimizer.update(learning_rate=1e-3, warmup_steps=100)
    config.data.update(source="emoji_statements", flip=False)
    evaluation = common.evaluation("nlvr2", every_steps=config.steps // 2, batch_size=128)
    config.evals = ConfigDict(dict(nlvr2=evaluation))
    return config


FINE_TUNING = {"rank": _rank, "vqa": _vqa, "nlvr2": _nlvr2}
