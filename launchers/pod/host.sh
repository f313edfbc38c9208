#!/bin/sh
# One host, the same on a TPU VM (by ssh) and in a container (Dockerfile):
#   host.sh setup                    makes the environment that the programs need
#   host.sh run MODULE ARGUMENTS...  runs `python -m MODULE ARGUMENTS...` in it
#   host.sh stop                     asks the program that runs here to save and end
set -eu
environment="$HOME/leco_environment"
process="${TMPDIR:-/tmp}/leco.pid"
cd "$(dirname "$0")/../.."

case "$1" in
setup)
  # uv brings a Python where the host's own is too old. The lock gives all hosts the same versions.
  PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
  python3 -m uv venv --quiet --allow-existing --python 3.11 "$environment"
  python3 -m uv pip install --quiet --python "$environment/bin/python" \
    --requirement pyproject.toml --extra experiments --extra tpu --extra gcs \
    --constraint requirements_lock.txt
  ;;
run)
  shift
  if [ -e "$process" ] && kill -0 "$(cat "$process")" 2>/dev/null; then
    echo "host.sh: a program runs on $(hostname) already (process $(cat "$process"))" >&2
    exit 1
  fi
  echo $$ >"$process"
  "$environment/bin/python" -m "$@" &
  child=$!
  trap 'asked=1; kill -TERM "$child" 2>/dev/null || true' TERM INT HUP
  while :; do
    asked=
    code=0
    wait "$child" || code=$?
    [ -n "$asked" ] || break # else it was the signal that ended `wait`
  done
  rm -f "$process"
  # Killed by a signal: as the other processes, which end with 75 for that, the command goes on.
  [ "$code" -lt 128 ] || code=75
  exit "$code"
  ;;
stop)
  kill -TERM "$(cat "$process")"
  ;;
*)
  echo "host.sh: setup, run or stop, not $1" >&2
  exit 1
  ;;
esac
