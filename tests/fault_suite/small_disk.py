"""A small disk of its own that can be filled, made read-only and mended: a tmpfs, where this process may mount one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import types
from pathlib import Path


class SmallDisk:
    """Mounted at `folder` inside `with`. Raises OSError where that is not allowed (no root, a container)."""

    def __init__(self, folder: Path, *, size_bytes: int = 16 << 20) -> None:
        self.folder = folder
        self._size_bytes = size_bytes
        self._ballast = folder / "ballast"

    def fill(self) -> None:
        """Not a byte is left."""
        with contextlib.suppress(OSError), self._ballast.open("ab", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    def free(self) -> None:
        self._ballast.unlink(missing_ok=True)

    def read_only(self, *, on: bool) -> None:
        """Only while no file on it is open for writing: the kernel refuses else."""
        _run("mount", "-o", f"remount,{'ro' if on else 'rw'}", str(self.folder))

    def __enter__(self) -> SmallDisk:
        if os.geteuid() != 0:
            raise PermissionError("only root can mount a small disk")
        self.folder.mkdir(parents=True, exist_ok=True)
        _run("mount", "-t", "tmpfs", "-o", f"size={self._size_bytes}", "edgeai-faults", str(self.folder))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        _run("umount", "-l", str(self.folder))


class FailingCard:
    """An ext4 file system on a loop device whose backing runs out of space: writes end in I/O errors, as on a worn SD
    card. Raises OSError where there is no loop device.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._backing = SmallDisk(folder.with_name(folder.name + "-backing"), size_bytes=24 << 20)
        self._image = self._backing.folder / "card.img"

    def fail(self) -> None:
        self._backing.fill()

    def mend(self) -> None:
        self._backing.free()

    def __enter__(self) -> FailingCard:
        self._backing.__enter__()
        try:
            with self._image.open("wb") as file:
                file.truncate(64 << 20)
            _run("mkfs.ext4", "-q", "-F", "-O", "^has_journal", "-E", "nodiscard", str(self._image))
            self.folder.mkdir(parents=True, exist_ok=True)
            _run("mount", "-o", "loop,errors=remount-ro", str(self._image), str(self.folder))
        except BaseException:
            self._backing.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> None:
        _run("umount", "-l", str(self.folder))
        self._backing.__exit__(kind, error, trace)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as error:
        raise OSError(f"{command[0]} is not installed") from error
    if done.returncode != 0:
        raise OSError(f"{command[0]}: {done.stderr.strip() or done.returncode}")
