#!/usr/bin/env bash
# Makes .venv with everything the workstation needs. Safe to run again; does nothing when all is in place.
# EDGEAI_PYTHON=/path/to/python picks the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly EXTRAS='compress,onnx,serve,broker,crypto,zstd,sparkplug,metrics,dev'
readonly STAMP=.venv/.edgeai-setup
readonly WITHOUT=.venv/.edgeai-without # Debian packages that could not be installed: not tried at every call
# What a microphone, a broker, a virtual sound card and made speech need; without them those parts alone do not work.
# GStreamer is for cameras, the RTSP server and x264 for their tests.
readonly DEBIAN_OPTIONAL=(
  espeak-ng libportaudio2 libasound2-plugins mosquitto mosquitto-clients pulseaudio pulseaudio-utils
  python3-gi gir1.2-gst-plugins-base-1.0 gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good
  gstreamer1.0-plugins-bad gstreamer1.0-plugins-ugly gstreamer1.0-libav
)

# Two at once in one checkout (a demo and a test run) must not write the same .venv.
exec 9<.
flock 9

say() { printf 'setup: %s\n' "$*" >&2; }

as_root=()
can_be_root() {
  [ "$(id -u)" -eq 0 ] && return 0
  command -v sudo >/dev/null || return 1
  if sudo -n true 2>/dev/null || [ -t 0 ]; then as_root=(sudo); return 0; fi
  return 1
}

apt_updated=
apt_install() { # apt_install PACKAGE...: 0 where all of them are installed now
  command -v apt-get >/dev/null && can_be_root || return 1
  if [ -z "$apt_updated" ]; then
    "${as_root[@]}" apt-get update -qq </dev/null >&2 || say "apt-get update failed; trying with the lists at hand"
    apt_updated=yes
  fi
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" \
    </dev/null >&2
}

note_without() { if [ -n "$without" ]; then printf '%s\n' "$without" >"$WITHOUT"; else rm -f "$WITHOUT"; fi; }

installed() { [ "$(dpkg-query -W -f='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }

without=
debian_packages() {
  local package missing=()
  for package in "${DEBIAN_OPTIONAL[@]}"; do
    installed "$package" || missing+=("$package")
  done
  [ ${#missing[@]} -eq 0 ] && return 0
  if [ "$(cat "$WITHOUT" 2>/dev/null)" = "${missing[*]}" ]; then
    say "still without Debian packages: ${missing[*]} (rm $WITHOUT to try again)"
    without=${missing[*]}
    return 0
  fi
  say "installing Debian packages: ${missing[*]}"
  if ! apt_install "${missing[@]}"; then
    say "could not install Debian packages; going on without: ${missing[*]}"
    say "  microphone: libportaudio2 libasound2-plugins · broker: mosquitto mosquitto-clients · tests: pulseaudio"
    say "  cameras by CSI, gst: and hardware decoders, and tests of RTSP: python3-gi gir1.2-gst-* gstreamer1.0-*"
    say "  as root: apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
    without=${missing[*]}
    return 0
  fi
  # Debian starts what it installs. Our tests and demo start brokers of their own, on ports of their own.
  case " ${missing[*]} " in *' mosquitto '*)
    if [ -d /run/systemd/system ]; then "${as_root[@]}" systemctl disable --now mosquitto >/dev/null 2>&1 || true
    else "${as_root[@]}" service mosquitto stop >/dev/null 2>&1 || true
    fi
    say "mosquitto's own service was stopped; systemctl enable --now mosquitto brings it back" ;;
  esac
}

fits() { # a shim may be on PATH and fail: only running it tells
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1
}
makes_venvs() { "$1" -c 'import ensurepip, venv' >/dev/null 2>&1; }

find_python() { # prints a Python that runs, fits and can make environments
  local python
  for python in ${EDGEAI_PYTHON:+"$EDGEAI_PYTHON"} python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
    if fits "$python" && makes_venvs "$python"; then echo "$python"; return; fi
  done
  return 1
}

get_python() { # as find_python, after installing what is missing
  find_python && return
  local version
  if fits /usr/bin/python3; then
    version=$(/usr/bin/python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    say "installing python$version-venv"
    apt_install "python$version-venv" && find_python && return
    say "Python $version cannot make virtual environments; as root: apt-get install -y python$version-venv"
    return 1
  fi
  for version in 3.13 3.12 3.11; do
    apt-cache show "python$version-venv" >/dev/null 2>&1 || continue
    say "installing python$version"
    apt_install "python$version" "python$version-venv" && find_python && return
  done
  say "needs Python 3.11, 3.12 or 3.13, and found none that runs"
  say "  install one (Debian 12: apt-get install -y python3 python3-venv), or set EDGEAI_PYTHON=/path/to/python"
  return 1
}

debian_packages

wanted=$(cat pyproject.toml .ci/constraints.txt .ci/setup.sh | sha256sum)
if [ "$(cat "$STAMP" 2>/dev/null)" = "$wanted" ] && fits .venv/bin/python; then
  note_without
  exit 0
fi

if ! fits .venv/bin/python; then
  python=$(get_python) || exit 1
  say "making .venv with $("$python" --version) ($python)"
  "$python" -m venv --clear .venv
fi
rm -f "$STAMP"

pip_install() {
  .venv/bin/python -m pip install --disable-pip-version-check --no-input $([ -t 2 ] || echo -qq) \
    -c .ci/constraints.txt -e ".[$EXTRAS]" >&2
}
say "installing Python packages (some 700 MB to download the first time)"
# A large download that breaks off is the common failure; what was fetched is in pip's cache.
pip_install || { say "pip failed; trying once more"; pip_install; }
.venv/bin/python -c 'import edgeai' || { say "edgeai does not import in .venv; remove .venv and run again"; exit 1; }
printf '%s\n' "$wanted" >"$STAMP"
note_without
say "done: .venv/bin/edgeai --help"
