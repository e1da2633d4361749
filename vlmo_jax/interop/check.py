"""Compares our models with reference arrays of the official ones.

    python -m vlmo_jax.interop.check FIXTURE [FIXTURE ...]

prints one line a quantity (name, largest difference, tolerance, ok or not) and ends with status 0
only if all hold. A fixture is NAME.npz with NAME.json beside it, which gives kind and sizes, or
NAME.json alone where it has no arrays:

  pretrain           outputs of every mode, losses and every gradient of one stage-3 step
  train10            ten AdamW steps
  textmlm            stage 2: what is taken from BEiT, what is trained, outputs, loss, gradients
  vqa, nlvr2, irtr   heads of fine-tuning: outputs, loss, gradients
  index_tables       rows of position tables that pairs of tokens read
  adamw_toy          the optimizer alone
  resize             position tables at another image size, and outputs there
  beit, dalle        siblings without a kind, known by their source
  albef              states, logits, losses, gradients and queues of a step of ALBEF
  albef_momentum_after  the momentum towers after it; its fixture lies beside this one
  clip               states, vectors, logits, loss, gradients of a CLIP
  vilt, vilt_ipot    a step of ViLT's pre-training, its alignment of words with patches alone
  vqa_eval           normal forms of answers, accuracies of VQA
  vqa_vocab          vocabulary of answers, soft targets
  bert_wordpiece     tokens, rows of them, and whole words to hide
  clip_bpe           ids that CLIP's tokenizers give texts
  nlvr2_consistency  accuracy and consistency
  beit_classify      a BEiT that classifies: states, logits, losses, gradients
  beit_segment       a BEiT with UperNet: scales, logits, losses, gradients, running statistics
  layer_decay        factors of the rate by layer, and which parameters decay
  mixup              boxes, images and soft targets of mixup and CutMix
  segment_eval       accuracies and intersections over unions, logits of sliding windows
  caption_metrics    tokens of captions, BLEU, ROUGE-L, CIDEr-D
  retrieval_metrics  recalls, median and mean ranks
  retrieval_folds    the same in folds, and re-ranked by matching in two ways
  vilbert            outputs, losses and every gradient of one step of its pre-training

Tolerances: outputs and losses 2e-5; gradients 1e-4 of the tensor's largest entry, at least 1e-6;
the losses of ten steps 1e-4; their parameters 1e-5; position tables 1e-4. All comparisons are
float32 at highest precision. Forms and vocabularies are equal; scores differ by at most 1e-9, or
1e-6 where theirs are float32.
"""

import math
import pathlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np
from absl import app
from jax.typing import ArrayLike

from vlmo_jax.commands.absl_flags import parse_in_one_line
from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.interop.checks.adamw import check_adamw
from vlmo_jax.interop.checks.albef import check_albef, check_momentum_after, join_step_before
from vlmo_jax.interop.checks.beit import check_beit
from vlmo_jax.interop.checks.beit_classify import check_beit_classify
from vlmo_jax.interop.checks.beit_segment import check_beit_segment
from vlmo_jax.interop.checks.byte_pairs import check_byte_pairs
from vlmo_jax.interop.checks.captions import check_caption_metrics
from vlmo_jax.interop.checks.clip import check_clip
from vlmo_jax.interop.checks.dalle import check_dalle
from vlmo_jax.interop.checks.finetune import check_finetune
from vlmo_jax.interop.checks.index_tables import check_index_tables
from vlmo_jax.interop.checks.layer_decay import check_layer_decay
from vlmo_jax.interop.checks.mixup import check_mixup
from vlmo_jax.interop.checks.pretrain import check_pretrain
from vlmo_jax.interop.checks.reference import load_fixture
from vlmo_jax.interop.checks.resize import check_resize
from vlmo_jax.interop.checks.retrieval_scores import check_folds, check_retrieval_metrics
from vlmo_jax.interop.checks.scores import check_consistency, check_vqa_eval, check_vqa_vocab
from vlmo_jax.interop.checks.segmentation import check_segment_eval
from vlmo_jax.interop.checks.textmlm import check_textmlm
from vlmo_jax.interop.checks.train import check_train
from vlmo_jax.interop.checks.vilbert import check_vilbert
from vlmo_jax.interop.checks.vilt import check_ipot, check_vilt
from vlmo_jax.interop.checks.vse_infinity import check_vse_infinity
from vlmo_jax.interop.checks.wordpiece import check_wordpiece

CHECKS: dict[str, Callable[[Mapping[str, np.ndarray], Mapping[str, Any], Any], None]] = {
    "pretrain": check_pretrain,
    "train10": check_train,
    "textmlm": check_textmlm,
    "vqa": check_finetune,
    "nlvr2": check_finetune,
    "irtr": check_finetune,
    "index_tables": check_index_tables,
    "adamw_toy": check_adamw,
    "resize": check_resize,
    "beit": check_beit,
    "beit_classify": check_beit_classify,
    "beit_segment": check_beit_segment,
    "dalle": check_dalle,
    "albef": check_albef,
    "albef_momentum_after": check_momentum_after,
    "clip": check_clip,
    "clip_bpe": check_byte_pairs,
    "vilt": check_vilt,
    "vilt_ipot": check_ipot,
    "vqa_eval": check_vqa_eval,
    "vqa_vocab": check_vqa_vocab,
    "bert_wordpiece": check_wordpiece,
    "nlvr2_consistency": check_consistency,
    "layer_decay": check_layer_decay,
    "mixup": check_mixup,
    "segment_eval": check_segment_eval,
    "caption_metrics": check_caption_metrics,
    "retrieval_metrics": check_retrieval_metrics,
    "retrieval_folds": check_folds,
    "vilbert": check_vilbert,
    "vse_infty": check_vse_infinity,
}
# Fixtures of siblings have no `kind`; their `source` names the code they were made with, or their
# file's name what they are of.
KINDS_BY_SOURCE = {"dall_e": "dalle", "dall-e": "dalle", "dvae": "dalle", "beit": "beit"}


class Report:
    """Collects comparisons and prints each as one line.

    Attributes:
        failed: how many do not hold so far.
    """

    def __init__(self) -> None:
        self.failed = 0

    def compare(self, name: str, ours: ArrayLike, theirs: ArrayLike, tolerance: float) -> None:
        """Holds if two arrays have one shape and differ by no more than `tolerance` anywhere; NaN
        never holds.
        """
        ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
        if ours.shape != theirs.shape:
            difference, note = math.inf, f"  shapes {ours.shape} and {theirs.shape}"
        else:
            difference, note = np.abs(ours - theirs).max(initial=0.0), ""
        holds = bool(difference <= tolerance)
        self._add(holds, f"{difference:9.2e}  <= {tolerance:.1e}  {name}{note}")

    def compare_names(self, name: str, ours: Iterable[str], theirs: Iterable[str]) -> None:
        """Holds if two collections hold the same names, in whatever order."""
        ours, theirs = set(ours), set(theirs)
        if ours == theirs:
            note = ""
        else:
            note = f"  ours alone {sorted(ours - theirs)}; theirs alone {sorted(theirs - ours)}"
        self._add(ours == theirs, f"{len(ours ^ theirs):9d}  names differ  {name}{note}")

    def compare_equal(self, name: str, ours: Any, theirs: Any) -> None:
        """Holds if two values are equal: texts, numbers, lists and dicts of them."""
        equal = ours == theirs
        note = "" if equal else f"ours {str(ours)[:80]}; theirs {str(theirs)[:80]}  "
        self._add(equal, f"{'equal' if equal else 'differ':>9}  {note}{name}")

    def _add(self, holds: bool, line: str) -> None:
        self.failed += not holds
        print(f"{'ok    ' if holds else 'NOT OK'}  {line}")


def fixture_kind(path: str | pathlib.Path, info: Mapping[str, Any]) -> str:
    """The kind of a fixture by its JSON: `kind`, or else what `source` or the file's name speak of.

    Raises:
        ValueError: a kind that is not known.
    """
    kind = info.get("kind")
    if kind is None:
        words = f"{info.get('source', '')} {pathlib.Path(path).stem}".lower()
        named = [kind for word, kind in KINDS_BY_SOURCE.items() if word in words]
        kind = named[0] if named else None
    if kind not in CHECKS:
        raise ValueError(
            f"{path}: kind {kind!r} is not known; known kinds: {', '.join(sorted(CHECKS))}"
        )
    return kind


def check(path: str | pathlib.Path) -> int:
    """Checks one fixture file; returns how many quantities do not hold.

    Raises:
        ValueError: a kind or quantities that are not known, or arrays that do not fit the sizes.
    """
    arrays, info = load_fixture(path)
    report, kind = Report(), fixture_kind(path, info)
    if kind == "albef_momentum_after":
        arrays, info = join_step_before(pathlib.Path(path), arrays, info)
    with jax.default_matmul_precision("highest"):
        CHECKS[kind](arrays, info, report)
    print(f"{path}: {'all hold' if not report.failed else f'{report.failed} do not hold'}")
    return report.failed


@told_in_one_line()
def main(argv: list[str]) -> int:
    """Checks the fixtures named; returns 0 if all quantities hold and 1 if not."""
    if len(argv) < 2:
        raise app.UsageError("give at least one fixture, NAME.npz or NAME.json")
    return min(sum(check(user_path(path)) for path in argv[1:]), 1)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_in_one_line)
