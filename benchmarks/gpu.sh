#!/usr/bin/env bash
# Tests marked `gpu` and benchmarks on this machine's GPU, in at most six minutes:
#
#   benchmarks/gpu.sh [--dry]
#
# Prints the table of `python -m benchmarks` last and writes benchmarks/results/<card>.json. Benchmarks of the CPU alone
# come last; those for which no time is left are named. With --dry, which needs no GPU, the tests are skipped and each
# benchmark takes a few calls on the CPU; the file goes to a temporary folder.
#
# PYTHON is the Python to use. WHEELS is a folder of wheels of packages that it lacks, on a machine without a network;
# they are installed into a temporary folder.
set -euo pipefail
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-$([ -x .venv/bin/python ] && echo .venv/bin/python || echo python3)}
export NO_ALBUMENTATIONS_UPDATE=1 OMP_WAIT_POLICY=PASSIVE PYTHONPATH=$PWD${PYTHONPATH:+:$PYTHONPATH}

case "${1:-}" in
  "")
    card=$("$PYTHON" -c 'import sys, torch
sys.exit("no GPU: give --dry to run on the CPU") if not torch.cuda.is_available() else print(torch.cuda.get_device_name())')
    output="benchmarks/results/$(echo "$card" | tr ' /' '__').json"
    options=(--limit_s 150) limit_s=200 ;;
  --dry)
    output="$(mktemp -d)/dry.json"
    options=(--quick) limit_s=0 ;;
  *)
    echo "usage: benchmarks/gpu.sh [--dry]" >&2
    exit 2 ;;
esac

if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  "$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --target "$site" "$WHEELS"/*.whl
  PYTHONPATH=$PYTHONPATH:$site
fi
timeout 150 "$PYTHON" -m pytest -q -p no:cacheprovider -m gpu $(grep -rl --include="*.py" "pytest.mark.gpu" tests) || tests=$?
timeout "$limit_s" "$PYTHON" -m benchmarks "${options[@]}" --output "$output" || benchmarks=$?
exit "${tests:-${benchmarks:-0}}"
