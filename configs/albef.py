"""ALBEF: pre-training on image-text pairs with contrast before fusion, and momentum distillation.

    --config=configs/albef.py                  a small one on the drawings, minutes on 2 CPU cores
    --config=configs/albef.py:base             the published recipe
    --config=configs/albef.py:base,384         at another image size
    --config=configs/albef.py:base,retrieval   fine-tuned for search, with matching (also tiny)
    --config=configs/albef.py:base,vqa         fine-tuned on questions, with a head (also tiny)

Fine-tuning starts from `config.init_from`: the work folder of pre-training, or a converted file.

Published recipe: arXiv 2107.07651 and the official repository: 4 M images (COCO, VG, SBU, CC3M) or
14 M with CC12M, 256 px, batch 512, 30 epochs, AdamW, weight decay 0.02, rate 1e-5 rising to 1e-4
over the first epoch and falling along a cosine to 1e-5, a ViT that starts from DeiT and a BERT of
12 layers that is cut after the sixth. A step count stands for epochs here: with 5 M pairs an epoch
has 10,000 steps. The rate warms up from 0. Retrieval: 384 px, batch 256, 5 epochs of COCO, rate
1e-5; VQA: 384 px, batch 256, 8 epochs of train, val and Visual Genome, rate 2e-5. Both learn there
from momentum towers and queues too, and answers are written by a decoder.
"""

from ml_collections import ConfigDict

from configs import common, finetune_retrieval, finetune_vqa, stage3

FILE, SIZES, TASKS = "configs/albef.py", ("tiny", "base"), ("retrieval", "vqa")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EPOCH, EPOCHS = 10_000, 30
# As in the official code, matrices, tables, the class token and the temperature decay.
NO_DECAY = (r".*bias", r".*norm/scale")
LIMITS = ((r"itc/temperature", (0.001, 0.5)),)
WORDS = r"text_encoder/embedding/word"
RULES = ((r"image_embedding/position", "resample"), (r".*", "copy"))


def get_config(arg="tiny"):
    size, task, image_size = _read_argument(arg)
    if task == "retrieval":
        return _retrieval(size, image_size or {"tiny": 64, "base": 384}[size])
    if task == "vqa":
        return _vqa(size, image_size or {"tiny": 64, "base": 384}[size])
    return _pretrain(size, image_size or {"tiny": 64, "base": 256}[size])


def _read_argument(arg):
    """The size, the task, None for pre-training, and the image size, 0 for the default."""
    size, *rest = arg.split(",")
    common.read_argument(FILE, size, SIZES)
    task = rest.pop(0) if rest and rest[0] in TASKS else None
    if len(rest) > 1 or (rest and not (rest[0].isdigit() and int(rest[0]))):
        raise ValueError(
            f"{FILE}:{arg}: behind the size stand {' or '.join(TASKS)} and an image size in pixels,"
            f" and not {', '.join(rest)}"
        )
    return size, task, int(rest[0]) if rest else 0


def _pretrain(size, image_size):
    config = stage3.get_config(size)
    config.init_rules, config.init_fresh = RULES, ()
    config.init_from = "none"  # from random parameters; or a work folder, or a converted ALBEF
    config.model = _model(size, image_size, heads=("itc", "itm", "mlm"))
    config.task = ConfigDict(
        dict(
            kind="albef_pretrain",  # of recipes.tasks.TASKS
            ita_weight=1.0,
            itm_weight=1.0,
            mlm_weight=1.0,
            momentum=0.995,  # of the towers that follow the parameters
            queue_size=65_536,  # vectors of earlier batches, a multiple of config.batch_size
            alpha=0.4,  # share of the targets that the momentum towers give
            alpha_steps=EPOCH,  # over which it rises from 0; 0: none
            random_negatives=False,  # draw negatives of matching at random, not by similarity
        )
    )
    config.data.masking = "tokens"  # tokens one by one, [SEP] too; or whole_words
    config.evals.retrieval.match_score = "logit"  # as the official code; or log_odds
    _set_optimizer(config, limits=LIMITS)
    if size == "base":
        config.batch_size, config.steps = 512, EPOCHS * EPOCH
        config.optimizer.update(learning_rate=1e-4, end_learning_rate=1e-5, warmup_steps=EPOCH)
        config.data.update(crop_scale=(0.2, 1.0), max_masked_tokens=12, mean=MEAN, std=STD)
        return config
    # Four epochs of 127 steps: towers would follow too late with 0.995, and a queue of the
    # published size would hold each pair many times.
    config.task.update(momentum=0.98, queue_size=512, alpha_steps=127)
    config.optimizer.rate_multipliers = ((WORDS, 60.0),)
    return config


def _retrieval(size, image_size):
    config = finetune_retrieval.get_config(f"{size},matching")
    config.init_rules = ((r"mlm_head/.*", "skip"), *RULES)
    config.model = _model(size, image_size, heads=("retrieval", "itm"))
    config.evals.retrieval.match_score = "logit"
    _set_optimizer(config, limits=LIMITS)
    if size == "base":
        config.model.text_length = 30
        config.batch_size, config.steps, config.accumulation = 256, 5 * 566_747 // 256, 1
        config.optimizer.update(learning_rate=1e-5, end_learning_rate=1e-6, warmup_steps=1000)
        config.data.update(mean=MEAN, std=STD)
    return config


def _vqa(size, image_size):
    config = finetune_vqa.get_config(size)
    answers = config.model.num_answers
    config.init_rules = ((r"(itc|itm_head|mlm_head)/.*", "skip"), *RULES)
    config.model = _model(size, image_size, heads=("vqa",), num_answers=answers)
    _set_optimizer(config)
    config.optimizer.rate_multipliers = ((r"vqa_head/.*", 20.0),)
    if size == "base":
        config.batch_size = 256
        config.optimizer.update(learning_rate=2e-5, end_learning_rate=1e-6)
        config.data.update(mean=MEAN, std=STD)
        return config
    config.optimizer.rate_multipliers += ((WORDS, 20.0),)
    return config


def _set_optimizer(config, **fields):
    config.optimizer.update(
        schedule="cosine",
        betas=(0.9, 0.999),
        weight_decay=0.02,
        no_decay=NO_DECAY,
        rate_multipliers=(),
        **fields,
    )


def _model(size, image_size, **fields):
    tiny = size == "tiny"
    width, heads = (128, 4) if tiny else (768, 12)
    return ConfigDict(
        dict(
            kind="albef",  # of models.build.MODELS; every other field is an argument of that model
            image_size=image_size,
            patch_size=16,
            vision_width=width,
            vision_depth=4 if tiny else 12,
            vision_num_heads=heads,
            vision_mlp_dim=4 * width,
            text_length=16 if tiny else 25,
            text_positions=16 if tiny else 512,
            vocab_size=4000 if tiny else 30_522,
            width=width,
            num_heads=heads,
            mlp_dim=4 * width,
            depth=2 if tiny else 6,  # layers that read the text alone
            fusion_depth=2 if tiny else 6,  # and those after them that read the image, too
            embed_dim=128 if tiny else 256,
            dropout_rate=0.0 if tiny else 0.1,
            # about 1 / sqrt(width): from 0.02 so narrow a model takes long to start learning
            init_std=0.08 if tiny else 0.02,
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
            remat="none" if tiny else "block",  # none | block | dots
            scan_layers=not tiny,  # so few blocks run faster unrolled
            **fields,
        )
    )
