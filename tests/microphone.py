"""A real microphone without a sound card: PulseAudio's null sink, its monitor remapped to a source.

What `play` plays is what PortAudio records from the devices "pulse" and "default". PortAudio lists devices once a
process, so record in a child with `env`. Debian: pulseaudio, pulseaudio-utils, libportaudio2, libasound2-plugins.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

SINK = "edgeai_sink"
SOURCE = "edgeai_microphone"
NEEDED = ("pulseaudio", "pactl", "paplay")


class VirtualMicrophone:
    """A private PulseAudio server with one sink, and one microphone that hears what is played into it."""

    def __init__(self, folder: Path, *, rate_hz: int = 16_000) -> None:
        self.folder = folder
        self.rate_hz = rate_hz
        self.socket = folder / "native"
        self.env = os.environ | {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(folder),
            "XDG_CONFIG_HOME": str(folder),
            "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_SERVER": f"unix:{self.socket}",
        }
        self._server: subprocess.Popen[bytes] | None = None
        self._modules: list[str] = []

    def start(self) -> None:
        load = f"module-native-protocol-unix auth-anonymous=1 socket={self.socket}"
        command = ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no"]
        command += ["--disable-shm=yes", "-L", load]
        with (self.folder / "pulseaudio.log").open("wb") as log:
            self._server = subprocess.Popen(command, env=self.env, stdout=log, stderr=log)
        for _ in range(200):
            if self._server.poll() is not None:
                break
            if subprocess.run(["pactl", "info"], env=self.env, capture_output=True).returncode == 0:
                self.plug_in()
                return
            time.sleep(0.05)
        raise RuntimeError(f"pulseaudio did not start: {(self.folder / 'pulseaudio.log').read_text()[-500:]}")

    def stop(self) -> None:
        if self._server is not None:
            self._server.terminate()
            try:
                self._server.wait(10)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(10)

    def plug_in(self) -> None:
        shape = [f"rate={self.rate_hz}", "channels=1"]
        sink = ["module-null-sink", f"sink_name={SINK}", *shape, "format=float32le"]
        source = ["module-remap-source", f"master={SINK}.monitor", f"source_name={SOURCE}", *shape]
        self._modules = [self._pactl("load-module", *module).strip() for module in (sink, source)]
        self._pactl("set-default-source", SOURCE)

    def unplug(self) -> None:
        # the sink too: PulseAudio would move the listener to the sink's monitor
        for module in reversed(self._modules):
            self._pactl("unload-module", module)

    def play(self, clip: Path) -> None:
        """Play a WAV or FLAC file to its end."""
        subprocess.run(["paplay", f"--device={SINK}", str(clip)], env=self.env, check=True, timeout=60)

    def _pactl(self, *arguments: str) -> str:
        done = subprocess.run(["pactl", *arguments], env=self.env, check=True, capture_output=True, text=True)
        return done.stdout


@contextlib.contextmanager
def virtual_microphone(*, rate_hz: int = 16_000) -> Iterator[VirtualMicrophone]:
    """A plugged-in virtual microphone; skips where PulseAudio is not installed."""
    missing = [program for program in NEEDED if shutil.which(program) is None]
    if missing:
        pytest.skip(
            f"needs {', '.join(missing)}: apt-get install pulseaudio libportaudio2 libasound2-plugins"
        )
    # a socket's path must be short: not pytest's tmp_path
    with tempfile.TemporaryDirectory(prefix="mic") as name:
        microphone = VirtualMicrophone(Path(name), rate_hz=rate_hz)
        try:
            microphone.start()
            yield microphone
        finally:
            microphone.stop()
