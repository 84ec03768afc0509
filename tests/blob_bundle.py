"""A detector that finds white squares, as a bundle of 2 KB, and videos of squares that walk: runs with known ends."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgeai.bundle import Bundle, write_bundle

MODEL = Path(__file__).resolve().parent / "golden" / "blob" / "blob.tflite"
SIDE_PX = 64
SQUARE_PX = 16


def blob_fields() -> dict:
    return {
        "name": "blob",
        "task": "detect",
        "input": {"kind": "image", "width": SIDE_PX, "height": SIDE_PX, "std": [255.0, 255.0, 255.0]},
        "decoder": {
            "name": "grid",
            "params": {
                "width": SIDE_PX,
                "height": SIDE_PX,
                "strides": [8],
                "layout": "maps",
                "maps": {"box": ["box"], "class": ["blob"]},
                "score_threshold": 0.4,
                "nms_iou": 0.1,
            },
        },
        "labels": ["blob"],
        "licence": "Apache-2.0",
        "files": [{"path": "model.tflite", "format": "tflite", "precision": "float32"}],
    }


def write_blob_bundle(folder: Path) -> Bundle:
    return write_bundle(folder, blob_fields(), {"model.tflite": MODEL})


def picture(x_px: int | None, y_px: int = 24) -> np.ndarray:
    """(64, 64, 3) uint8, black, with a white square at x_px; None for none."""
    image = np.zeros((SIDE_PX, SIDE_PX, 3), np.uint8)
    if x_px is not None:
        image[y_px : y_px + SQUARE_PX, x_px : x_px + SQUARE_PX] = 255
    return image


def write_walk(path: Path, *, frames: int = 40, fps: float = 20.0) -> Path:
    """A square that walks once from the left edge to the right one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (SIDE_PX, SIDE_PX))
    for index in range(frames):
        writer.write(picture(round(index * (SIDE_PX - SQUARE_PX) / max(1, frames - 1))))
    writer.release()
    return path


def write_blob_config(folder: Path, port: int, *, realtime: bool, more: str = "") -> Path:
    """device.toml: a broker on this machine, camera "gate" on video.avi with the bundle in ./blob, every track told, and
    the line "middle". more: what follows [mqtt]'s host and port.
    """
    path = folder / "device.toml"
    path.write_text(f"""\
device = "cam"
[mqtt]
host = "127.0.0.1"
port = {port}
{more}
[[cameras]]
name = "gate"
source = "video.avi"
model = "./blob"
realtime = {str(realtime).lower()}
tracker = {{ lost_s = 0.05, confirm_hits = 1 }}
[[cameras.rules]]
kind = "track"
[[cameras.rules]]
kind = "line"
name = "middle"
a = [0.5, 0.0]
b = [0.5, 1.0]
forward = "left"
backward = "right"
""")
    return path
