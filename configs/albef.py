"""ALBEF: pre-training on image-text pairs with contrast before fusion, and momentum distillation.

    --config=configs/albef.py            a small one on the drawings, minutes on 2 CPU cores
    --config=configs/albef.py:base       the published recipe
    --config=configs/albef.py:base,384   at another image size

Published recipe: arXiv 2107.07651 and the official repository: 4 M images (COCO, VG, SBU, CC3M) or
14 M with CC12M, 256 px, batch 512, 30 epochs, AdamW, weight decay 0.02, rate 1e-5 rising to 1e-4
over the first epoch and falling along a cosine to 1e-5, a ViT that starts from DeiT and a BERT of
12 layers that is cut after the sixth. A step count stands for epochs here: with 5 M pairs an epoch
has 10,000 steps. The rate warms up from 0.
"""

from ml_collections import ConfigDict

from configs import common, stage3

SIZES = ("tiny", "base")
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
EPOCH, EPOCHS = 10_000, 30
# As in the official code, matrices, tables, the class token and the temperature decay.
NO_DECAY = (r".*bias", r".*norm/scale")
LIMITS = ((r"itc/temperature", (0.001, 0.5)),)


def get_config(arg="tiny"):
    size, image_size = common.read_argument("configs/albef.py", arg, SIZES)
    config = stage3.get_config("tiny" if size == "tiny" else "base")
    config.init_rules = ((r"image_embedding/position", "resample"), (r".*", "copy"))
    config.init_fresh = ()
    config.init_from = "none"  # from random parameters; or a work folder, or a converted ALBEF
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
    config.optimizer.update(
        schedule="cosine",
        betas=(0.9, 0.999),
        weight_decay=0.02,
        no_decay=NO_DECAY,
        rate_multipliers=(),
        limits=LIMITS,  # (path regex, (least, most)) pairs that no update leaves
    )
    return _tiny(config, image_size or 64) if size == "tiny" else _base(config, image_size or 256)


def _model(**sizes):
    return ConfigDict(
        dict(
            kind="albef",  # of models.build.MODELS; every other field is an argument of that model
            patch_size=16,
            **sizes,
            heads=("itc", "itm", "mlm"),
            # float32 on CPU, bfloat16 on accelerators; parameters are float32 everywhere
            dtype="auto",
            remat="none",  # none | block | dots
            scan_layers=True,
        )
    )


def _base(config, image_size):
    config.batch_size, config.steps = 512, EPOCHS * EPOCH
    config.model = _model(
        image_size=image_size,
        vision_width=768,
        vision_depth=12,
        vision_num_heads=12,
        vision_mlp_dim=3072,
        text_length=25,
        text_positions=512,
        vocab_size=30_522,
        width=768,
        num_heads=12,
        mlp_dim=3072,
        depth=6,
        fusion_depth=6,
        embed_dim=256,
        dropout_rate=0.1,
        init_std=0.02,
    )
    config.model.remat = "block"
    config.optimizer.update(learning_rate=1e-4, end_learning_rate=1e-5, warmup_steps=EPOCH)
    config.data.update(crop_scale=(0.2, 1.0), max_masked_tokens=12, mean=MEAN, std=STD)
    return config


def _tiny(config, image_size):
    config.model = _model(
        image_size=image_size,
        vision_width=128,
        vision_depth=4,
        vision_num_heads=4,
        vision_mlp_dim=512,
        text_length=16,
        text_positions=16,
        vocab_size=4000,
        width=128,
        num_heads=4,
        mlp_dim=512,
        depth=2,
        fusion_depth=2,
        embed_dim=128,
        dropout_rate=0.0,
        # about 1 / sqrt(width): from 0.02 so narrow a model takes long to start learning
        init_std=0.08,
    )
    config.model.scan_layers = False  # so few blocks run faster unrolled
    # Four epochs of 127 steps: the towers would follow too late with 0.995, and a queue of the
    # published size would hold each pair many times.
    config.task.update(momentum=0.98, queue_size=512, alpha_steps=127)
    config.optimizer.rate_multipliers = ((r"text_encoder/embedding/word", 60.0),)
    config.data.update(max_masked_tokens=5)
    return config
