"""The doctor: what it says of machines, work folders and data sets that are well or not."""

import json
import os
import sys
import time

import jax
import pytest

from vlmo_jax.checkpoints.damage import DamagedCheckpointError
from vlmo_jax.checkpoints.state import TrainState
from vlmo_jax.checkpoints.store import Checkpoints
from vlmo_jax.checkpoints.verify import verify_checkpoint
from vlmo_jax.doctor import __main__ as doctor
from vlmo_jax.doctor import devices, fonts, machine
from vlmo_jax.doctor.data import check_data
from vlmo_jax.doctor.findings import Finding, size, wrong
from vlmo_jax.doctor.work_folder import check_work_folder

GIB = 2**30


def by_name(findings):
    return {finding.what: finding for finding in findings}


def test_lines_are_aligned_and_say_what_to_do():
    assert Finding("memory", "3 GiB").line() == f"{'memory':<20}  {'3 GiB':<56}  ok"
    head, *rest = wrong("memory", "none", "buy some " * 20).line().splitlines()
    assert head == f"{'memory':<20}  none" and rest[0].startswith(f"{'':<22}WRONG: buy some")
    assert size(100) == "100 bytes" and size(5 * GIB) == "5.0 GiB"


def test_versions_of_what_is_installed_and_what_is_not(monkeypatch):
    found = by_name(machine.check_versions())
    assert found["jax"].value == jax.__version__ and not found["jax"].to_do
    versions = {"jaxlib": "0.10.2", "jax-cuda13-plugin": "0.9.0", "jax-cuda13-pjrt": "0.10.2"}
    monkeypatch.setattr(machine, "_version", versions.get)
    found = by_name(machine.check_versions())
    assert found["flax"].wrong and "pip install" in found["flax"].to_do
    assert (
        found["jax-cuda13-plugin"].wrong and "jaxlib is 0.10.2" in found["jax-cuda13-plugin"].to_do
    )
    assert not found["jax-cuda13-pjrt"].wrong


@pytest.mark.parametrize(
    "total, free, says",
    [(GIB // 16, GIB // 16, "--shm-size=8g"), (8 * GIB, 1000, "full"), (8 * GIB, 4 * GIB, "")],
)
def test_shared_memory_of_a_container(tmp_path, monkeypatch, total, free, says):
    usage = type("Usage", (), {"total": total, "free": free})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage)
    found = machine.check_shared_memory(tmp_path)
    assert says in found.to_do and found.wrong == bool(says)


def test_open_files():
    assert machine.check_open_files((256, 65536)).wrong
    note = machine.check_open_files((1024, 2**20))
    assert not note.wrong and "ulimit -n 65536" in note.to_do
    assert not machine.check_open_files((-1, -1)).to_do


def test_memory_and_cores():
    total, free = machine.read_memory()
    assert 0 <= free <= total
    assert {"cores", "memory", "/dev/shm", "open files"} == set(by_name(machine.check_host()))


def test_cache_and_place(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    cache = machine.check_cache({"JAX_COMPILATION_CACHE_DIR": str(tmp_path)})
    assert cache.value == f"{tmp_path}, 1 files, 5 bytes" and not cache.to_do
    assert "not set" in machine.check_cache({}).value
    inside_file = {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "file" / "x")}
    assert machine.check_cache(inside_file).wrong
    assert not by_name(machine.check_place(tmp_path / "a" / "b"))["work folder"].to_do
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert by_name(machine.check_place(tmp_path / "file" / "x"))["work folder"].wrong


def test_fonts_tell_scripts():
    from matplotlib import get_data_path

    font = os.path.join(get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
    missing = fonts.missing_scripts(["/nothing.ttf", font])
    assert "Chinese" in missing and "Cyrillic" not in missing


def test_devices_are_asked_in_a_bounded_time():
    start = time.monotonic()
    assert devices.ask([sys.executable, "-c", "import time; time.sleep(60)"], os.environ, 0.5) == (
        *("", ""),
        None,
    )
    assert time.monotonic() - start < 30
    output = devices.ask([sys.executable, "-c", "print(3)"], os.environ, 60)
    assert output == ("3\n", "", 0)


def test_what_devices_answer(monkeypatch):
    answers = iter(
        [
            ("", "", None),
            ("", "Traceback\nRuntimeError: no TPU\n", 1),
            (f"noise\ndevices {json.dumps([['gpu', 'NVIDIA H100', 64 * GIB, 8]])}\n", "", 0),
        ]
    )
    monkeypatch.setattr(devices, "ask", lambda *_: next(answers))
    found = [next(devices.check_devices({}, 5.0)) for _ in range(3)]
    assert found[0].wrong and found[0].value == "no answer in 5 s"
    assert found[1].wrong and found[1].to_do == "RuntimeError: no TPU"
    assert found[2] == Finding("devices", "8 x NVIDIA H100, 64.0 GiB each for JAX")


@pytest.fixture
def workdir(tmp_path):
    """A work folder with one small checkpoint."""
    params = {"x": {"kernel": jax.numpy.arange(6.0).reshape(2, 3)}, "y": jax.numpy.ones(4)}
    moments = {"mu": jax.tree.map(jax.numpy.zeros_like, params), "count": jax.numpy.asarray(3)}
    state = TrainState(step=jax.numpy.asarray(3), params=params, opt_state=(moments,), extra={})
    checkpoints = Checkpoints(tmp_path / "checkpoints", keep_last=2)
    checkpoints.save(state, {"config": {}})
    checkpoints.close()
    (tmp_path / "config.json").write_text('{"mode": "train", "steps": 3}')
    (tmp_path / "metrics.jsonl").write_text('{"step": 3, "train/loss": 0.5}\n')
    return tmp_path


def test_work_folder_that_is_well(workdir):
    found = by_name(check_work_folder(workdir))
    assert not any(finding.to_do for finding in found.values())
    assert found["config.json"].value == "2 fields, train"
    assert found["metrics.jsonl"].value == "1 metrics up to step 3"
    assert found["checkpoint 3"].value.endswith("read whole, as they were saved")


def test_damage_anywhere_in_a_work_folder(workdir):
    step = workdir / "checkpoints" / "3"
    verified = verify_checkpoint(step)
    assert verified.compared and verified.nbytes >= (6 + 4) * 4 * 2
    file = max(
        (step / "optimizer").rglob("*"), key=lambda p: p.stat().st_size if p.is_file() else 0
    )
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(DamagedCheckpointError, match="checkpoint .*3 is damaged"):
        verify_checkpoint(step)
    (workdir / "config.json").write_text("[")
    (workdir / "metrics.jsonl").write_text("broken\n" + '{"step": 3}\n')
    (workdir / "damaged_checkpoints" / "2").mkdir(parents=True)
    found = by_name(check_work_folder(workdir))
    for name in ("config.json", "metrics.jsonl", "checkpoint 3"):
        assert found[name].wrong, name
    assert found["set aside"].value == "damaged: 2"
    assert by_name(check_work_folder(workdir / "none"))["config.json"].wrong


def test_a_run_that_is_alive(workdir):
    import fcntl

    with (workdir / "run.lock").open("w") as lock:
        json.dump({"process": 17, "host": "here"}, lock)
        lock.flush()
        assert "killed" in by_name(check_work_folder(workdir))["run"].value
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert by_name(check_work_folder(workdir))["run"].value == "in it now: process 17 on here"


def test_data_set_that_is_not_there(tmp_path):
    [found] = check_data(str(tmp_path / "none"))
    assert found.wrong and str(tmp_path / "none") in found.to_do


def test_exit_status_and_order(monkeypatch, capsys, tmp_path):
    def answers(environ, seconds):
        assert "Python" in capsys.readouterr().out  # what is known stands there already
        yield Finding("devices", "1 x cpu")

    monkeypatch.setattr(devices, "check_devices", answers)
    monkeypatch.setattr(machine, "check_host", lambda: iter(()))
    monkeypatch.setattr(fonts, "check_fonts", lambda: Finding("fonts", "1"))
    doctor.main([])
    assert capsys.readouterr().out.startswith("devices")
    with pytest.raises(SystemExit) as end:
        doctor.main([f"--workdir={tmp_path / 'none'}"])
    assert end.value.code == 1 and "Wrong: 1." in capsys.readouterr().out
