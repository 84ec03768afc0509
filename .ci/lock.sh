#!/usr/bin/env bash
# Writes .ci/constraints.txt from a fresh resolve of all extras that setup and trt-check install, then checks that the same
# versions have wheels for every Python we support. Installs nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
readonly REQUIREMENT='.[compress,onnx,serve,broker,crypto,zstd,sparkplug,metrics,trt-check,dev]'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

resolve() { # resolve REPORT PIP_OPTION...
  local report=$1
  shift
  .venv/bin/python -m pip install --dry-run --ignore-installed --disable-pip-version-check --no-input -q \
    --only-binary :all: --report "$report" "$@" "$REQUIREMENT"
}

echo 'lock: resolving' >&2
resolve "$work/report.json"
.venv/bin/python - "$work/report.json" >"$work/constraints.txt" <<'PY'
import json, re, sys
left_out = {"edgeai", "pip", "setuptools"}
rows = set()
for item in json.load(open(sys.argv[1], encoding="utf-8"))["install"]:
    name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
    if name not in left_out:
        rows.add(f"{name}=={item['metadata']['version'].partition('+')[0]}")
print("# Made by `make lock`; what `make setup` and `make trt-check` install on Python 3.11 to 3.13.")
print("\n".join(sorted(rows)))
PY
for version in 3.11 3.12 3.13; do
  echo "lock: checking Python $version" >&2
  resolve "$work/$version.json" --python-version "$version" --target "$work/unused" -c "$work/constraints.txt"
done
cp "$work/constraints.txt" .ci/constraints.txt
echo "lock: $(grep -c == .ci/constraints.txt) packages in .ci/constraints.txt" >&2
