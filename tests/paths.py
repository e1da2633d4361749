"""Where things lie."""

import pathlib

ROOT = pathlib.Path(__file__).parent.parent
DATA = ROOT / "tests" / "data"
