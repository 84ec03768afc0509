"""A first recipe for somebody's own data: what lies in a folder decides task, labels, input and network."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from compress.data.detection import LabelledPicture
from compress.data.formats import detect_format, load_detections
from compress.data.speech import load_sound_folders, load_speech
from edgeai.errors import DataError, UsageError

# a box should keep about so many pixels of the model's picture: less, and the finest cells cannot tell it apart
_WANTED_SIDE_PX = 24.0
_SIZES = (256, 320, 384, 416, 512)
_MAX_WINDOW_S = 3.0
_HOP_S = 0.01


@dataclass(frozen=True, slots=True)
class Draft:
    """A recipe's text and what it is for."""

    text: str
    task: str
    labels: tuple[str, ...]
    examples: int


def draft_recipe(
    folder: Path,
    *,
    split: str = "train",
    name: str | None = None,
    start: str | None = None,
    steps: int | None = None,
    size: int | None = None,
) -> Draft:
    """A recipe for the data in `folder`, to be run with the folder's parent as the data root.

    start: a bundle to go on training from. steps: of training; by the number of examples where not given. size: of the
    model's picture, by the size of the boxes where not given. Raises DataError or DataMissingError for a folder in which
    nothing is known, UsageError for a name or size that cannot be.
    """
    folder = folder.resolve()
    name = name or re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._") or "model"
    if size is not None and (size % 32 or not 64 <= size <= 1024):
        raise UsageError(f"--size must be a multiple of 32 from 64 to 1024, got {size}")
    if (folder / f"{split}.csv").is_file() or _sound_folders(folder, split):
        return _draft_sounds(folder, split, name, start, steps)
    kind = _detection_format(folder)
    if kind is None:
        return _draft_classes(folder, split, name, start, steps, size)
    return _draft_boxes(folder, kind, split, name, start, steps, size)


def _detection_format(folder: Path) -> str | None:
    try:
        return detect_format(folder)
    except DataError:
        return None


def _draft_boxes(
    folder: Path, kind: str, split: str, name: str, start: str | None, steps: int | None, size: int | None
) -> Draft:
    data = load_detections(kind, folder, split, None)
    boxes = sum(len(p.xyxy_px) for p in data.pictures)
    if not boxes:
        raise DataError(f"{folder}: split {split!r} holds no labelled box")
    size = size or _picture_side(data.pictures)
    steps = steps or _steps(len(data), batch=12, epochs=60, least=400, most=3000)
    network, maps = _detector(start)
    text = f"""# {len(data):,} pictures with {boxes:,} boxes, {_count(data.labels, "label")}. Run with the folder above as data root:
#   edgeai-compress run RECIPE --data {_shown(folder.parent)}
name = {_text(name)}
version = "1.0.0"
task = "detect"
labels = {_list(data.labels)}
seed = 1
# attribution = ["whose pictures these are, and under which licence"]

[data]
validation = 0.15                    # held out to measure each pass on; never the test split

[[data.train]]
kind = {_text(kind)}
folder = {_text(folder.name)}
split = {_text(split)}

[data.pictures]                      # random changes of the training pictures
scale = [0.6, 1.6]
mosaic = 0.5

[input]
kind = "image"
width = {size}
height = {size}

{network}
[decoder]
name = "grid"

[decoder.params]
width = {size}
height = {size}
strides = [8, 16, 32]
layout = "maps"
activation = "sigmoid"
score_threshold = 0.4
{maps}

[budget]
max_drop = 0.1                       # a pass that loses more than so much AP50 is undone

[[passes]]
kind = "train"
fit = {{ steps = {steps}, batch = 12, learning_rate = {"3e-4" if start else "2e-3"}, average = 0.99 }}

[[passes]]
kind = "quantize"
precision = "int8"

[[passes]]
kind = "export"
formats = ["tflite/float16"]
"""
    return Draft(text, "detect", data.labels, len(data))


def _detector(start: str | None) -> tuple[str, str]:
    """The [network] table, and the decoder's maps."""
    if start is None:
        maps = 'maps = { box = ["box_8", "box_16", "box_32"], class = ["class_8", "class_16", "class_32"] }'
        params = "params = { channels = [16, 32, 64, 96, 128], head_channels = 64 }"
        return f'[network]\nkind = "plain-detector"\n{params}\n', maps
    maps = _bundle_maps(start)
    return (
        f'[network]\nkind = "bundle"                    # go on from a trained network\ninit = {_text(start)}\n',
        maps,
    )


def _bundle_maps(start: str) -> str:
    from edgeai.bundle import load_bundle

    known = load_bundle(start).manifest.decoder.params.get("maps")
    if not isinstance(known, dict):
        raise UsageError(
            f"--from {start}: its decoder has no maps by stride, so no detector can go on from it"
        )
    parts = ", ".join(f"{kind} = {_list([str(n) for n in names])}" for kind, names in known.items())
    return f"maps = {{ {parts} }}"


def _draft_classes(
    folder: Path, split: str, name: str, start: str | None, steps: int | None, size: int | None
) -> Draft:
    from compress.data.formats.folders import load_picture_folders

    data = load_picture_folders(folder, split, None)
    size = size or 128
    steps = steps or _steps(len(data), batch=32, epochs=60, least=400, most=4000)
    network = f'kind = "bundle"\ninit = {_text(start)}' if start else 'kind = "cnn-classifier"'
    text = f"""# {len(data):,} pictures of {_count(data.labels, "label")}. Run with the folder above as data root:
#   edgeai-compress run RECIPE --data {_shown(folder.parent)}
name = {_text(name)}
version = "1.0.0"
task = "classify"
labels = {_list(data.labels)}
seed = 1

[data]
validation = 0.15

[[data.train]]
kind = "picture-folders"
folder = {_text(folder.name)}
split = {_text(split)}

[data.pictures]
scale = [0.8, 1.4]
move = 0.1

[input]
kind = "image"
width = {size}
height = {size}

[network]
{network}

[decoder]
name = "class"
params = {{ activation = "softmax" }}

[budget]
max_drop = 0.05

[[passes]]
kind = "train"
fit = {{ steps = {steps}, batch = 32, learning_rate = 2e-3, average = 0.995 }}

[[passes]]
kind = "quantize"
precision = "int8"
"""
    return Draft(text, "classify", data.labels, len(data))


def _draft_sounds(folder: Path, split: str, name: str, start: str | None, steps: int | None) -> Draft:
    listed = (folder / f"{split}.csv").is_file()
    kind, load = ("speech", load_speech) if listed else ("sound-folders", load_sound_folders)
    clips = load(folder, split, None, samples=1)
    labels, paths = clips.labels, clips.paths
    rate, window_s = _clip_shape(paths)
    steps = steps or _steps(len(paths), batch=64, epochs=80, least=600, most=4000)
    frames = max(20, round(window_s / _HOP_S) - 2)
    noises = folder.parent / "background_noise"
    network = f'kind = "bundle"\ninit = {_text(start)}' if start else 'kind = "ds-tc-resnet"'
    text = f"""# {len(paths):,} clips of {_count(labels, "label")}. Run with the folder above as data root:
#   edgeai-compress run RECIPE --data {_shown(folder.parent)}
name = {_text(name)}
version = "1.0.0"
task = "keyword"
labels = {_list(labels)}
seed = 1

[data]
validation = 0.15                    # whole speakers, where they are known
{f"noises = {_text(noises.name)}" if noises.is_dir() else '# noises = "a folder of background recordings"'}

[[data.train]]
kind = {_text(kind)}
folder = {_text(folder.name)}
split = {_text(split)}

[input]
kind = "logmel"
sample_rate_hz = {rate}
window_samples = {round(0.03 * rate)}
hop_samples = {round(_HOP_S * rate)}
fft_size = {1 << math.ceil(math.log2(0.03 * rate))}
mels = 40
low_hz = 60.0
high_hz = {0.475 * rate:.1f}
floor = 0.003
offset = 1.5
scale = 7.4
frames = {frames}

[network]
{network}

[decoder]
name = "keyword"
params = {{ activation = "softmax", average_s = 0.3, step_s = 0.1, threshold = 0.6 }}

[budget]
max_drop = 0.05

[[passes]]
kind = "train"
fit = {{ steps = {steps}, batch = 64, learning_rate = 3e-3, weight_decay = 1e-3, average = 0.995 }}

[[passes]]
kind = "quantize"
precision = "int8"

[[passes]]
kind = "export"
formats = ["onnx/float32"]
"""
    return Draft(text, "keyword", labels, len(paths))


def _clip_shape(paths: Sequence[Path], *, looked_at: int = 200) -> tuple[int, float]:
    """The commonest sample rate of some clips, and a window in seconds that holds nearly all of them."""
    import soundfile

    rates: list[int] = []
    seconds: list[float] = []
    for index in np.linspace(0, len(paths) - 1, min(looked_at, len(paths))).astype(int):
        try:
            info = soundfile.info(str(paths[index]))
        except (soundfile.SoundFileError, OSError):
            continue  # data check tells of it
        rates.append(int(info.samplerate))
        seconds.append(float(info.duration))
    if not rates:
        raise DataError(
            f"none of the first clips beside {paths[0]} can be read", next_step="run data check on it"
        )
    rate = max(set(rates), key=rates.count)
    return min(max(rate, 8000), 16000), min(_MAX_WINDOW_S, max(0.5, float(np.percentile(seconds, 98))))


def _picture_side(pictures: Sequence[LabelledPicture]) -> int:
    """The smallest size in which a typical small box (lower quarter) keeps _WANTED_SIDE_PX."""
    sides = []
    for picture in pictures:
        boxes, longest = picture.xyxy_px, max(picture.width, picture.height)
        sides += [float(side) for side in np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)) / longest]
    share = float(np.percentile(sides, 25))
    return next((size for size in _SIZES if size * share >= _WANTED_SIDE_PX), _SIZES[-1])


def _steps(examples: int, *, batch: int, epochs: int, least: int, most: int) -> int:
    return int(min(most, max(least, round(examples * epochs / batch, -2))))


def _sound_folders(folder: Path, split: str) -> bool:
    place = folder / split if (folder / split).is_dir() else folder
    return any(p.suffix.lower() in (".wav", ".flac", ".ogg") for p in place.glob("*/*"))


def _count(labels: Sequence[str], noun: str) -> str:
    return f"{len(labels)} {noun}{'' if len(labels) == 1 else 's'}"


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _list(values: Sequence[str]) -> str:
    return "[" + ", ".join(_text(value) for value in values) + "]"


def _shown(path: Path) -> str:
    """A path for people: as it is from where they stand, if that is shorter."""
    try:
        return str(path.relative_to(Path.cwd())) or "."
    except ValueError:
        return str(path)
