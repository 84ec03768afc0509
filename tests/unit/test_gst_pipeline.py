"""Pipelines as text: what may be in them, what a board's own look like, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES

import pytest

from edgeai.errors import EdgeError, SourceError, SourceFormatError
from edgeai.profile import list_profiles
from edgeai.sources.addresses import parse_address
from edgeai.sources.gstreamer.bindings import import_gi
from edgeai.sources.gstreamer.boards import csi_pipeline, hardware_rtsp, open_pipeline, rtsp_pipeline
from edgeai.sources.gstreamer.elements import FILTERS, SOURCES, package_of
from edgeai.sources.gstreamer.parse import Element, is_live, parse_pipeline
from edgeai.sources.request import CameraRequest
from edgeai.sources.settings import CaptureSettings, LoginSettings

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
    "videotestsrc pattern": "'pattern' has no value; write name=value",
    "=": "cannot be read",
    "/": "no description of a stream",
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
    "uridecodebin uri=http://h:99999/": "is no address",
    # GStreamer's own handlers of addresses open anything
    "uridecodebin uri=fd://0": "of a kind that is not known; use file:, http:",
    "uridecodebin uri=appsrc://": "of a kind that is not known",
    "uridecodebin uri=data:video/mp4;base64,AAAA": "of a kind that is not known",
    "uridecodebin uri=/etc/passwd": "of a kind that is not known",
    "uridecodebin uri=file://host/x.mp4": "is no file's; write file:///path",
    "rtspsrc location=file:///x": "of a kind that is not known",
    "rtspsrc location=rtsp:///x": "names no host",
    "filesrc location=http://h/s3cret": "path of a file, not an address",
    "filesrc": "'filesrc' needs location",
    "uridecodebin": "needs uri",
    # to open some devices is an act
    "v4l2src device=/dev/watchdog": "must be /dev/video0 or",
    "v4l2src device=/dev/video0/../watchdog": "must be /dev/video0 or",
    "udpsrc address=$(id)": "must be an IP address",
    "udpsrc caps=audio/x-raw": "no description of a stream",
    # secrets in the wrong place are not repeated
    "videotestsrc ! rtsp://u:s3cret@h/1": "no description of a stream",
    "rtspsrc rtsp://u:s3cret@h/1": "a word has no '='",
    "rtsp://u:s3cret@h/1": "no description of a stream",
    "rtspsrc location=rtsp://h/ user-pw s3cret": "'user-pw' has no value",
    "rtspsrc location=rtsp://h/ s3cret": "a word has no '='",
    "rtspsrc location=rtsp://h/ S3cret!s3cret=x": "a word has no '='",
    "rtspsrc location=rtsp://h/ s3cret:x=1": "one of its properties may not be set",
    "rtspsrc location=rtsp://{username}:s3cret@h/1": "holds a user or a password",
    "filesrc location=/x/{password}": "is no place for {username} or {password}",
    # what would take the memory
    "videotestsrc ! video/x-raw,width=99999,height=1": "16384 pixels a side",
    "videotestsrc ! video/x-raw,width=1,height=(int)000099999": "16384 pixels a side",
    "videotestsrc ! queue max-size-bytes=99999999999": "at most 268435456",
    "videotestsrc ! queue max-size-buffers=-1": "at most 1000",
    "videotestsrc ! queue max-size-buffers=0 max-size-bytes=0 max-size-time=0": "has no limit",
    "rtspsrc location=rtsp://h/ latency=1e9": "at most 60000",
    "videotestsrc ( ! x )": "a word has no '='",
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
        assert not name.endswith(("sink", "enc"))
        assert not any(
            word in name for word in ("exec", "shm", "fd", "python", "lua", "plugin", "tee", "file2")
        )


@pytest.mark.parametrize(
    ("pipeline", "live"),
    [
        ("videotestsrc", False),
        ("videotestsrc is-live=true", True),
        ("videotestsrc is-live=T", True),
        ("videotestsrc is-live=no", False),
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
        " ! video/x-raw(memory:NVMM),format=NV12,width=1920,height=1080,framerate=30000/1001"
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
        "rtspsrc location=rtsp://cam/1 protocols=udp"
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
    assert package_of("v4l2h264dec") == "gstreamer1.0-plugins-good"
    assert package_of("v4l2slh265dec") == "gstreamer1.0-plugins-bad"
    assert "plugins-base" in package_of("videoscale")


def test_errors_are_ours():
    with pytest.raises(EdgeError):
        open_pipeline(parse_address("gst:"), request())


def test_passwords_have_their_places():
    for pipeline in (
        "rtspsrc location=rtsp://{username}:{password}@h/1 ! decodebin",
        'souphttpsrc location="http://h/x?user={username}&pwd={password}" ! decodebin',
        "rtspsrc location=rtsp://h/1 user-id={username} user-pw={password} ! decodebin",
    ):
        address = parse_address(f"gst:{pipeline}")
        with pytest.raises(SourceFormatError, match=r"its camera no login; write \[cameras.login\]"):
            open_pipeline(address, request())
        login = LoginSettings(username="u", password_env="NOT_SET_ANYWHERE")
        assert open_pipeline(address, CameraRequest("gate", login=login)).live


def test_a_text_of_several_lines_is_one_pipeline():
    lines = """
        filesrc location=/x.mp4 !
        decodebin
          ! video/x-raw, width=64
    """
    assert [each.name for each in parse_pipeline(lines)] == ["filesrc", "decodebin", "capsfilter"]


@pytest.mark.parametrize("fps", [1.0, 5.0, 14.985, 15.0, 23.976, 25.0, 29.97, 59.94, 0.5, 999.9])
def test_rates_are_fractions_of_caps(fps):
    caps = csi_pipeline(parse_address("csi:"), request("jetson-nano", fps=fps))[1].properties["caps"]
    numerator, denominator = map(int, caps.rpartition("framerate=")[2].split("/"))
    assert numerator / denominator == pytest.approx(fps, rel=1e-3)


def test_gi_of_another_python_is_not_taken(tmp_path, monkeypatch):
    """The system's is for the system's Python; half of it must not stay behind in this one."""
    monkeypatch.setattr(sys, "path", [])
    for name in [name for name in sys.modules if name == "gi" or name.startswith("gi.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ImportError, match="there is no PyGObject"):
        import_gi(tmp_path)
    (tmp_path / "gi").mkdir()
    (tmp_path / "gi" / "__init__.py").write_text("import gi.half\nraise ImportError('broken')")
    (tmp_path / "gi" / "half.py").touch()
    with pytest.raises(ImportError, match="system's own Python, this is"):
        import_gi(tmp_path)
    (tmp_path / "gi" / f"_gi{EXTENSION_SUFFIXES[0]}").touch()
    with pytest.raises(ImportError, match="broken"):
        import_gi(tmp_path)
    assert not [name for name in sys.modules if name == "gi" or name.startswith("gi.")]
    (tmp_path / "gi" / "__init__.py").write_text("import gi.half\nwhere = __file__")
    assert import_gi(tmp_path).where.startswith(str(tmp_path))
    assert str(tmp_path) not in sys.path
    for name in ("gi", "gi.half"):
        sys.modules.pop(name)


def test_nothing_of_gstreamer_is_loaded_before_it_is_used():
    program = (
        "import sys; from edgeai.sources import open_camera\n"
        "open_camera('gst:videotestsrc is-live=true'); assert 'gi' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
