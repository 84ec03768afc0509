"""MediaPipe's metadata into a TFLite detector that has its own NMS: ObjectDetector takes no other. FROM TO LABELS, a line each.

The wheels lack the compiled part that MediaPipe's writer asks for the least version of its parser; that answer is put in its place.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

PREFIX = "mediapipe.tasks.cc"
NAMES = (
    PREFIX,
    f"{PREFIX}.metadata",
    f"{PREFIX}.metadata.python",
    f"{PREFIX}.metadata.python._pywrap_metadata_version",
)


def main():
    for name in NAMES:
        sys.modules[name] = ModuleType(name)
    last = sys.modules[NAMES[-1]]
    last.GetMinimumMetadataParserVersion = lambda content: "1.0.0"
    sys.modules[NAMES[-2]]._pywrap_metadata_version = last
    from mediapipe.tasks.python.metadata.metadata_writers import metadata_writer, object_detector

    source, target, labels = (Path(argument) for argument in sys.argv[1:])
    names = labels.read_text().splitlines()[1:]  # the first stands for the background
    writer = object_detector.MetadataWriter.create_for_models_with_nms(
        bytearray(source.read_bytes()), [127.5], [127.5], labels=metadata_writer.Labels().add(names)
    )
    target.write_bytes(writer.populate()[0])


if __name__ == "__main__":
    main()
