"""Units made by a pipeline of Apache Beam, the engine that TFDS uses: on this machine, or on Flink,
Spark or Dataflow.
"""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vlmo_jax.commands.endings import UserError, describe
from vlmo_jax.datasets.building.units import Unit, UnitResult, Work, build_unit
from vlmo_jax.datasets.errors import DataError
from vlmo_jax.datasets.readers.protocol import Reader

_NOTES = "*.error"


class NoBeamError(UserError, ImportError):
    """Apache Beam is not installed."""


def build_in_beam(
    reader: Reader, work: Work, units: Sequence[Unit], *, options: str = ""
) -> Iterator[UnitResult]:
    """Makes units in a pipeline of Apache Beam, whose workers must reach the folders of `work` and
    of the download under the same paths.

    Args:
        reader: that has listed its entries; the workers load it from `work`.
        work: where everything lies.
        units: the units that are not finished.
        options: of the pipeline, such as "--runner=FlinkRunner --flink_master=host:8081"; "" runs
            it on this machine.

    Yields:
        The results, once the pipeline has ended.

    Raises:
        NoBeamError: Beam is not installed.
        DataError: the pipeline did not finish all units.
    """
    beam = import_beam()
    from apache_beam.options.pipeline_options import PipelineOptions

    for note in work.folder.glob(_NOTES):
        note.unlink()
    pipeline = beam.Pipeline(options=PipelineOptions(options.split()))
    _ = (
        pipeline
        | "units" >> beam.Create(list(units))
        | "spread" >> beam.Reshuffle()
        | "build" >> beam.Map(functools.partial(_build, work))
    )
    pipeline.run().wait_until_finish()
    for unit in units:
        result = work.load_result(unit)
        if result is None:
            raise DataError(_why(work, unit))
        yield result


def import_beam() -> Any:
    """Returns the module apache_beam.

    Raises:
        NoBeamError: it is not installed.
    """
    try:
        import apache_beam
    except ImportError as error:
        raise NoBeamError(
            "--engine=beam needs Apache Beam, which is an extra: pip install 'vlmo-jax[beam]'"
            f" ({error})"
        ) from error
    return apache_beam


@functools.lru_cache(maxsize=1)
def _reader(work: Work, changed: int) -> Reader:
    return work.load_reader()


def _build(work: Work, unit: Unit) -> None:
    """Makes a unit, or notes why not: runners try again, and show errors as they like."""
    try:
        build_unit(_reader(work, work.reader_file.stat().st_mtime_ns), work, unit)
    except Exception as error:
        line = describe(error)
        if line is None:
            raise
        _note(work, unit).write_text(line, encoding="utf-8")


def _note(work: Work, unit: Unit) -> Path:
    return work.folder / f"{unit.name}{_NOTES.removeprefix('*')}"


def _why(work: Work, unit: Unit) -> str:
    note = _note(work, unit)
    if note.is_file():
        return f"the Beam pipeline could not make unit {unit.name}: {note.read_text('utf-8')}"
    return (
        f"the Beam pipeline ended without unit {unit.name}; its workers must reach {work.folder}"
        " under this path: name an OUT on a disk that all of them share"
    )
