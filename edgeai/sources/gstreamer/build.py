"""Elements become a pipeline: made, set, and linked, at once or as soon as they know what they give."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from edgeai.errors import SourceError, SourceFormatError
from edgeai.faults import nearest_hint
from edgeai.sources.gstreamer.bindings import Gst
from edgeai.sources.gstreamer.elements import package_of
from edgeai.sources.gstreamer.parse import Element

# GStreamer is quick at four bytes a pixel and slow at three, and boards' own converters give four
_TAIL: Final = (Element("videoconvert"), Element("capsfilter", {"caps": "video/x-raw,format={BGRx,BGR}"}))
# GstAutoplugSelectResult: go on with it, show the stream as it is, take another
_TRY, _EXPOSE, _SKIP = 0, 1, 2
_YES, _NO = frozenset({"true", "t", "yes", "1"}), frozenset({"false", "f", "no", "0"})


@dataclass(slots=True)
class Line:
    """A pipeline with our end. misfits: why no stream that came was taken, said by GStreamer's threads."""

    pipeline: Any
    sink: Any
    misfits: list[SourceError] = field(default_factory=list)


def build_line(
    gst: Gst,
    elements: Sequence[Element],
    *,
    live: bool,
    paced: bool,
    defaults: Mapping[str, Mapping[str, str]],
) -> Line:
    """The pipeline of these elements, not started.

    live: the newest picture alone is kept, else each waits to be taken. paced: a file plays at its own speed. defaults: by
    element, what is set in it where `elements` does not; a source that another one makes for itself gets them too.
    Raises SourceError for an element that is not installed, SourceFormatError for a property's value or two elements that
    do not fit.
    """
    line = Line(gst.core.Pipeline.new(None), _made(gst, "appsink"))
    parts = (*elements, *_TAIL)
    made = [_prepared(gst, part, defaults, line) for part in parts]
    for name, value in {
        "max-buffers": 1 if live else 4,
        "drop": live,
        "sync": paced and not live,
        "qos": False,
        "enable-last-sample": False,
    }.items():
        line.sink.set_property(name, value)
    for each in (*made, line.sink):
        line.pipeline.add(each)
    names = [part.properties["caps"] if part.name == "capsfilter" else part.name for part in parts]
    for (before, after), (giver, taker) in zip(
        itertools.pairwise((*made, line.sink)), itertools.pairwise((*names, "appsink")), strict=True
    ):
        _link(gst, before, after, giver, taker, line.misfits)
    return line


def _prepared(gst: Gst, element: Element, defaults: Mapping[str, Mapping[str, str]], line: Line) -> Any:
    made = _made(gst, element.name)
    for key, text in {**defaults.get(element.name, {}), **element.properties}.items():
        _set(gst, made, element.name, key, text)
    if element.name == "rtspsrc":
        made.connect("select-stream", _first_video())
    if element.name in {"decodebin", "parsebin", "uridecodebin"}:
        made.connect("autoplug-select", _guard(line.misfits))
    if element.name == "uridecodebin":

        def on_source(_: Any, source: Any) -> None:
            name = source.get_factory().get_name()
            for key, text in defaults.get(name, {}).items():
                _set(gst, source, name, key, text)
            if name == "rtspsrc":
                source.connect("select-stream", _first_video())

        made.connect("source-setup", on_source)
    return made


def _made(gst: Gst, name: str) -> Any:
    try:
        element = gst.core.ElementFactory.make(name, None)
    except Exception:  # with Python's overrides for GStreamer installed, newer ones raise here
        element = None
    if element is None:
        raise SourceError(
            f"GStreamer has no element {name!r} on this machine", next_step=f"install {package_of(name)}"
        )
    return element


def _set(gst: Gst, made: Any, name: str, key: str, text: str) -> None:
    """One property, from text. GStreamer itself would leave out what it cannot read."""
    spec = made.find_property(key)
    if spec is None:
        raise SourceFormatError(f"element {name!r} of this GStreamer has no property {key!r}")
    kind = spec.value_type.fundamental.name
    if kind == "gchararray":
        made.set_property(key, text)  # as it is: util_set_object_arg would take a leading quote for syntax
        return
    problem = ""
    if spec.value_type.name == "GstCaps":
        caps = gst.core.Caps.from_string(text)
        if caps is None:
            raise SourceFormatError(f"{text!r} is no description of a stream")
        made.set_property(key, caps)
        return
    if kind == "GEnum":
        values = spec.enum_class.__enum_values__
        nicks = [value.value_nick for value in values.values()]
        known = [*nicks, *(value.value_name for value in values.values()), *map(str, map(int, values))]
        problem = "" if text in known else nearest_hint(text, nicks)
    elif kind == "GFlags":
        nicks = [each.first_value_nick for each in spec.flags_class.__flags_values__.values()]
        wrong = [part for part in text.split("+") if part not in nicks and not part.isdecimal()]
        problem = nearest_hint(wrong[0], nicks) if wrong else ""
    elif kind == "gboolean":
        problem = "" if text.lower() in _YES | _NO else "must be true or false"
    elif kind in {"gint", "guint", "gint64", "guint64", "gfloat", "gdouble"}:
        problem = _range_problem(text, spec.minimum, spec.maximum, whole="int" in kind)
    if problem:
        raise SourceFormatError(f"element {name!r}: {key} cannot be {text!r}", next_step=problem)
    gst.core.util_set_object_arg(made, key, text)


def _range_problem(text: str, least: float, most: float, *, whole: bool) -> str:
    """What is wrong with a number; empty where nothing is.

    >>> _range_problem("7", 0, 5, whole=True), _range_problem("5", 0, 5, whole=True)
    ('must be a whole number from 0 to 5', '')
    """
    plain = re.fullmatch(r"[+-]?\d{1,20}" if whole else r"[+-]?\d{1,20}(\.\d{1,20})?", text, re.ASCII)
    value = (int(text) if whole else float(text)) if plain else math.nan
    return "" if least <= value <= most else f"must be a {'whole ' * whole}number from {least} to {most}"


def _first_video() -> Callable[[Any, int, Any], bool]:
    """Of an RTSP stream's parts the first with pictures: neither sound nor what analytics send beside them is fetched."""
    chosen: list[int] = []

    def select(_: Any, number: int, caps: Any) -> bool:
        if _kind_of(caps) not in {"video", ""}:
            return False
        if not chosen:
            chosen.append(number)
        return chosen == [number]

    return select


def _guard(misfits: list[SourceError]) -> Callable[[Any, Any, Any, Any], int]:
    """What a decodebin may make by itself: parsers, demuxers and decoders of pictures.

    A playlist (HLS, DASH) names addresses and files that its demuxer would open, whoever wrote it.
    """

    def select(_bin: Any, _pad: Any, caps: Any, factory: Any) -> int:
        if _kind_of(caps) in {"audio", "text", "subpicture"}:
            return _EXPOSE  # it is not linked, and costs nothing
        kind = factory.get_metadata("klass") or ""
        if kind.startswith("Codec/") and "Adaptive" not in kind:
            return _TRY
        misfits.append(
            SourceFormatError(
                f"the pipeline met what is not followed, a playlist or a description ({factory.get_name()})",
                next_step="give the stream's own address",
            )
        )
        return _SKIP

    return select


def _link(gst: Gst, before: Any, after: Any, giver: str, taker: str, misfits: list[SourceError]) -> None:
    """Now, or as soon as `before` knows what it gives: demuxers, streams, decoders that choose."""
    if before.link(after):
        return
    core = gst.core
    if not any(
        template.direction == core.PadDirection.SRC and template.presence == core.PadPresence.SOMETIMES
        for template in before.get_pad_template_list()
    ):
        raise SourceFormatError(f"{taker} does not take what {giver} gives")

    def on_pad(_: Any, pad: Any) -> None:
        target = after.get_static_pad("sink")
        caps = pad.get_current_caps() or pad.query_caps(None)
        if target is None or target.is_linked():
            return
        kind = _kind_of(caps)
        if kind in {"audio", "text", "subpicture"}:
            misfits.append(SourceFormatError(f"{giver} gives no pictures, but {kind}"))
            return
        try:
            linked = pad.link(target) == core.PadLinkReturn.OK
        except Exception:  # with Python's overrides for GStreamer installed, it raises
            linked = False
        if linked:
            misfits.clear()
        else:
            name = caps.get_structure(0).get_name() if caps.get_size() else "something"
            told = f"{taker} does not take what {giver} gives, which is {name}"
            misfits.insert(0, SourceFormatError(told))  # it says more than that there is sound too

    def on_all_pads(_: Any) -> None:
        target = after.get_static_pad("sink")
        if target is not None and not target.is_linked() and not misfits:
            misfits.append(SourceFormatError(f"{giver} gives no pictures"))

    before.connect("pad-added", on_pad)
    before.connect("no-more-pads", on_all_pads)


def _kind_of(caps: Any) -> str:
    """What a stream's caps say that it is (video, audio, image, text), of RTP what it carries; empty where that is not known."""
    if caps is None or not caps.get_size() or caps.is_any():
        return ""
    structure = caps.get_structure(0)
    kind = str(structure.get_name()).partition("/")[0]
    return kind if kind != "application" else structure.get_string("media") or ""
