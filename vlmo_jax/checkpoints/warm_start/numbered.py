"""Parameters with an entry for each token of a vocabulary or each line of a list: they are of use
with that vocabulary or list alone.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

# Parameters with an entry a token of the vocabulary.
VOCABULARY = ("text_embedding/word", "mlm_head/decoder/kernel", "mlm_head/decoder/bias")


class ListHead(NamedTuple):
    """A head with an entry for each line of a list: its `last` matrix, the `module` that it is of,
    and the `field` of a config that names the list.
    """

    last: str
    module: str
    field: str


HEADS_OF_LISTS = {
    "answers": ListHead("vqa_head/out/kernel", "vqa_head", "config.data.answers"),
    "classes": ListHead("head/kernel", "head", "config.data.class_list"),
}


def check_tokenizer(
    filled: Collection[str],
    *,
    saved: Mapping[str, str] | None,
    wanted: Mapping[str, str] | None,
    checkpoint: Any,
) -> None:
    """Refuses rows of a vocabulary that another tokenizer numbers.

    Args:
        filled: names in the model that the checkpoint fills.
        saved, wanted: mappings with `file` and `sha256`, of the checkpoint and of the run; None
            where there is none.
        checkpoint: its name, for the message.

    Raises:
        ValueError: the tokenizers differ, and the checkpoint fills rows of the vocabulary.
    """
    tables = [name for name in VOCABULARY if name in filled]
    if tables and saved and wanted and saved["sha256"] != wanted["sha256"]:
        raise ValueError(
            f"checkpoint {checkpoint} was trained with the tokenizer {saved['file']} (SHA-256"
            f" {saved['sha256'][:12]}...), this run has {wanted['file']}"
            f" ({wanted['sha256'][:12]}...), so the rows of {', '.join(tables)} would be other"
            f" words; use the checkpoint's tokenizer, or {leave_out_vocabulary(tables)}"
        )


def leave_out_vocabulary(tables: Sequence[str]) -> str:
    """What to write in a config so that parameters with an entry a token start fresh, in words."""
    pattern = "|".join(tables)
    return (
        f'start them fresh: put ("{pattern}", "skip") first in config.init_rules and add'
        f' "{pattern}" to config.init_fresh'
    )


def check_lists(
    filled: Collection[str], *, saved: Mapping[str, Any], wanted: Mapping[str, Any], checkpoint: Any
) -> None:
    """Refuses rows of a head that another list of answers or classes numbers.

    Args:
        filled: names in the model that the checkpoint fills.
        saved, wanted: preprocessing of the checkpoint and of the run, with mappings with `sha256`
            of the lists, where there are any.
        checkpoint: its name, for the message.

    Raises:
        ValueError: the lists differ, and the checkpoint fills the head.
    """
    for name, head in HEADS_OF_LISTS.items():
        old, new = saved.get(name), wanted.get(name)
        if head.last in filled and old and new and old["sha256"] != new["sha256"]:
            raise ValueError(
                f"checkpoint {checkpoint} answers by another list (SHA-256"
                f" {old['sha256'][:12]}..., this run's is {new['sha256'][:12]}...); give its list"
                f" with {head.field}=FILE, or start the head fresh: put"
                f' ("{head.module}/.*", "skip") first in config.init_rules'
            )
