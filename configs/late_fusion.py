"""A dual encoder and a matching that ranks its best candidates again, learned together from pairs.

    --config=configs/late_fusion.py      on the drawings, half an hour on 2 CPU cores

Each has blocks of its own. In those of matching the modalities meet in the last alone, so all pairs
of a batch are compared, as by the contrast. docs/SMALL_MODELS.md says what that is for and what it
gives.
"""

from ml_collections import ConfigDict

from configs import common, stage3


def get_config(arg="tiny"):
    _, image_size = common.read_argument("configs/late_fusion.py", arg, ("tiny",))
    config = stage3.get_config(f"tiny_long,{image_size or 64}")
    config.steps = 1400
    config.model.kind = "twin_vlmo"
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
    config.data.fast_views = True
    optimizer = config.optimizer
    # With config.model.kind=late_vlmo both share their blocks, and no name has such a beginning.
    part = "((dual|matcher)/)?"
    optimizer.no_decay = tuple(f"{part}({names})" for names in optimizer.no_decay)
    optimizer.rate_multipliers = (
        (rf"{part}text_embedding/word", 60.0),
        # its log-odds are to become as large as the contrast's scaled similarities
        (rf"{part}itm_head/.*", 10.0),
    )
    config.evals.retrieval.update(rerank_top_k=16, rerank="add", match_weight=0.04)
    config.evals.retrieval.match_score = "log_odds"
    return config
