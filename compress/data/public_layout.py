"""Makes our lists of what public sets unpack to. Each function gets the folder of one unpacked set.

After it the folder has lists that every command takes (`<split>.csv`, `instances_<split>.json` and images/).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from pathlib import Path

from compress.data.confined import confined
from edgeai.errors import DataError

DEEPPCB_CLASSES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")


def list_speech_commands(folder: Path) -> None:
    """all.csv, and train, validation and test.csv by the lists that come along (Warden 2018, section 7)."""
    rows = []
    for path in sorted(folder.glob("*/*.wav")):
        word = path.parent.name
        if word == "_background_noise_":
            continue
        label = word.strip("_")
        speaker = path.name.partition("_nohash_")[0] if "_nohash_" in path.name else "none"
        rows.append((path.relative_to(folder).as_posix(), label, speaker.rpartition("_")[2]))
    official = {
        "test": _lines(folder / "testing_list.txt"),
        "validation": _lines(folder / "validation_list.txt"),
    }
    _write(folder, "all", ("file", "label", "speaker"), rows)
    if official["test"] and official["validation"]:
        held = official["test"] | official["validation"]
        _write(folder, "train", ("file", "label", "speaker"), [row for row in rows if row[0] not in held])
        for split, files in official.items():
            _write(folder, split, ("file", "label", "speaker"), [row for row in rows if row[0] in files])


def list_fsdd(folder: Path) -> None:
    """all.csv of <digit>_<speaker>_<n>.wav; `data split --by speaker` parts it."""
    rows = []
    for path in sorted(folder.glob("*/recordings/*.wav")) or sorted(folder.glob("recordings/*.wav")):
        digit, _, rest = path.stem.partition("_")
        rows.append((path.relative_to(folder).as_posix(), digit, rest.rpartition("_")[0]))
    _write(folder, "all", ("file", "digit", "speaker"), rows)


def list_coco_val2017(folder: Path) -> None:
    """images/ and instances_val2017.json."""
    pictures, labels = folder / "val2017", folder / "annotations" / "instances_val2017.json"
    if not pictures.is_dir() or not labels.is_file():
        raise DataError("the archives hold no val2017/ and annotations/instances_val2017.json")
    pictures.rename(folder / "images")
    labels.rename(folder / "instances_val2017.json")


def list_deeppcb(folder: Path) -> None:
    """images/, instances_train.json and instances_test.json by the authors' lists; the group is the board's.

    A line of their lists names picture and labels; the tested picture ends in _test.jpg, a label is x1 y1 x2 y2 class.
    """
    root = next((p.parent for p in sorted(folder.rglob("trainval.txt"))), None)
    if root is None:
        raise DataError("the archive holds no trainval.txt")
    images = folder / "images"
    images.mkdir(exist_ok=True)
    for split, name in (("train", "trainval.txt"), ("test", "test.txt")):
        pictures: list[dict[str, object]] = []
        boxes: list[dict[str, object]] = []
        for line in sorted(_lines(root / name)):
            listed, _, labels = line.partition(" ")
            number = Path(listed).stem
            source = _inside(root, str(Path(listed).with_name(f"{number}_test.jpg")))
            source.rename(images / source.name)
            row = {"id": len(pictures) + 1, "file_name": source.name, "width": 640, "height": 640}
            pictures.append({**row, "group": Path(listed).parts[0]})
            for label in sorted(_lines(_inside(root, labels.strip()))):
                x1, y1, x2, y2, kind = (int(v) for v in label.replace(",", " ").split())
                box = {"id": len(boxes) + 1, "image_id": row["id"], "category_id": kind, "iscrowd": 0}
                boxes.append({**box, "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)})
        categories = [{"id": i, "name": label} for i, label in enumerate(DEEPPCB_CLASSES, 1)]
        whole = {"images": pictures, "annotations": boxes, "categories": categories}
        (folder / f"instances_{split}.json").write_text(json.dumps(whole))


LAYOUTS: dict[str, Callable[[Path], None]] = {
    "speech_commands": list_speech_commands,
    "fsdd": list_fsdd,
    "coco_val2017": list_coco_val2017,
    "deeppcb": list_deeppcb,
}


def _inside(root: Path, name: str) -> Path:
    path = confined(root, name)
    if path is None or not path.is_file():
        raise DataError(f"the archive's list names {name[:80]!r}, which is not in it")
    return path


def _lines(path: Path) -> set[str]:
    if not path.is_file():
        return set()
    return {line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()}


def _write(folder: Path, split: str, columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    rows = list(rows)
    if not rows:
        raise DataError(f"the archive holds no sounds for {split}.csv")
    with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
