"""A dual encoder and a matching that ranks its best candidates again, learned together from pairs.

    --config=configs/late_fusion.py      on the drawings, half an hour on 2 CPU cores

The modalities meet in the last block alone, so matching is compared over all pairs of a batch as
the contrast is. docs/SMALL_MODELS.md says what that is for and what it gives.
"""

from ml_collections import ConfigDict

from configs import common, stage3


def get_config(arg="tiny"):
    _, image_size = common.read_argument("configs/late_fusion.py", arg, ("tiny",))
    config = stage3.get_config(f"tiny_long,{image_size or 64}")
    config.steps = 1600
    config.model.update(kind="late_vlmo", depth=5)
    config.model.heads = ("retrieval", "itm")
    config.task = ConfigDict(
        dict(
            kind="all_pairs",  # of recipes.tasks.TASKS
            itc_weight=1.0,
            match_weight=1.0,
            # leave pairs with the same image or caption out of the negatives
            mask_duplicates=True,
        )
    )
    # The head gives log-odds, which are as large as the contrast's scaled similarities.
    config.optimizer.rate_multipliers = (
        *config.optimizer.rate_multipliers,
        (r"itm_head/.*", 10.0),
    )
    config.evals.retrieval.update(rerank_top_k=16, rerank="add", match_weight=1.0)
    config.evals.retrieval.match_score = "log_odds"
    return config
