#!/usr/bin/env bash
# Sets up and runs on this machine, on its GPUs if it has any.
#
#   launch/local.sh [arguments of vlmo_jax.main]       default: --config=configs/stage3.py
#
# Variables:
#   PYTHON  interpreter to make the environment with   default: the newest of python3.13, 3.12, 3.11
#   VENV    where the environment goes                 default: .venv
#   EXTRAS  extras to install                          default: cuda where there is an NVIDIA GPU, else none
set -euo pipefail
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-$(command -v python3.13 || command -v python3.12 || command -v python3.11 || command -v python3)}
VENV=${VENV:-.venv}
EXTRAS=${EXTRAS-$(nvidia-smi --list-gpus >/dev/null 2>&1 && echo cuda || true)}

if [ ! -e "$VENV/installed${EXTRAS:+-$EXTRAS}" ]; then
  "$PYTHON" -m venv "$VENV"
  "$VENV/bin/pip" install --quiet --editable ".${EXTRAS:+[$EXTRAS]}"
  touch "$VENV/installed${EXTRAS:+-$EXTRAS}"
fi

# A second start finds the compiled step here.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-$HOME/.cache/vlmo_jax}
[ $# -gt 0 ] || set -- --config=configs/stage3.py
exec "$VENV/bin/python" -m vlmo_jax.main "$@"
