#!/usr/bin/env bash
# Runs on a Cloud TPU slice of any size, from a machine with gcloud.
#
#   launch/tpu_vm.sh run [arguments of vlmo_jax.main]   make the slice if need be, set it up, train; the last commit is what runs
#   launch/tpu_vm.sh create | setup | status | ssh [COMMAND] | delete
#
# After a preemption or a lost connection, the same `run` command again makes the slice anew if it is
# gone and goes on from the run's checkpoint.
#
# Variables (export them, or put them before the command):
#   NAME      of the slice                                default: vlmo
#   ZONE      such as us-west4-a                          needed
#   TYPE      accelerator type, such as v5litepod-16      needed
#   VERSION   runtime version for that type               default: v2-alpha-tpuv5-lite
#   BUCKET    Cloud Storage bucket for runs and data, mounted at /mnt/vlmo on every worker; the run goes to
#             /mnt/vlmo/runs/NAME. Make it with --enable-hierarchical-namespace, so that checkpoints are
#             renamed in one step                         needed
#   SPOT      1: cheaper, may be taken away at any time   default: 0
#   PROJECT   Google Cloud project                        default: gcloud's
set -euo pipefail
cd "$(dirname "$0")/.."

NAME=${NAME:-vlmo}
VERSION=${VERSION:-v2-alpha-tpuv5-lite}
MOUNT=/mnt/vlmo

tpu() {
  local verb=$1
  shift
  gcloud compute tpus tpu-vm "$verb" "$NAME" --zone="$ZONE" ${PROJECT:+--project="$PROJECT"} "$@"
}

on_all_workers() {
  tpu ssh --worker=all --command="$1"
}

state() {
  tpu describe --format='value(state)' 2>/dev/null || echo ABSENT
}

create() {
  local spot=()
  if [ "${SPOT:-0}" = 1 ]; then spot=(--spot); fi
  tpu create --accelerator-type="$TYPE" --version="$VERSION" "${spot[@]}"
}

setup() {
  local archive
  archive=$(mktemp --suffix=.tar.gz)
  git archive --format=tar.gz --output="$archive" HEAD
  # Not `tpu scp`: the name stands inside the target there.
  gcloud compute tpus tpu-vm scp "$archive" "$NAME:vlmo_jax.tar.gz" --worker=all --zone="$ZONE" ${PROJECT:+--project="$PROJECT"}
  rm "$archive"
  on_all_workers "set -e
    mkdir -p vlmo_jax && tar -xzf vlmo_jax.tar.gz -C vlmo_jax
    if ! command -v gcsfuse >/dev/null; then
      key=/usr/share/keyrings/cloud.google.asc site=https://packages.cloud.google.com/apt
      curl -fsS \$site/doc/apt-key.gpg | sudo tee \$key >/dev/null
      echo \"deb [signed-by=\$key] \$site gcsfuse-\$(lsb_release -cs) main\" | sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
      sudo apt-get -qq update && sudo apt-get -qq install -y gcsfuse
    fi
    sudo mkdir -p $MOUNT && sudo chown \$USER $MOUNT
    mountpoint -q $MOUNT || gcsfuse --implicit-dirs $BUCKET $MOUNT
    command -v uv >/dev/null || python3 -m pip install --quiet --user uv
    cd vlmo_jax && export PATH=\$PATH:\$HOME/.local/bin
    [ -x .venv/bin/python ] || uv venv --quiet --python 3.12 .venv
    uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'"
}

run() {
  local arguments
  case $(state) in
    READY) ;;
    ABSENT) create ;;
    PREEMPTED | TERMINATED) tpu delete --quiet && create ;;
    *) echo "error: $NAME is $(state); wait, or delete it" >&2 && exit 1 ;;
  esac
  setup
  printf -v arguments ' %q' --workdir="$MOUNT/runs/$NAME" "$@"
  # jax asks the metadata server for the other workers: nothing else needs to be set. What an earlier
  # connection left running would hold the chips; on SIGTERM it saves and stops.
  on_all_workers "cd vlmo_jax
    while pkill -f '^.venv/bin/python -m vlmo_jax'; do sleep 5; done
    export JAX_COMPILATION_CACHE_DIR=$MOUNT/compiled
    .venv/bin/python -m vlmo_jax.main$arguments"
}

need() {
  : "${ZONE:?set ZONE, such as us-west4-a}" "${TYPE:?set TYPE, such as v5litepod-16}" "${BUCKET:?set BUCKET, the name of a bucket}"
}

case ${1:-} in
  run) need && shift && run "$@" ;;
  create | setup) need && "$1" ;;
  status) need && state ;;
  ssh) need && shift && on_all_workers "$*" ;;
  delete) need && tpu delete --quiet ;;
  *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" && exit 2 ;;
esac
