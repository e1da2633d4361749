"""What `python -m vlmo_jax.systems` compares: the systems, and the paper's claims, each a few
settings of one recipe. Data alone.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

NONE: Mapping[str, Any] = MappingProxyType({})


class Contender(NamedTuple):
    """What is trained.

    Attributes:
        title: in tables.
        recipe: argument of configs/systems.py.
        like: the system, of SYSTEMS, whose speed it is estimated by.
        starts: config field -> stage of the chain whose work folder it names.
        settings: config field -> value.
        shares: config field -> the share of all steps that it is set to.
    """

    title: str
    recipe: str
    like: str
    starts: Mapping[str, str] = NONE
    settings: Mapping[str, Any] = NONE
    shares: Mapping[str, float] = NONE


class Claim(NamedTuple):
    """A claim of the paper, or of a system's: the contenders it speaks of, the claimed one last."""

    title: str
    contenders: tuple[str, ...]


FROM_STAGE1, FROM_STAGE2 = {"init_from": "stage1"}, {"init_from": "stage2"}
CODES = {"visual_tokenizer": "tokenizer"}
# Of 500 steps, as in configs/albef.py.
RAMP = {"task.alpha_steps": 0.254}
ALL_NEGATIVES = {"task.warmup_steps": 1.0}

SYSTEMS = {
    "vlmo": Contender("VLMo, from scratch", "vlmo", "vlmo"),
    "vlmo_chain": Contender("VLMo, from stage 2", "vlmo", "vlmo", FROM_STAGE2),
    "clip": Contender("CLIP", "clip", "clip"),
    "vse_infinity": Contender("VSE∞", "vse_infinity", "vse_infinity", shares=ALL_NEGATIVES),
    "albef": Contender("ALBEF", "albef", "albef", shares=RAMP),
    "vilt": Contender("ViLT", "vilt", "vilt"),
    "vilbert": Contender("ViLBERT", "vilbert", "vilbert", CODES),
}

VARIANTS = {
    "vlmo_from_stage1": Contender("VLMo, from stage 1", "vlmo_from_stage1", "vlmo", FROM_STAGE1),
    "vlmo_separate": Contender("separate attention", "vlmo_separate", "vlmo"),
    "vlmo_two_experts": Contender("no VL expert", "vlmo_two_experts", "vlmo"),
    "vlmo_one_branch": Contender("one branch of ITC", "vlmo_one_branch", "vlmo"),
    "vlmo_random": Contender(
        "random negatives", "vlmo", "vlmo", settings={"task.easier_negatives": 1.0}
    ),
    "albef_labels": Contender(
        "ALBEF, labels alone", "albef", "albef", settings={"task.alpha": 0.0}
    ),
    "vilt_unaligned": Contender(
        "ViLT, no alignment", "vilt", "vilt", settings={"task.wpa_weight": 0.0}
    ),
    "vse_mean": Contender(
        "VSE∞, mean pooling",
        "vse_infinity",
        "vse_infinity",
        settings={"model.pooling": "mean"},
        shares=ALL_NEGATIVES,
    ),
}

CONTENDERS = SYSTEMS | VARIANTS

CLAIMS = (
    Claim("Stages before the pairs", ("vlmo", "vlmo_from_stage1", "vlmo_chain")),
    Claim("Shared attention", ("vlmo_separate", "vlmo")),
    Claim("Vision-language expert (one branch of ITC)", ("vlmo_two_experts", "vlmo_one_branch")),
    Claim("Two branches of ITC", ("vlmo_one_branch", "vlmo")),
    Claim("Hard negatives", ("vlmo_random", "vlmo")),
    Claim("Momentum distillation", ("albef_labels", "albef")),
    Claim("Alignment of words and patches", ("vilt_unaligned", "vilt")),
    Claim("Generalised pooling", ("vse_mean", "vse_infinity")),
)
