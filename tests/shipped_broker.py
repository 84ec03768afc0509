"""The broker as `firmware_configs/mosquitto` ships it: its files, its README's commands, its user, on a free port."""

import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from broker import _wait_for_port, find_mosquitto, free_port
from certificates import Authority, openssl

from edgeai.sinks import MqttSettings

SHIPPED = Path(__file__).resolve().parents[1] / "firmware_configs" / "mosquitto"
CONFIG, DATA, PORT = "/etc/mosquitto/edgeai", "/var/lib/mosquitto", "8883"
"""What mosquitto.conf says is the user's to change; nothing else of it is."""

CLIENTS = ("gate-1", "gate-2", "gate-9", "operator", "dashboard", "homeassistant", "observer")

OBSERVER = "\nuser observer\ntopic read #\ntopic read $SYS/#\n"
"""The one addition of the tests: somebody who would see whatever is delivered."""


def readme_commands(title: str) -> str:
    """The first block of shell commands of a chapter of the README."""
    text = (SHIPPED / "README.md").read_text()
    found = re.search(rf"## {title}\n.*?```sh\n(.*?)```", text, re.S)
    assert found, title
    return found.group(1)


class ShippedBroker:
    """start, kill (-9), stop; `settings` for a device of a name.

    As root the broker drops to its user, as it does in service, so its folder is outside of pytest's, which that user
    may not enter. change: (old, new) pairs for both files, beside port and folders.
    """

    def __init__(
        self, *, clients: tuple[str, ...] = CLIENTS, change: tuple[tuple[str, str], ...] = ()
    ) -> None:
        program = find_mosquitto()
        if program is None:
            pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
        self._program = program
        self._holder = tempfile.TemporaryDirectory(prefix="shipped-broker-")
        self.folder = Path(self._holder.name)
        self.port = free_port()
        self.certificates = self.folder / "authority"
        self.config, self.data = self.folder / "etc", self.folder / "data"
        for place in (self.certificates, self.config, self.data):
            place.mkdir()
        _run_readme(self.certificates, clients)
        for name in ("ca.pem", "broker.pem", "broker.key"):
            shutil.copy(self.certificates / name, self.config)
        self.acl = self.config / "acl"
        self.acl.write_text(_changed((SHIPPED / "acl").read_text(), change) + OBSERVER)
        text = _changed((SHIPPED / "mosquitto.conf").read_text(), change)
        text = text.replace(CONFIG, str(self.config)).replace(DATA, str(self.data))
        self.conf = self.config / "mosquitto.conf"
        self.conf.write_text(text.replace(f"listener {PORT}\n", f"listener {self.port} 127.0.0.1\n"))
        self.log = self.folder / "log"
        if os.geteuid() == 0:
            user = pwd.getpwnam("mosquitto")
            self.folder.chmod(0o711)
            for place in (self.config, self.data):
                for one in (place, *place.iterdir()):
                    os.chown(one, user.pw_uid, user.pw_gid)
        self._process: subprocess.Popen[bytes] | None = None

    def settings(self, name: str, **changes: object) -> MqttSettings:
        """Of a device with the certificate of that name."""
        files = {"ca": "ca.pem", "certificate": f"{name}.pem", "key": f"{name}.key"}
        given: dict[str, object] = {
            "host": "localhost", "port": self.port, "tenant": "acme", "site": "s1", "device": name,
            "tls": {kind: self.certificates / file for kind, file in files.items()},
        }  # fmt: skip
        return MqttSettings.model_validate(given | changes)

    def start(self) -> "ShippedBroker":
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._program, "-c", str(self.conf), "-v"], stdout=log, stderr=log
            )
        _wait_for_port(self.port, self._process)
        return self

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        self._end(signal.SIGTERM)

    def reload(self) -> None:
        """As `systemctl reload` does; back when the log says so."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)
        deadline_s = time.monotonic() + 10
        while "Reloading config" not in self.log.read_text(errors="replace"):
            assert time.monotonic() < deadline_s
            time.sleep(0.01)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> "ShippedBroker":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._holder.cleanup()


def _changed(text: str, change: tuple[tuple[str, str], ...]) -> str:
    for old, new in change:
        text = text.replace(old, new)
    return text


def _run_readme(folder: Path, clients: tuple[str, ...]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    subprocess.run(
        ["sh", "-eu", "-c", readme_commands("Certificates")],
        cwd=folder, check=True, capture_output=True,
        env=os.environ | {"BROKER": "localhost", "CLIENTS": " ".join(clients)},
    )  # fmt: skip


def strangers_certificate(folder: Path, name: str) -> None:
    """<name>-strange.pem: of the right name, and of an authority that the broker does not know."""
    stranger = Authority(folder / "strange", "authority")
    stranger.sign(name)
    for end in ("pem", "key"):
        shutil.copy(folder / "strange" / f"{name}.{end}", folder / f"{name}-strange.{end}")


def certificate_with_cn(folder: Path, file: str, cn: str) -> None:
    """<file>.pem of the broker's own authority with a CN that a careless operator might sign."""
    request = folder / "odd.csr"
    openssl(
        "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-multivalue-rdn",
        "-keyout", folder / f"{file}.key", "-out", request, "-subj", "/CN=" + cn.replace("/", "\\/").replace("+", "\\+"),
    )  # fmt: skip
    openssl(
        "x509", "-req", "-in", request, "-CA", folder / "ca.pem", "-CAkey", folder / "ca.key", "-CAcreateserial",
        "-days", "2", "-out", folder / f"{file}.pem",
    )  # fmt: skip
