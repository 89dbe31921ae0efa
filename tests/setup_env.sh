# Sourced by tests/run.sh and .ci/run from the root of the checkout: environment and installation.
if [[ -z "${VIRTUAL_ENV:-}" ]]; then
  if [[ ! -x .venv/bin/python ]]; then
    "${PYTHON:-python3}" -c 'import sys; assert sys.version_info >= (3, 11), sys.version' || {
      echo "tavid_jax needs Python 3.11 or newer; name one: PYTHON=python3.11 bash $0" >&2
      exit 1
    }
    "${PYTHON:-python3}" -m venv .venv
  fi
  source .venv/bin/activate
fi
if [[ -z "${TAVID_ENV_READY:-}" ]]; then
  python -m pip install --quiet "torch==2.13.0"
  python -m pip install --quiet -e ".[test,parity,aot]"
  export TAVID_ENV_READY=1
fi
