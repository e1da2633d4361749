"""Word pieces of texts: the official ones hold, and every changed one is noticed."""

from tests.interop.checks.changes import changed_at, failures
from tests.paths import DATA
from vlmo_jax.interop.checks.reference import load_fixture

ARRAYS, INFO = load_fixture(DATA / "downstream" / "bert_wordpiece.json")
SPECIAL = next(i for i, row in enumerate(INFO["rows"]) if row[0] == "a[MASK]dog")
LONG_WORD = next(i for i, row in enumerate(INFO["rows"]) if row[0] == "unaffable")


def test_all_of_bert_holds():
    assert failures(ARRAYS, INFO) == set()


def test_changes_are_noticed_where_they_are():
    changes = {
        f"rows/{LONG_WORD}": (("rows", LONG_WORD, 3), [[1], [2, 3]]),
        f"rows/{SPECIAL}": (("rows", SPECIAL, 1), ["a", "[", "mask", "]", "dog"]),
        "rows/2": (("rows", 2, 2, 1), 47),
        "truncated/0": (("truncated", 0, 1), 4),
        "masks/0/ids": (("masks", 0, "ids", 3), 17),
        "masks/1/attention_mask": (("masks", 1, "attention_mask", 11), 1),
        "masks/2/words": (("masks", 2, "words_in_drawn_order", 1), [3]),
        "masks/3/chosen": (("masks", 3, "chosen", 0), 3),
        "masks/4/chosen": (("masks", 4, "probability"), 0.5),
        "masks/5/labelled": (("masks", 5, "labelled"), [1]),
    }
    for name, (path, value) in changes.items():
        assert name in failures(ARRAYS, changed_at(INFO, *path, value=value)), name


def test_a_vocabulary_in_another_order_is_noticed():
    vocabulary = INFO["vocabulary"]
    first, second = vocabulary.index("dog"), vocabulary.index("cat")
    changed = changed_at(INFO, "vocabulary", first, value="cat")
    assert failures(ARRAYS, changed_at(changed, "vocabulary", second, value="dog"))
