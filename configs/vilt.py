"""ViLT: one Transformer over words and patches, pre-trained on pairs and fine-tuned.

    --config=configs/vilt.py                   a small ViLT on the drawings, minutes on 2 CPU cores
    --config=configs/vilt.py:base              the paper's ViLT-B/32
    --config=configs/vilt.py:base,vqa          fine-tuned on VQAv2 (also tiny,vqa)
    --config=configs/vilt.py:base,nlvr2        fine-tuned on NLVR2 (also tiny,nlvr2)
    --config=configs/vilt.py:base,rank         fine-tuned for retrieval (also tiny,rank)

Fine-tuning starts from --config.init_from=DIR: a work folder of pre-training, or a converted
official checkpoint; `none` are random parameters.

Paper recipe: arXiv 2102.03334 and the official configs: COCO, VG, SBU and CC3M, shorter side 384,
longer one up to 639, batch 4096, 200k steps (100k too), AdamW (0.9, 0.98), weight decay 0.01, peak
rate 1e-4, 2.5k warm-up steps, linear decay to 0, dropout 0.1, 200 patches of each image drawn at
random, no augmentation; it starts from a ViT that was trained on ImageNet, which is not converted
here. Fine-tuning: batch 256 (NLVR2 128), 10 epochs, rate 1e-4, warm-up over a tenth of the steps,
all patches, the head of VQA at 10 times the rate; RandAugment (2, 9) in its better results.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, stage3

FILE = "configs/vilt.py"
SIZES = {
    "tiny": dict(width=128, depth=8, num_heads=4, mlp_dim=512),
    "base": dict(width=768, depth=12, num_heads=12, mlp_dim=3072),
}
TASKS = ("vqa", "nlvr2", "rank")
NO_DECAY = (
    r".*bias",
    r"norm/scale",
    r"transformer/blocks/(feed_forward/)?norm/scale",
    r"(text_embedding|mlm_head)/norm/scale",
)
RESAMPLED = (r"(image|text)_embedding/position|modality_type", "resample")
HEADS = {"vqa": r"vqa_head/.*", "nlvr2": r"nlvr2_head/.*", "rank": r"rank_head/.*"}
# Steps of 10 epochs, of VQAv2's train2014 and val2014, of NLVR2, of COCO with one caption a time.
EXAMPLES = {"vqa": 443_757 + 214_354, "nlvr2": 86_373, "rank": 566_747}
BATCHES = {"vqa": 256, "nlvr2": 128, "rank": 256}


def get_config(arg="tiny"):
    size, _, task = arg.partition(",")
    if size not in SIZES:
        raise ValueError(f"{FILE}:{arg}: size {size!r} is unknown; use one of {', '.join(SIZES)}")
    if task and task not in TASKS:
        raise ValueError(
            f"{FILE}:{arg}: task {task!r} is unknown; leave it out or use one of {', '.join(TASKS)}"
        )
    config = stage3.get_config(size)
    config.init_rules, config.init_fresh = (RESAMPLED, (r".*", "copy")), ()
    config.task = ConfigDict(
        dict(
            kind="vilt_pretrain",  # of recipes.tasks.TASKS
            itm_weight=1.0,
            mlm_weight=1.0,
            wpa_weight=0.1,  # of the alignment of words with patches
        )
    )
    config.model = _model(size)
    config.optimizer.no_decay = NO_DECAY
    config = _tiny(config) if size == "tiny" else _paper(config)
    return _fine_tune(config, size, task) if task else config


def _model(size):
    tiny = size == "tiny"
    return ConfigDict(
        dict(
            kind="vilt",  # of models.build.MODELS; every other field is an argument of that model
            image_size=64 if tiny else 384,  # of the shorter side at most
            longest_side=64 if tiny else 639,  # of the longer one
            patch_size=16 if tiny else 32,
            sampled_patches=0 if tiny else 200,  # of an image in training; 0: all
            text_length=16 if tiny else 40,
            vocab_size=4000 if tiny else 30_522,
            **SIZES[size],
            dropout_rate=0.0 if tiny else 0.1,
            heads=("itm", "mlm"),
            # about 1 / sqrt(width): from 0.02 so narrow a model takes long to start learning
            init_std=0.08 if tiny else 0.02,
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
            remat="none" if tiny else "block",  # none | block | dots
            scan_layers=not tiny,
        )
    )


def _paper(config):
    config.batch_size, config.steps = 4096, 200_000
    config.optimizer.update(learning_rate=1e-4, warmup_steps=2500)
    config.data.update(crop_scale=(1.0, 1.0), flip=False, randaugment=(), prefetch=2)
    # Of a split of 5,000 images these are 125 million passes: mode=eval, and on many devices.
    config.evals.retrieval.every_steps = config.steps
    return config


def _tiny(config):
    # Each of the captions with each of the drawings: of 100 concepts, not of all that are held out.
    config.evals.retrieval.update(
        splits=("unseen_concepts",), every_steps=config.steps // 2, batch_size=256
    )
    return config


def _fine_tune(config, size, task):
    config.model.update(heads=(task,), sampled_patches=0)
    skipped = r"(itm_head|mlm_head|rank_head|vqa_head|nlvr2_head)/.*"
    if task == "rank":
        # The head starts as that of matching says "match".
        rules = ((r"itm_head/(.*)", "resample", r"rank_head/\1"),)
        config.init_rules = (*rules, (r"(mlm_head|vqa_head|nlvr2_head)/.*", "skip"), RESAMPLED)
    else:
        config.init_rules = ((skipped, "skip"), RESAMPLED)
    config.init_rules += ((r".*", "copy"),)
    config.init_fresh = (HEADS[task],) if task != "rank" else ()
    steps = 10 * EXAMPLES[task] // BATCHES[task]
    if size == "base":
        config.batch_size, config.steps = BATCHES[task], steps
        config.optimizer.update(learning_rate=1e-4, warmup_steps=steps // 10)
    return {"vqa": _vqa, "nlvr2": _nlvr2, "rank": _rank}[task](config, size)


def _vqa(config, size):
    config.task = ConfigDict(dict(kind="vqa"))
    common.make_views_and_texts(config.data, "questions")
    config.data.answers = placeholder(str)  # a list, one a line; None: answers.txt of the data set
    config.data.answer_matching = "official"  # see configs/finetune_vqa.py
    config.model.num_answers = 3129
    config.optimizer.rate_multipliers += ((HEADS["vqa"], 10.0),)
    config.evals = ConfigDict(dict(vqa=common.evaluation("vqa", every_steps=5000, batch_size=256)))
    config.checkpoint.best_metric = "accuracy"
    if size == "base":
        config.evals.vqa.splits = ("validation",)
        return config
    config.steps, config.model.num_answers = 1500, 384
    config.optimizer.update(learning_rate=5e-4, warmup_steps=100)
    config.optimizer.rate_multipliers = ((r"text_embedding/word", 20.0), (HEADS["vqa"], 20.0))
    # Places are asked about, "left" and "right" among them.
    config.data.update(source="emoji_questions", flip=False)
    config.evals.vqa.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.best_metric = None  # the artist that is reported must choose nothing
    return config


def _nlvr2(config, size):
    config.task = ConfigDict(dict(kind="nlvr2"))
    common.make_views_and_texts(config.data, "statements")
    config.evals = ConfigDict(
        dict(nlvr2=common.evaluation("nlvr2", every_steps=1000, batch_size=256))
    )
    config.checkpoint.best_metric = "accuracy"
    if size == "base":
        config.evals.nlvr2.splits = ("dev",)
        return config
    config.steps = 1400
    config.optimizer.update(learning_rate=1e-3, warmup_steps=100)
    config.data.update(source="emoji_statements", flip=False)
    config.evals.nlvr2.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.best_metric = None
    return config


def _rank(config, size):
    config.task = ConfigDict(dict(kind="ranking", num_false=15))  # other texts beside the own one
    config.data.max_masked_tokens = 0
    if size == "base":
        config.evals.retrieval.update(splits=("test",), every_steps=config.steps)
        config.checkpoint.best_metric = None
        return config
    # Each image with 16 captions; in parts for the memory.
    config.batch_size, config.accumulation, config.steps = 64, 4, 300
    config.optimizer.update(learning_rate=5e-4, warmup_steps=30)
    config.evals.retrieval.every_steps = config.steps // 2
    return config
