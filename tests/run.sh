#!/usr/bin/env bash
# Set-up and tests on a machine that has Python 3.11 or newer and nothing else:
#
#     bash tests/run.sh [pytest arguments for the main process]
#
# Uses the active virtual environment, otherwise makes .venv in the checkout.
# PYTHON=python3.12 chooses the interpreter, TAVID_TEST_JOBS=4 the number of test processes.
# On Linux, PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu avoids torch's CUDA libraries.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source tests/setup_env.sh

# Eight fake devices need processes of their own; the main ones come last.
python -m pytest -n "${TAVID_TEST_JOBS:-2}" --dist loadfile tests/multi
python -m pytest -n "${TAVID_TEST_JOBS:-2}" --dist loadfile "$@"
