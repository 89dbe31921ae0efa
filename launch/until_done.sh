#!/usr/bin/env bash
# Runs a command again as long as it exits with 75: "I was told to stop and have saved my state".
#
#   bash launch/until_done.sh python -m tavid_jax.main --config=configs/trajloom.py
#
# A run that is sent SIGTERM (a preempted machine) saves after its current step and exits with 75;
# started again it goes on to the same bits. One that was still starting up is ended by SIGTERM
# (143), and started again too. Any other exit code is passed on.
#
# What is sent to this script itself, as to the first process of a container, or Ctrl-C, is passed
# on to the run; that one is not started again.
set -u
if [ $# -eq 0 ]; then
  sed -n '2,11p' "$0" | cut -c3- >&2
  exit 2
fi
told=
pass_on() {
  told=yes
  kill "-$1" "$run" 2>/dev/null
}
trap 'pass_on TERM' TERM
trap 'pass_on INT' INT
set -m  # a process group of its own: the terminal sends Ctrl-C here alone, and bash lets it through
while true; do
  "$@" &
  run=$!
  # A signal ends `wait`, not the run.
  while kill -0 "$run" 2>/dev/null; do wait "$run"; done
  wait "$run"
  code=$?
  # 143: SIGTERM came before the program could listen, so that there was nothing to save.
  [ -z "$told" ] && { [ "$code" -eq 75 ] || [ "$code" -eq 143 ]; } || exit "$code"
  echo "until_done: stopped and saved; starting again" >&2
done
