"""A work folder: its config, its metrics, its lock, and every checkpoint, read whole."""

import contextlib
import fcntl
import json
import pathlib
from collections.abc import Iterator

from vlmo_jax.checkpoints.store import DAMAGED
from vlmo_jax.checkpoints.verify import verify_checkpoint
from vlmo_jax.commands.endings import UserError
from vlmo_jax.doctor.findings import Finding, size, wrong
from vlmo_jax.reports.metrics import read_metrics
from vlmo_jax.training.run_lock import NAME as LOCK


def check_work_folder(folder: pathlib.Path) -> Iterator[Finding]:
    """Looks at all that a run leaves and would go on from."""
    yield from _lock(folder / LOCK)
    yield _config(folder / "config.json")
    yield _metrics(folder / "metrics.jsonl")
    yield from _checkpoints(folder / "checkpoints")
    aside = folder / DAMAGED
    if aside.is_dir() and (names := sorted(path.name for path in aside.iterdir())):
        yield Finding(
            "set aside",
            f"damaged: {', '.join(names[:5])}",
            f"a run did not use them; remove {aside} when nobody needs them",
        )


def _lock(path: pathlib.Path) -> Iterator[Finding]:
    try:
        with path.open() as file:
            text = file.read()
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    holder = json.loads(text)
                    text = f"process {holder['process']} on {holder['host']}"
                yield Finding("run", f"in it now: {text[:60]}")
            else:
                yield Finding("run", "none in it; the last one was killed")
    except FileNotFoundError:
        yield Finding("run", "none in it")
    except OSError as error:
        yield wrong("run", f"{path.name} cannot be read", str(error))


def _config(path: pathlib.Path) -> Finding:
    try:
        config = json.loads(path.read_bytes())
        if not isinstance(config, dict):
            raise ValueError(f"a {type(config).__name__} instead of an object")
    except FileNotFoundError:
        return wrong("config.json", "not there", "is this the --workdir of a run?")
    except (OSError, ValueError) as error:
        return wrong(
            "config.json",
            "cannot be read",
            f"{error}; the checkpoints hold the config too: the next start writes it again",
        )
    return Finding("config.json", f"{len(config)} fields, {config.get('mode', 'train')}")


def _metrics(path: pathlib.Path) -> Finding:
    if not path.is_file():
        return Finding("metrics.jsonl", "not there yet")
    try:
        series = read_metrics(path)
    except (UserError, ValueError, OSError) as error:
        return wrong("metrics.jsonl", "has a broken line", str(error))
    last = max((int(steps[-1]) for steps, _ in series.values()), default=0)
    return Finding("metrics.jsonl", f"{len(series)} metrics up to step {last:,}")


def _checkpoints(folder: pathlib.Path) -> Iterator[Finding]:
    children = sorted(folder.iterdir()) if folder.is_dir() else []
    steps = sorted((path for path in children if path.name.isdigit()), key=lambda p: int(p.name))
    if not steps:
        yield Finding("checkpoints", "none yet")
    for step in steps:
        what = f"checkpoint {step.name}"
        try:
            found = verify_checkpoint(step)
        except (UserError, OSError) as error:
            yield wrong(what, "cannot be read whole", str(error))
            continue
        text = f"{found.arrays} arrays, {size(found.nbytes)}, read whole"
        if found.compared:
            yield Finding(what, f"{text}, as they were saved")
        else:
            advice = "written before checkpoints had digests: a changed bit would go unnoticed"
            yield Finding(what, text, advice)
    if unfinished := [path.name for path in children if "tmp" in path.name]:
        yield Finding(
            "unfinished save", ", ".join(unfinished[:3]), "harmless; the next start removes it"
        )
