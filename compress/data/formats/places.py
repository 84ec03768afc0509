"""Where pictures lie: found by the names that label files give them, never outside their folder; and put for a writer."""

from __future__ import annotations

import contextlib
import filecmp
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Literal
from zlib import crc32

from edgeai.console import progress_bar
from edgeai.errors import DataError, DataMissingError

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
MAX_LISTED = 2_000_000
Transfer = Literal["copy", "link"]

# what imagesize reads by itself; its SVG would be XML, and is no picture here
_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"GIF8")


def is_picture(path: Path) -> bool:
    """Whether it is named like a picture and no hidden file."""
    return path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")


def list_pictures(folder: Path) -> list[Path]:
    """Every picture in a folder and the folders in it, in order of their names. Symbolic links to folders are not followed.

    Raises DataMissingError where there is no folder or no picture, DataError for over 2,000,000.
    """
    if not folder.is_dir():
        raise DataMissingError(f"no folder {folder}")
    found: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found.extend(path for path in map(Path(where).joinpath, sorted(names)) if is_picture(path))
        if len(found) > MAX_LISTED:
            raise DataError(f"{folder} holds more than {MAX_LISTED:,} pictures")
    if not found:
        raise DataMissingError(f"no pictures in {folder} ({', '.join(s[1:] for s in PICTURE_SUFFIXES)})")
    return found


def folder_files(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """The files of such names directly in a folder, in order of their names; empty where there is no folder."""
    try:  # texts are sorted: paths compare slowly
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
    except OSError:
        return []
    return [folder / name for name in names if name.lower().endswith(tuple(suffixes)) and name[0] != "."]


def folder_pictures(folder: Path) -> list[Path]:
    """As folder_files, of pictures."""
    return folder_files(folder, PICTURE_SUFFIXES)


def picture_size(path: Path) -> tuple[int, int]:
    """(width, height) as OpenCV would decode it, EXIF rotation included, from the header where that is enough.

    Raises DataError where the file is no picture.
    """
    import imagesize  # type: ignore[import-untyped]

    try:
        with path.open("rb") as file:
            if file.read(8).startswith(_MAGIC):
                file.seek(0)
                width, height = imagesize.get(file)
                if width > 0 and height > 0:
                    return int(width), int(height)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    except Exception:  # noqa: S110  whatever its parser meets in a broken file: decoding decides
        pass
    from compress.data.detection import read_picture

    height, width = read_picture(path).shape[:2]
    return width, height


def safe_parts(name: str, where: Path) -> tuple[str, ...]:
    """The parts of a path that a label file names, a drive and a leading / left out.

    Raises DataError where it is empty, holds `..` or a control character.
    """
    parts = tuple(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
    if not parts or len(name) > 4096 or re.search(r"[\x00-\x1f\x7f]", name):
        raise DataError(f"{where} names a picture {name[:60]!r}, which cannot be a file's name")
    if ".." in parts:
        raise DataError(f"{where} names the picture {name[:60]!r}, outside its folder")
    return parts


@contextlib.contextmanager
def long_bar(description: str, total: int, *, least: int) -> Iterator[Callable[[int], object]]:
    """A progress bar where there are at least `least` things to do, none where it would be gone at once."""
    if total < least:
        yield lambda _: None
    else:
        with progress_bar(description, total) as advance:
            yield advance


class PictureFinder:
    """Finds what label file `where` names, in the first of `folders` that has it.

    Names come from other machines: where the whole is not there, leading parts are dropped one by one, so that
    /home/ann/set/a.jpg is looked for as home/ann/set/a.jpg, ann/set/a.jpg, set/a.jpg and a.jpg.
    """

    def __init__(self, where: Path, folders: Sequence[Path]) -> None:
        self._where = where
        self._folders = [os.fspath(folder) for folder in dict.fromkeys(folders) if folder.is_dir()]
        self._last = (0, 0)  # the folder and the count of dropped parts that served last

    def find(self, name: str, *, also: Callable[[str], str | None] | None = None) -> Path:
        """The picture's path. also: another name to try for a last part that is not there.

        Raises DataError for a name that leads outside, DataMissingError where no folder has it.
        """
        parts = safe_parts(name, self._where)
        for number, dropped in self._tries(len(parts)):
            path = os.path.join(self._folders[number], *parts[dropped:])  # noqa: PTH118  50,000 times: text is faster
            if os.path.isfile(path):  # noqa: PTH113  and it takes any text
                self._last = (number, dropped)
                return Path(path)
        other = also(parts[-1]) if also else None
        if other is not None:
            return self.find(other)
        beside = self._folders[0] if self._folders else self._where.parent
        raise DataMissingError(f"{self._where} lists {parts[-1][:80]}, which is not in {beside}")

    def _tries(self, length: int) -> Iterator[tuple[int, int]]:
        if self._folders and self._last[1] < length:
            yield self._last
        for dropped in range(length):
            for number in range(len(self._folders)):
                yield number, dropped


def choose_split(found: Sequence[str], split: str, where: Path) -> str:
    """The name among `found` that `split` means: itself, or another spelling of validation; letters' case is no matter.

    A folder without splits (`found` is empty) is "all", and may be called train. Raises DataMissingError.
    """
    if not found:
        if split in ("all", "train"):
            return "all"
        raise DataMissingError(f"{where} has no splits, so no {split!r}; it can be read as train or all")
    if split in found:
        return split
    meant = next((name for name in found if plain_split(name) == plain_split(split)), None)
    if meant is None:
        raise DataMissingError(f"{where} has no split {split!r}; there is {', '.join(found[:12])}")
    return meant


def plain_split(name: str) -> str:
    """A split's name in small letters, without a release's year: val for val2017, valid and validation."""
    plain = re.sub(r"(19|20)\d\d$", "", name.lower()).rstrip("-_ ")
    return "val" if plain in ("valid", "validation") else plain


def place_pictures(paths: Sequence[Path], folder: Path, *, pictures: Transfer) -> list[str]:
    """Copy or symbolically link pictures into one folder; the name that each has there.

    Names are kept unless two pictures would share one, its suffix left aside, or it is no printable text; what is
    there already with the same content stays. Raises DataMissingError, DataError.
    """
    taken: dict[str, str] = {}
    if folder.is_dir():
        taken = {Path(entry.name).stem.casefold(): entry.name for entry in os.scandir(folder)}
    there = set(taken)
    names = []
    with long_bar(f"pictures to {folder.name}", len(paths), least=300) as advance:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for path in paths:
                names.append(_place(path, folder, taken, there, pictures))
                advance(1)
        except FileNotFoundError as error:
            raise DataMissingError(f"no picture {error.filename}") from error
        except OSError as error:
            raise DataError(f"pictures cannot be put into {folder}: {error.strerror or error}") from error
    return names


def _place(path: Path, folder: Path, taken: dict[str, str], there: set[str], pictures: Transfer) -> str:
    for name in _free_names(path):
        key = PurePosixPath(name).stem.casefold()
        target = folder / name
        if key in there and taken[key] == name and _same(path, target):
            there.discard(key)  # from an earlier run; a second picture of this one needs another name
            return name
        if key not in taken:
            if pictures == "link":
                target.symlink_to(path.resolve(strict=True))
            else:
                part = folder / f".{name}.part"
                shutil.copyfile(path, part)
                part.replace(target)
            taken[key] = name
            return name
    raise DataError(f"{folder} has no name left for {path}")


def _same(one: Path, other: Path) -> bool:
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def _free_names(path: Path) -> Iterator[str]:
    stem, suffix = (re.sub(r"[^\w.() +@=,~-]", "_", text).strip(" ") for text in (path.stem, path.suffix))
    stem = stem.lstrip(".") or "picture"
    yield f"{stem}{suffix}"
    yield f"{re.sub(r'[^0-9A-Za-z_-]', '_', path.parent.name)}-{stem}{suffix}"
    for salt in range(100):
        yield f"{stem}-{crc32(os.fsencode(path), salt):08x}{suffix}"
