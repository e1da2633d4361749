"""Looks at the machine, a work folder and a data set, and says what is wrong.

    python -m vlmo_jax.doctor
    python -m vlmo_jax.doctor --workdir=runs/stage3 --data=my_data

A line says what was looked at, what was found, and "ok", a note, or what is wrong with the cure.
With --workdir, its config, metrics, lock and every checkpoint are read whole; with --data, every
record of a data set. The exit status is 1 if anything is wrong.
"""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence

ENVIRON = dict(os.environ)
# This process needs no accelerator, and must not hang at one; another asks for them.
os.environ["JAX_PLATFORMS"] = "cpu"

from vlmo_jax.commands.endings import told_in_one_line
from vlmo_jax.commands.paths import user_path
from vlmo_jax.doctor import devices, fonts, machine
from vlmo_jax.doctor.findings import Finding, wrong

DEVICE_SECONDS = 120.0


def main(argv: Sequence[str] | None = None) -> None:
    """Reads the command line, looks, prints a line for each thing, and exits with status 1 if
    anything is wrong.
    """
    parser = argparse.ArgumentParser(
        prog="python -m vlmo_jax.doctor",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--workdir", metavar="DIR", help="work folder of a run")
    parser.add_argument("--data", metavar="DIR", help="folder or name of a data set")
    parser.add_argument(
        "--device_seconds",
        type=float,
        default=DEVICE_SECONDS,
        metavar="N",
        help=f"to wait for TPUs and GPUs (default: {DEVICE_SECONDS:g})",
    )
    args = parser.parse_args(argv)
    count = 0
    for finding in look(args.workdir, args.data, args.device_seconds):
        print(finding.line(), flush=True)
        count += finding.wrong
    print("\nAll is well." if not count else f"\nWrong: {count}.")
    if count:
        sys.exit(1)


def look(workdir: str | None, data: str | None, device_seconds: float) -> Iterator[Finding]:
    """All findings, the quick ones first.

    Args:
        workdir: work folder of a run, or None.
        data: folder or name of a data set, or None.
        device_seconds: to wait for devices.
    """
    yield from machine.check_versions()
    yield from machine.check_host()
    yield machine.check_cache(ENVIRON)
    folder = user_path(workdir or ".")
    yield from machine.check_place(folder)
    yield fonts.check_fonts()
    yield from devices.check_devices(ENVIRON, device_seconds)
    if workdir and folder.is_dir():
        from vlmo_jax.doctor.work_folder import check_work_folder

        yield from check_work_folder(folder)
    elif workdir:
        yield wrong("work folder", f"{folder} is not there", "give the --workdir of a run")
    if data:
        from vlmo_jax.doctor.data import check_data

        yield from check_data(data)


if __name__ == "__main__":
    with told_in_one_line():
        main()
