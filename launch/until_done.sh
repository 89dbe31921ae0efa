#!/usr/bin/env bash
# Runs a command again as long as it exits with 75: "I was told to stop and have saved my state".
#
#   bash launch/until_done.sh python -m tavid_jax.main --config=configs/trajloom.py
#
# A run that is sent SIGTERM (a preempted machine) saves after its current step and exits with 75;
# started again it goes on to the same bits. One that was still starting up is ended by SIGTERM
# (143), and started again too. Any other exit code is passed on.
set -u
if [ $# -eq 0 ]; then
  sed -n '2,8p' "$0" | cut -c3- >&2
  exit 2
fi
while true; do
  "$@"
  code=$?
  # 143: SIGTERM came before the program could listen, so that there was nothing to save.
  [ "$code" -eq 75 ] || [ "$code" -eq 143 ] || exit "$code"
  echo "until_done: stopped and saved; starting again" >&2
done
