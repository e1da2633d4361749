"""Fine-tuning for image-text retrieval: the dual encoder's contrast on COCO or Flickr30k.

    --config=configs/finetune_retrieval.py                     the small VLMo, minutes on 2 cores
    --config=configs/finetune_retrieval.py:base,coco           the paper's (also base_plus, large)
    --config=configs/finetune_retrieval.py:base,flickr30k      the same on Flickr30k
    --config=configs/finetune_retrieval.py:base,coco,matching  with ITM, for re-ranking
    --config=configs/finetune_retrieval.py:base,coco,224       at another image size

All start from `config.init_from`: a checkpoint of stage 3 at any image size, official ones
included, or, for Flickr30k, one that was tuned on COCO (the paper's base and large do so; base_plus
starts from stage 3).

Paper recipe: the official configs: 384 px, batch 3072, 3000 steps on COCO and 1500 on Flickr30k,
the first tenth of them warm-up, linear decay to 0, AdamW (0.9, 0.98), weight decay 0.01, peak rate
3e-5 (large 2e-5), drop-path by size and set. Ours differs in two things: the contrast is that of
the whole batch (the official one is of what the devices hold at once), and a batch has an image
once, with one of its captions, where the official one may have it several times.
"""

from ml_collections import ConfigDict

from configs import common, stage3

FILE = "configs/finetune_retrieval.py"
PEAK_RATES = {"base": 3e-5, "base_plus": 3e-5, "large": 2e-5}
STEPS = {"coco": 3000, "flickr30k": 1500}
DROP_PATH = {
    "coco": {"base": 0.2, "base_plus": 0.2, "large": 0.2},
    "flickr30k": {"base": 0.15, "base_plus": 0.2, "large": 0.2},
}
PROTOCOLS = {"coco": "coco_karpathy_5k_all", "flickr30k": "flickr30k_karpathy_1k"}
PARTS = {"base": 16, "base_plus": 16, "large": 32}  # in which the batch goes through the model
MATCHING = "matching"
# What the dual encoder has no use for; as in the official code it stays as it is, without decay.
UNUSED = (r"transformer/upper/experts/vision_language/.*",)


def get_config(arg="tiny"):
    size, dataset, matching, image_size = _read_argument(arg)
    config = stage3.get_config(f"{size},{image_size}" if image_size else size)
    config.update(common.WARM_STARTS["retrieval_matching" if matching else "retrieval"])
    config.model.heads = ("retrieval", "itm") if matching else ("retrieval",)
    config.task = ConfigDict(
        dict(
            kind="retrieval_matching" if matching else "retrieval",  # of recipes.tasks.TASKS
            # leave pairs with the same image or caption out of the negatives
            mask_duplicates=False,
            contrast_chunk=0,  # columns of the similarities at a time, see stage3; 0: all
        )
    )
    if matching:
        config.task.itm_weight = 1.0
    else:
        config.optimizer.frozen = UNUSED
    config.data.max_masked_tokens = 0
    if size == "tiny":
        return _tiny(config, matching)
    return _paper(config, size, dataset, matching)


def _read_argument(arg):
    """The size, the data set, whether with matching, and the image size, 0 for the default."""
    size, *rest = arg.split(",")
    image_size = [part for part in rest if part.isdigit() and int(part)]
    dataset = [part for part in rest if part in STEPS]
    unknown = [part for part in rest if part not in (*image_size, *dataset, MATCHING)]
    if size not in ("tiny", *PEAK_RATES):
        sizes = ", ".join(("tiny", *PEAK_RATES))
        raise ValueError(f"{FILE}:{arg}: size {size!r} is unknown; use one of {sizes}")
    if unknown or len(image_size) > 1 or len(dataset) > 1:
        raise ValueError(
            f"{FILE}:{arg}: behind the size stand a data set ({' or '.join(STEPS)}), {MATCHING} and"
            f" an image size in pixels, each once at most, and not {', '.join(unknown or rest)}"
        )
    pixels = int(image_size[0]) if image_size else 0 if size == "tiny" else 384
    return size, dataset[0] if dataset else "coco", MATCHING in rest, pixels


def _paper(config, size, dataset, matching):
    steps = STEPS[dataset]
    config.batch_size, config.steps, config.accumulation = 3072, steps, PARTS[size]
    config.model.drop_path_rate = DROP_PATH[dataset][size]
    config.optimizer.update(learning_rate=PEAK_RATES[size], warmup_steps=steps // 10)
    config.data.prefetch = 2  # a batch has 1.4 GB
    config.evals.validation = common.evaluation("retrieval", every_steps=250, batch_size=512)
    config.evals.validation.update(
        splits=("validation",),
        protocol="all_captions",
        rerank_top_k=0,
        rerank="replace",
        scoring="auto",
    )
    config.evals.retrieval.update(
        splits=("test",), protocol=PROTOCOLS[dataset], every_steps=steps, batch_size=512
    )
    if matching:
        config.evals.retrieval.rerank_top_k = {"coco": 256, "flickr30k": 128}[dataset]
    # VLMo keeps the checkpoint with the best mean of the six recalls.
    config.checkpoint.update(every_steps=250, best_metric="validation/mean_recall")
    return config


def _tiny(config, matching):
    config.batch_size, config.accumulation = 256, 2
    config.steps = 80 if matching else 300  # minutes, on 2 cores
    config.optimizer.update(learning_rate=5e-4, warmup_steps=config.steps // 10)
    config.evals.retrieval.every_steps = config.steps // 2
    if matching:
        config.evals.retrieval.rerank_top_k = 16
    config.checkpoint.update(every_steps=50)
    return config
