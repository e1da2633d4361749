"""Tries odd inputs: captions, downloads, paths, configs and checkpoint files, drawn at random.

    python -m tests.fuzz                            # 3,600 of all kinds
    python -m tests.fuzz captions --seed 17 --count 1   # one of them again

Each must be read right or refused in one line. What ends in a traceback, hangs, or goes on with
something else is listed with the command that tries it again; the exit status is then 1.
"""

import argparse
import collections
import sys

import numpy as np
from tqdm import tqdm

from tests.fuzz.areas import AREAS
from tests.fuzz.case import try_case


def main(argv: list[str] | None = None) -> None:
    """Tries the cases of a command line and prints what came of them."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("areas", nargs="*", metavar="KIND", help=f"of {', '.join(AREAS)}")
    parser.add_argument("--seed", type=int, default=0, help="of the first case (default: 0)")
    parser.add_argument("--count", type=int, default=600, help="cases of each kind (default: 600)")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.areas) - set(AREAS))
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such kind; use some of {', '.join(AREAS)}")
    bad = 0
    for area in args.areas or AREAS:
        counts: collections.Counter[str] = collections.Counter()
        for seed in tqdm(range(args.seed, args.seed + args.count), desc=area, unit="case"):
            case = AREAS[area](np.random.default_rng(seed))
            outcome = try_case(case)
            counts[outcome.kind] += 1
            if not outcome.good:
                tqdm.write(
                    f"{outcome.kind}: {case.name}\n  {outcome.text}\n"
                    f"  python -m tests.fuzz {area} --seed {seed} --count 1"
                )
                bad += 1
        print(f"{area}: {', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))}")
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
