"""The systems that VLMo is compared with, and VLMo, alike in all that is not their own.

    --config=configs/systems.py:clip         trains one of SYSTEMS or VARIANTS on the drawings
    --config=configs/systems.py:clip,vqa     fine-tunes it on questions
    --config=configs/systems.py:clip,score   with --config.mode=eval: scores what was trained

Of each stands here what its own small recipe has: model, losses, optimizer, rates. The pairs, views
and tokenizer, the batch and the evaluations are those of configs/stage3.py:tiny for all. The artist
who is reported is one that all small recipes learned from while they were chosen, so no setting was
chosen by how well its drawings are found; here no system learns from them.
`python -m vlmo_jax.systems` runs them (docs/SYSTEMS.md).
"""

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from configs import albef, clip, common, finetune_vqa, stage3, vilbert, vilt, vse_infinity

# By which ways a system scores images with texts.
VECTORS, BOTH, PAIRS = ("vectors",), ("vectors", "pairs"), ("pairs",)
SYSTEMS = {
    "vlmo": (stage3, BOTH),
    "clip": (clip, VECTORS),
    "vse_infinity": (vse_infinity, VECTORS),
    "albef": (albef, BOTH),
    "vilt": (vilt, PAIRS),
    "vilbert": (vilbert, PAIRS),
}
# The drawings of emojione2 stand first in the split.
REPORTED, LEARNED = "train[:1260]", "train[1260:]"
NUM_CURVE = 100  # drawings of unseen concepts that are searched on the way
HEADS_OF_ONE_BRANCH = ("retrieval", "itm", "mlm")


def _from_stage1(config):
    """Stage 3 from stage 1, without stage 2 between them."""
    first, then = common.WARM_STARTS["stage2"], common.WARM_STARTS["stage3"]
    config.init_rules = first["init_rules"]
    config.init_fresh = first["init_fresh"] + then["init_fresh"]


def _one_branch(config):
    config.task.kind = "one_branch_pretrain"
    config.model.heads = HEADS_OF_ONE_BRANCH


def _two_experts(config):
    _one_branch(config)
    config.model.kind = "two_expert_vlmo"


def _separate(config):
    config.model.kind = "separate_vlmo"


# What the paper's claims are about, as changes of VLMo.
VARIANTS = {
    "vlmo_from_stage1": _from_stage1,
    "vlmo_one_branch": _one_branch,
    "vlmo_two_experts": _two_experts,
    "vlmo_separate": _separate,
}
TRAIN, VQA, SCORE = "", "vqa", "score"


def get_config(arg="vlmo"):
    name, _, use = arg.partition(",")
    if name not in {**SYSTEMS, **VARIANTS}:
        raise ValueError(
            f"configs/systems.py:{arg}: {name!r} is unknown; use one of"
            f" {', '.join([*SYSTEMS, *VARIANTS])}"
        )
    if use not in (TRAIN, VQA, SCORE):
        raise ValueError(
            f"configs/systems.py:{arg}: {use!r} is unknown; leave it out or use {VQA} or {SCORE}"
        )
    system = name if name in SYSTEMS else "vlmo"
    if use == VQA:
        return _answering(system, SYSTEMS[system][0])
    config = _pretraining(*SYSTEMS[system])
    VARIANTS.get(name, lambda config: None)(config)
    if use == SCORE:
        config.evals = _scores(SYSTEMS[system][1])
    return config


def _pretraining(module, ways):
    """A system's small recipe on the pairs, views, tokenizer and batch of stage 3's."""
    config, shared = module.get_config("tiny"), stage3.get_config("tiny")
    for field in set(config.data) & set(shared.data) - {"max_masked_tokens"}:
        config.data[field] = shared.data[field]
    config.data.split = LEARNED
    config.tokenizer, config.batch_size = shared.tokenizer, shared.batch_size
    config.evals = ConfigDict(dict(curve=_retrieval(ways[0], f"unseen_concepts[:{NUM_CURVE}]")))
    config.checkpoint = shared.checkpoint
    config.checkpoint.update(best_metric=None, keep_last=1, every_steps=50)
    config.log_every = 5
    return config


def _retrieval(way, *splits, kind="retrieval", **fields):
    return dict(
        **{**common.evaluation(kind, every_steps=10_000, batch_size=128), "splits": splits},
        protocol="all_captions",
        scoring=way,
        rerank="replace",
        **{"rerank_top_k": 0, **fields},
    )


def _scores(ways, num_pairs=200, top_k=16):
    """All ways of a system: the whole artist by vectors, some drawings by every way."""
    some = f"train[:{num_pairs}]"
    evals = {f"choice_by_{way}": _retrieval(way, REPORTED, kind="choice") for way in ways}
    if "vectors" in ways:
        evals["vectors"] = _retrieval("vectors", REPORTED)
        again = top_k if "pairs" in ways else 0
        evals["some_vectors"] = _retrieval("vectors", some, rerank_top_k=again)
    if "pairs" in ways:
        evals["some_pairs"] = _retrieval("pairs", some)
    return ConfigDict(evals)


def _answering(system, module):
    """Fine-tuning on questions with as many steps and the same rates for all."""
    own = {"vlmo": "tiny"}.get(system, "tiny,vqa")
    if system == "vse_infinity":
        config = _vse_answering()
    else:
        config = (finetune_vqa if system == "vlmo" else module).get_config(own)
    shared = finetune_vqa.get_config("tiny")
    for field in set(config.data) & set(shared.data):
        config.data[field] = shared.data[field]
    config.batch_size = shared.batch_size
    config.evals = ConfigDict(
        dict(vqa={**common.evaluation("vqa", every_steps=10_000, batch_size=128)})
    )
    config.evals.vqa.splits = ("unseen_artist",)
    config.checkpoint = shared.checkpoint
    config.checkpoint.update(best_metric=None, keep_last=1, every_steps=50)
    return config


def _vse_answering():
    """A head on both vectors, which VSE-infinity has not of its own."""
    config, own = finetune_vqa.get_config("tiny"), vse_infinity.get_config("tiny")
    answers = config.model.num_answers
    config.model = own.model
    config.model.update(heads=("vqa",), num_answers=answers)
    config.init_rules, config.init_fresh = ((r".*", "copy"),), (r"vqa_head/.*",)
    config.init_from = placeholder(str)
    config.optimizer.no_decay = ()
    config.optimizer.rate_multipliers = ((r"bert/embedding/word", 20.0), (r"vqa_head/.*", 20.0))
    return config
