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


def test_what_nobody_can_read_any_more_is_lost_and_the_work_goes_on(tmp_path):
    code = (
        "import logging, pathlib, sys\n"
        "from vlmo_jax.commands.console import log_to_console\n"
        "log_to_console()\n"
        "for number in range(3):\n"
        "    print('a line', flush=True)\n"
        "    logging.getLogger('vlmo_jax').info('another')\n"
        "pathlib.Path(sys.argv[1]).write_text('done')"
    )
    for case in ("reader gone", "full disk", "closed"):
        file, shell = tmp_path / case, {"full disk": ">/dev/full 2>/dev/full", "closed": ">&- 2>&-"}
        command = [sys.executable, "-c", code, str(file)]
        if case in shell:
            command = ["sh", "-c", f'exec "$@" {shell[case]}', "sh", *command]
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdout.close()
        process.stderr.close()
        assert (process.wait(), file.read_text()) == (0, "done"), case


def test_a_command_whose_work_is_what_it_prints_ends_where_it_cannot(tmp_path):
    code = (
        "import pathlib, sys\n"
        "from vlmo_jax.commands.console import log_beside_results\n"
        "from vlmo_jax.commands.endings import told_in_one_line\n"
        "with told_in_one_line():\n"
        "    log_beside_results()\n"
        "    sys.stdin.read()\n"
        "    print('a line', flush=True)\n"
        "    print('gone on', file=sys.stderr)"
    )
    full = "error: No space left on device; free some space, or name another folder\n"
    for where, status, said in (("| true", 141, ""), (">/dev/full", 1, full)):
        # The status is that of the command, in the pipe or not.
        shell = f'(echo; sleep 0.5) | ("$@"; echo $? >&2) {where}'
        run = subprocess.run(
            ["bash", "-c", shell, "sh", sys.executable, "-c", code],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert run.stderr == f"{said}{status}\n", where
