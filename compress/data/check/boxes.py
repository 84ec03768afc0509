"""What can be wrong with the boxes of one picture."""

from __future__ import annotations

import math

from compress.data.check.listing import Box, Entry
from compress.data.check.report import Fault

# label tools round to a pixel or to half a percent of the side; what sticks out no further is no fault
ROUNDING_PX = 1.0
ROUNDING_SHARE = 0.005
TINY_PX = 1.0
SAME_IOU = 0.98


def find_box_faults(entry: Entry, size: tuple[int, int]) -> list[Fault]:
    """Faults of an entry's boxes in a picture of (width, height) pixels; a picture without boxes is told too."""
    if not entry.boxes:
        return [Fault("no-boxes", entry.split, entry.file)] if entry.width else []
    if _normalised(entry.boxes, size):
        return [
            Fault("box-normalised", entry.split, entry.file, f"{len(entry.boxes)} boxes", entry.boxes[0].row)
        ]
    faults = []
    sound = []
    for box in entry.boxes:
        found = judge_box(box.xyxy_px, size)
        if found is not None:
            faults.append(Fault(found, entry.split, entry.file, _written(box), box.row))
        if found not in ("box-not-finite", "box-empty") and not box.crowd:
            sound.append(box)
    return faults + _doubled(entry, sound)


def judge_box(xyxy_px: tuple[float, float, float, float], size: tuple[int, int]) -> str | None:
    """The code of what is wrong with a box in a picture of (width, height) pixels, the worst first; None where all is well."""
    if not all(map(math.isfinite, xyxy_px)):
        return "box-not-finite"
    x1, y1, x2, y2 = xyxy_px
    if x2 <= x1 or y2 <= y1:
        return "box-empty"
    width, height = size
    if x1 >= width or y1 >= height or x2 <= 0 or y2 <= 0:
        return "box-outside"
    if min(x2 - x1, y2 - y1) < TINY_PX:
        return "box-tiny"
    slack_x, slack_y = (max(ROUNDING_PX, ROUNDING_SHARE * side) for side in size)
    if x1 < -slack_x or y1 < -slack_y or x2 > width + slack_x or y2 > height + slack_y:
        return "box-cut"
    return None


def overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    """Intersection over union of two boxes that have an area."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _normalised(boxes: tuple[Box, ...], size: tuple[int, int]) -> bool:
    """Whether every box lies within 0..1 of a picture that is larger."""
    return min(size) > 8 and all(
        all(0 <= v <= 1 for v in box.xyxy_px) and box.xyxy_px[2] > box.xyxy_px[0] for box in boxes
    )


def _doubled(entry: Entry, boxes: list[Box]) -> list[Fault]:
    """The second of two boxes in one place: of one class a duplicate, of two a conflict."""
    faults = []
    by_left = sorted(boxes, key=lambda box: (box.xyxy_px[0], box.row))
    for i, first in enumerate(by_left):
        reach = (first.xyxy_px[2] - first.xyxy_px[0]) * (1 - SAME_IOU) / SAME_IOU
        for second in by_left[i + 1 :]:
            if second.xyxy_px[0] - first.xyxy_px[0] > reach:
                break
            if overlap(first.xyxy_px, second.xyxy_px) < SAME_IOU:
                continue
            later, earlier = (first, second) if first.row > second.row else (second, first)
            if later.label == earlier.label:
                faults.append(Fault("box-duplicate", entry.split, entry.file, _written(later), later.row))
            else:
                classes = f"{earlier.label} and {later.label}, {_written(later)}"
                faults.append(Fault("box-conflict", entry.split, entry.file, classes, later.row))
    return faults


def _written(box: Box) -> str:
    x1, y1, x2, y2 = box.xyxy_px
    return f"{box.label} {x1:g}, {y1:g} to {x2:g}, {y2:g}"
