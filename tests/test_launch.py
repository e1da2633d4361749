import os
import re
import subprocess

import pytest
import yaml

from tests.paths import ROOT
from vlmo_jax.parallel.distributed import EXPLICIT

LAUNCH = ROOT / "launch"
SCRIPTS = ("local.sh", "tpu_vm.sh", "slurm.sbatch")

# Stands in for gcloud: says what state the slice is in, and writes down every call.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$*" >> "$CALLS"
case "$*" in *describe*) [ "$STATE" = ABSENT ] && exit 1; echo "$STATE" ;; esac
"""


@pytest.fixture
def tpu_vm(tmp_path):
    gcloud = tmp_path / "gcloud"
    gcloud.write_text(GCLOUD)
    gcloud.chmod(0o755)

    def run(*arguments, state="READY", **variables):
        calls = tmp_path / "calls"
        calls.unlink(missing_ok=True)
        environ = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "CALLS": str(calls),
            "STATE": state,
            "HOME": str(tmp_path),
            **variables,
        }
        done = subprocess.run(
            [LAUNCH / "tpu_vm.sh", *arguments], env=environ, capture_output=True, text=True
        )
        return done, calls.read_text() if calls.exists() else ""

    return run


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse(name):
    assert subprocess.run(["bash", "-n", LAUNCH / name]).returncode == 0


def test_folder_holds_what_is_tested_here():
    assert {path.name for path in LAUNCH.iterdir()} == {*SCRIPTS, "kubernetes.yaml"}


@pytest.mark.parametrize("name", [*SCRIPTS, "kubernetes.yaml"])
def test_no_science_in_a_launcher(name):
    """Which recipe, which data and where to: nothing that changes what is trained."""
    fields = re.findall(r"--config\.([\w.]+)", (LAUNCH / name).read_text())
    assert set(fields) <= {"data.source", "tokenizer"}


def test_kubernetes_variables_agree():
    service, job = yaml.safe_load_all((LAUNCH / "kubernetes.yaml").read_text())
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    container = pod["containers"][0]
    environ = {variable["name"]: variable for variable in container["env"]}
    assert set(EXPLICIT) <= set(environ)
    assert int(environ["JAX_NUM_PROCESSES"]["value"]) == spec["completions"] == spec["parallelism"]
    assert (
        environ["JAX_COORDINATOR_ADDRESS"]["value"].split(":")[0] == f"{name}-0.{pod['subdomain']}"
    )
    assert "job-completion-index" in environ["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"]
    assert spec["completionMode"] == "Indexed"
    assert service["metadata"]["name"] == pod["subdomain"]
    assert service["spec"]["clusterIP"] == "None" and service["spec"]["selector"] == {
        "job-name": name
    }
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    assert container["command"] == ["python", "-m", "vlmo_jax.main"]


def test_slurm_options_fit_jax():
    text = (LAUNCH / "slurm.sbatch").read_text()
    options = dict(re.findall(r"^#SBATCH --([\w-]+)(?:=(\S+))?", text, re.M))
    assert options["ntasks-per-node"] == options["gpus-per-node"]
    assert not {"gpus-per-task", "gpu-bind", "ntasks"} & set(options), (
        "jax gives each task one of the GPUs that it sees"
    )
    assert options["signal"].startswith("TERM@") and "requeue" in options
    assert re.search(r'^srun .* -m vlmo_jax.main "\$@"$', text, re.M)


def test_slurm_task_that_has_a_node_gets_all_its_gpus(tmp_path):
    srun = tmp_path / "srun"
    srun.write_text('#!/usr/bin/env bash\necho "${JAX_LOCAL_DEVICE_IDS:-none} $*"\n')
    srun.chmod(0o755)
    environ = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(tmp_path),
        "HOME": "/home/me",
        "SLURM_GPUS_ON_NODE": "4",
    }

    def run(tasks):
        command = ["bash", LAUNCH / "slurm.sbatch", "--config=a b"]
        return subprocess.run(
            command, env={**environ, "SLURM_NTASKS_PER_NODE": tasks}, capture_output=True, text=True
        ).stdout

    assert run("1").startswith("0,1,2,3 ")
    assert run("4").startswith("none ") and "-m vlmo_jax.main --config=a b" in run("4")


def test_tpu_run_uses_every_worker(tpu_vm):
    done, calls = tpu_vm(
        "run",
        "--config=configs/stage3.py:base",
        "--config.model.dtype=a b",
        ZONE="z",
        TYPE="t",
        BUCKET="b",
        PROJECT="p",
    )
    assert done.returncode == 0, done.stderr
    assert " create " not in calls and " delete " not in calls
    for line in calls.splitlines():
        if re.search(r"tpu-vm (ssh|scp) ", line):
            assert "--worker=all" in line
    assert re.search(
        r"main --workdir=/mnt/vlmo/runs/vlmo --config=configs/stage3.py:base"
        r" --config.model.dtype=a\\ b$",
        calls,
        re.M,
    )
    assert "--zone=z --project=p" in calls


@pytest.mark.parametrize(
    "state, verbs", [("ABSENT", ["create"]), ("PREEMPTED", ["delete", "create"]), ("READY", [])]
)
def test_tpu_run_makes_the_slice_again(tpu_vm, state, verbs):
    done, calls = tpu_vm(
        "run", "--config=c", state=state, ZONE="z", TYPE="v5litepod-16", BUCKET="b", SPOT="1"
    )
    assert done.returncode == 0, done.stderr
    assert re.findall(r"tpu-vm (create|delete) vlmo", calls) == verbs
    if "create" in verbs:
        assert "--accelerator-type=v5litepod-16" in calls and "--spot" in calls


@pytest.mark.parametrize("missing", ["ZONE", "TYPE", "BUCKET"])
def test_tpu_says_what_is_not_set_before_anything_costs_money(tpu_vm, missing):
    variables = {name: "x" for name in ("ZONE", "TYPE", "BUCKET") if name != missing}
    done, calls = tpu_vm("run", state="ABSENT", **variables)
    assert done.returncode != 0 and f"set {missing}" in done.stderr and not calls


def test_tpu_prints_its_use(tpu_vm):
    done, _ = tpu_vm("fly")
    assert done.returncode == 2 and "launch/tpu_vm.sh run" in done.stdout


def test_local_installs_once_and_passes_arguments_on(tmp_path):
    python = tmp_path / "python"
    python.write_text(f"""#!/usr/bin/env bash
mkdir -p "$3/bin"
printf '#!/usr/bin/env bash\\necho "pip $*" >> {tmp_path}/calls\\n' > "$3/bin/pip"
printf '#!/usr/bin/env bash\\necho "python $*" >> {tmp_path}/calls\\n' > "$3/bin/python"
chmod +x "$3/bin/"*
""")
    python.chmod(0o755)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "PYTHON": str(python),
        "VENV": str(tmp_path / "venv"),
        "EXTRAS": "",
    }
    for arguments in ([], ["--config=configs/stage3.py:base", "--workdir=a b"]):
        assert subprocess.run([LAUNCH / "local.sh", *arguments], env=environ).returncode == 0
    assert (tmp_path / "calls").read_text().splitlines() == [
        "pip install --quiet --editable .",
        "python -m vlmo_jax.main --config=configs/stage3.py",
        "python -m vlmo_jax.main --config=configs/stage3.py:base --workdir=a b",
    ]
