"""Pipelines as text: what may be in them, what a board's own look like, and what is refused."""

from __future__ import annotations

import pytest

from edgeai.errors import EdgeError, SourceError, SourceFormatError
from edgeai.profile import list_profiles
from edgeai.sources.addresses import parse_address
from edgeai.sources.gstreamer.boards import csi_pipeline, hardware_rtsp, open_pipeline, rtsp_pipeline
from edgeai.sources.gstreamer.elements import FILTERS, SOURCES, package_of
from edgeai.sources.gstreamer.parse import Element, is_live, parse_pipeline
from edgeai.sources.request import CameraRequest
from edgeai.sources.settings import CaptureSettings

PROFILES = {profile.name: profile for profile in list_profiles()}


def request(profile=None, **capture):
    return CameraRequest("gate", profile=PROFILES.get(profile), capture=CaptureSettings(**capture))


def text(elements):
    """As gst-launch would have it."""
    return " ! ".join(
        each.properties["caps"]
        if each.name == "capsfilter"
        else " ".join([each.name, *(f"{key}={value}" for key, value in each.properties.items())])
        for each in elements
    )


def test_a_pipeline_is_taken_apart():
    assert parse_pipeline(
        'filesrc location="/a b/c!.mp4" ! qtdemux ! h264parse ! avdec_h264 max-threads=1 ! video/x-raw, width=640'
    ) == (
        Element("filesrc", {"location": "/a b/c!.mp4"}),
        Element("qtdemux"),
        Element("h264parse"),
        Element("avdec_h264", {"max-threads": "1"}),
        Element("capsfilter", {"caps": "video/x-raw, width=640"}),
    )
    quoted = parse_pipeline(r'filesrc location="/a\"b\\c"')
    assert quoted[0].properties == {"location": '/a"b\\c'}
    (source, caps) = parse_pipeline("nvarguscamerasrc ! video/x-raw(memory:NVMM),format=NV12,framerate=30/1")
    assert (source.name, caps.name) == ("nvarguscamerasrc", "capsfilter")


REFUSED = {
    "": "nothing before",
    "videotestsrc !": "nothing before",
    "! videotestsrc": "nothing before",
    "videotestsrc ! filesink location=/etc/passwd": "'filesink' is not one",
    "videotestsrc ! tee name=t": "'tee' is not one",
    "exec command=id": "'exec' is not one",
    "fdsrc fd=0": "'fdsrc' is not one",
    "shmsrc socket-path=/tmp/x": "'shmsrc' is not one",
    "videotestsrc ! videoflipp": "did you mean 'videoflip'",
    "videotestsrc ! rtspsrc location=rtsp://x": "nothing comes before it",
    "videoconvert ! videoscale": "begins with a source",
    "videotestsrc name=x": "'name' may not be set",
    "videotestsrc pattern": "write name=value",
    "videotestsrc pattern=1 pattern=2": "given twice",
    "v4l2src devise=/dev/video0": "did you mean 'device'",
    'filesrc location="/x': "quote that is not closed",
    "video/x-raw,width=3 ! videoconvert": "no description of a stream",
    "videotestsrc ! video/x-raw,width=[1,5]": "no description of a stream",
    "videotestsrc ! audio/x-raw": "no description of a stream",
    "rtspsrc location=rtsp://u:s3cret@h/1": "holds a user or a password",
    "rtspsrc location=rtsp://h/1 user-pw=s3cret": "written in the pipeline",
    "souphttpsrc location=http://u@h/": "holds a user or a password",
    "uridecodebin uri=http://[::1": "is no address",
    "videotestsrc ( ! x )": "no property|cannot be read|may not",
    "videotestsrc " + "x" * 5000: "4096 characters",
    "videotestsrc" + " ! queue" * 40: "32 elements",
    "videotestsrc pattern=\x1b[31m": "control character|cannot be read",
}


@pytest.mark.parametrize("wrong", REFUSED, ids=range(len(REFUSED)))
def test_what_is_refused(wrong):
    with pytest.raises(SourceFormatError, match=REFUSED[wrong]) as caught:
        parse_pipeline(wrong)
    told = str(caught.value)
    assert "\n" not in told
    assert "s3cret" not in told
    assert len(told) < 1500


def test_nothing_that_writes_sends_or_runs_is_in_the_tables():
    for name in (*SOURCES, *FILTERS):
        assert not name.endswith("sink")
        assert not any(
            word in name for word in ("exec", "shm", "fd", "python", "lua", "plugin", "tee", "file2")
        )


@pytest.mark.parametrize(
    ("pipeline", "live"),
    [
        ("videotestsrc", False),
        ("videotestsrc is-live=true", True),
        ("filesrc location=/x", False),
        ("v4l2src", True),
        ("uridecodebin uri=file:///x.mp4", False),
        ("uridecodebin uri=rtsp://h/1", True),
    ],
)
def test_what_is_a_camera_and_what_a_file(pipeline, live):
    assert is_live(parse_pipeline(pipeline)) is live
    source = open_pipeline(parse_address(f"gst:{pipeline}"), request())
    assert source.live is live


def test_csi_of_a_jetson_and_of_a_raspberry_pi():
    address = parse_address("csi:1")
    assert text(
        csi_pipeline(address, request("jetson-orin-nano-8gb", width=1920, height=1080, fps=29.97))
    ) == (
        "nvarguscamerasrc sensor-id=1"
        " ! video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=29970/1000"
        " ! nvvidconv ! video/x-raw,format=BGRx"
    )
    assert text(csi_pipeline(parse_address("csi:0"), request("raspberry-pi-5"))) == (
        "libcamerasrc ! video/x-raw,format=NV12,width=1280,height=720,framerate=30/1"
    )
    with pytest.raises(SourceFormatError, match="cameras have names"):
        csi_pipeline(address, request("raspberry-pi-5"))


@pytest.mark.parametrize("profile", [None, "x86", "coral-usb"])
def test_no_csi_where_the_profile_has_none(profile):
    with pytest.raises(SourceError, match="has no CSI camera"):
        csi_pipeline(parse_address("csi:0"), request(profile))


@pytest.mark.parametrize("where", ["x", "-1", "1 ! filesink", "123", "٣"])
def test_a_connector_is_a_number(where):
    with pytest.raises(SourceFormatError, match="no connector"):
        csi_pipeline(parse_address(f"csi:{where}"), request("jetson-agx-orin-64gb"))


def test_rtsp_through_a_jetsons_decoder():
    elements = rtsp_pipeline(parse_address("rtsp://cam/1"), request(transport="udp"), decoder="nvv4l2decoder")
    assert text(elements) == (
        "rtspsrc location=rtsp://cam/1 protocols=udp latency=100 drop-on-latency=true tcp-timeout=4000000"
        " ! parsebin ! nvv4l2decoder ! nvvidconv ! video/x-raw,format=BGRx"
    )


def test_hardware_decoding_where_there_is_none():
    address = parse_address("rtsp://cam/1")
    assert hardware_rtsp(address, request("x86")) is None
    assert hardware_rtsp(address, request("raspberry-pi-5")) is None
    with pytest.raises(SourceError, match="no hardware decoder"):
        hardware_rtsp(address, request("x86", decoder="hardware"))
    # no board here: its decoder is missing from this GStreamer, or GStreamer itself is
    assert hardware_rtsp(address, request("jetson-orin-nano-8gb")) is None
    with pytest.raises(SourceError, match=r"nvv4l2decoder|GStreamer cannot be used"):
        hardware_rtsp(address, request("jetson-orin-nano-8gb", decoder="hardware"))


def test_every_board_s_elements_are_in_the_tables():
    for profile in PROFILES.values():
        if profile.csi_source is not None:
            assert profile.csi_source.value in SOURCES
        if profile.video_decoder is not None:
            assert profile.video_decoder.value in FILTERS
        assert (profile.family == "jetson") <= (profile.csi_source is not None)


def test_what_to_install():
    assert package_of("nvvidconv").startswith("the board's")
    assert package_of("avdec_h264") == "gstreamer1.0-libav"
    assert "plugins-base" in package_of("videoscale")


def test_errors_are_ours():
    with pytest.raises(EdgeError):
        open_pipeline(parse_address("gst:"), request())
