"""A data set: every record, read and decoded."""

from collections.abc import Iterator

from vlmo_jax.commands.endings import UserError
from vlmo_jax.datasets.check import check_dataset
from vlmo_jax.doctor.findings import Finding, wrong


def check_data(source: str) -> Iterator[Finding]:
    """Reads all of a data set.

    Args:
        source: its folder, or the name of one that comes with the package.
    """
    try:
        checks = check_dataset(source)
    except (UserError, OSError, ValueError) as error:
        yield wrong("data set", source, str(error))
        return
    for split, check in checks.items():
        what = f"split {split}"
        elsewhere = sum(first[0] != split for _, first in check.repeats)
        text = f"{check.records:,} records, {len(check.repeats):,} repeated"
        if check.broken:
            name, problem = check.broken[0]
            yield wrong(
                what,
                f"{text}, {len(check.broken):,} broken",
                f"{name}: {problem}; all of them: python -m vlmo_jax.datasets.check {source}",
            )
        elif elsewhere:
            yield Finding(
                what, text, f"{elsewhere:,} of them stand in another split, which flatters results"
            )
        else:
            yield Finding(what, text)
