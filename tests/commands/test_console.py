"""The first run of all prints no more than later ones."""

import os
import subprocess
import sys

from tests.paths import ROOT


def test_a_search_for_fonts_is_not_told(tmp_path):
    code = (
        "import logging\n"
        "from vlmo_jax.commands.console import log_to_console\n"
        "log_to_console()\n"
        "logging.getLogger('vlmo_jax').info('begins')\n"
        "import matplotlib.font_manager"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert list(tmp_path.glob("fontlist*")), "the fonts were known already"
    assert (run.stdout, run.stderr) == ("", "begins\n")
