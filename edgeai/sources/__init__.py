"""Where pictures and sounds come from. `open_camera` says what a camera's address means."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import unquote, urlparse

from edgeai.errors import SourceFormatError
from edgeai.sources.image_folder import IMAGE_SUFFIXES
from edgeai.sources.source import Source
from edgeai.types import Frame

__all__ = ["CAMERAS", "Source", "open_camera"]


def _open_video(where: str, stream: str, realtime: bool) -> Source[Frame]:
    from edgeai.sources.video_file import VideoFile

    return VideoFile(where, stream=stream, realtime=realtime)


def _open_pictures(where: str, stream: str, realtime: bool) -> Source[Frame]:
    from edgeai.sources.image_folder import ImageFolder

    return ImageFolder(where, stream=stream)


# the kind of an address -> what opens it; a camera, a stream or a pipeline adds its own line here
CAMERAS: Mapping[str, Callable[[str, str, bool], Source[Frame]]] = {
    "video": _open_video,
    "pictures": _open_pictures,
}


def open_camera(uri: str, *, stream: str, realtime: bool = False) -> Source[Frame]:
    """The source of frames that `uri` names, not yet opened: `with` does that.

    uri: a path, or file:// with one: a video, a picture, or a folder of pictures. realtime: a video plays at its own
    speed, no frame dropped; `Latest` around it drops what the reader is too slow for.
    Raises SourceFormatError for an address of another kind; opening raises what the source raises.
    """
    scheme, separator, _ = uri.partition("://")
    if separator and scheme != "file":
        # never the address itself: it may hold a password
        raise SourceFormatError(
            f"stream {stream!r} has an address of the kind {scheme}://, known are files and folders",
            next_step="give the path of a video, a picture or a folder of pictures",
        )
    path = unquote(urlparse(uri).path) if separator else uri
    pictures = Path(path).is_dir() or Path(path).suffix.lower() in IMAGE_SUFFIXES
    return CAMERAS["pictures" if pictures else "video"](path, stream, realtime)
