#!/usr/bin/env bash
# Builds the wheel, installs it without extras into a clean environment and uses it from `/`, as a device would.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
readonly LIMIT_MB=400
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

.venv/bin/python -m build --wheel --no-isolation --outdir "$work/dist" . >"$work/build.log" 2>&1 ||
  { cat "$work/build.log" >&2; exit 1; }
.venv/bin/python -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -qq --disable-pip-version-check --no-input -c .ci/constraints.txt "$work"/dist/*.whl
size_mb=$(du -sm "$work/venv" | cut -f1)
echo "wheel-check: $(du -h "$work"/dist/*.whl | cut -f1) wheel, $size_mb MB installed (limit $LIMIT_MB)"
[ "$size_mb" -lt "$LIMIT_MB" ] || { echo "wheel-check: a device install is too large" >&2; exit 1; }

cd /
export PATH="$work/venv/bin:$PATH"
unset PYTHONPATH
edgeai --version
for config in "$root"/firmware_configs/examples/*.toml; do
  [ -e "$config" ] || { echo "wheel-check: no example configuration in firmware_configs/examples/" >&2; exit 1; }
  edgeai check "$config"
done
edgeai-devices list
edgeai-devices list --json >/dev/null
