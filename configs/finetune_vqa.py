"""Fine-tuning on VQAv2: questions about images, answered out of a list.

    --config=configs/finetune_vqa.py             a small VLMo on questions about the drawings
    --config=configs/finetune_vqa.py:base        the official recipe (also base_plus, large)
    --config=configs/finetune_vqa.py:base,384    at another image size than 480

Each with --config.init_from=DIR: the work folder of stage 3, or a converted official checkpoint, at
whatever image size it was made; `--config.init_from=none` starts from random parameters.

Official recipe: 480 px, batch 128, 10 epochs of train2014 and val2014 without 1,000 images of
val2014, AdamW (0.9, 0.98), weight decay 0.01, peak rate 3e-5 (large 1.5e-5), the head at 20 times
the rate, warm-up over a tenth of the steps, linear decay to 0, drop-path 0.15. The official 1,000
images come from a shuffle without a seed; `validation` of a data set that is built here is another
1,000.
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import common, stage3

PEAK_RATES = {"base": 3e-5, "base_plus": 3e-5, "large": 1.5e-5}
# Of train2014 and val2014; what is held out or has no known answer makes an epoch a little shorter.
QUESTIONS = 443_757 + 214_354
EPOCHS, BATCH_SIZE = 10, 128
STEPS = EPOCHS * QUESTIONS // BATCH_SIZE


def get_config(arg="tiny"):
    sizes = ("tiny", "tiny_dual", *PEAK_RATES)
    size, image_size = common.read_argument("configs/finetune_vqa.py", arg, sizes)
    if size.endswith("_dual"):
        return common.dual(_fused(size.removesuffix("_dual"), image_size))
    return _fused(size, image_size)


def _fused(size, image_size):
    image_size = image_size or (64 if size == "tiny" else 480)
    config = stage3.get_config(f"{size},{image_size}")
    config.update(common.WARM_STARTS["vqa"])
    config.task = ConfigDict(dict(kind="vqa"))  # of recipes.tasks.TASKS
    common.make_views_and_texts(config.data, "questions")
    config.data.answers = placeholder(str)  # a list, one a line; None: answers.txt of the data set
    # How answers of people, kept as they were typed, are looked up in the list, which holds normal
    # forms: "official", as they are, as all published models do ("Yes." scores nothing), or
    # "normalised".
    config.data.answer_matching = "official"
    config.model.update(heads=("vqa",), num_answers=3129)
    config.optimizer.rate_multipliers += ((r"vqa_head/.*", 20.0),)
    config.evals = ConfigDict(
        dict(vqa=common.evaluation("vqa", every_steps=5000, batch_size=256)),
    )
    config.checkpoint.best_metric = "accuracy"
    return _tiny(config) if size == "tiny" else _official(config, size)


def _official(config, size):
    config.batch_size, config.steps = BATCH_SIZE, STEPS
    config.model.drop_path_rate = 0.15
    config.optimizer.update(learning_rate=PEAK_RATES[size], warmup_steps=STEPS // 10)
    config.evals.vqa.splits = ("validation",)
    return config


def _tiny(config):
    config.steps = 1500
    config.model.num_answers = 384
    config.optimizer.update(learning_rate=5e-4, warmup_steps=100)
    config.optimizer.rate_multipliers = ((r"text_embedding/word", 20.0), (r"vqa_head/.*", 20.0))
    # Places are asked about, "left" and "right" among them.
    config.data.update(source="emoji_questions", flip=False)
    config.evals.vqa.update(batch_size=128, every_steps=config.steps // 2)
    config.checkpoint.best_metric = None  # the artist that is reported must choose nothing
    return config
