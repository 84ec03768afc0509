import pytest
from pydantic import TypeAdapter, ValidationError

from edgeai.errors import ConfigError
from edgeai.settings_file import parse_settings
from edgeai.sinks.file_transport import FileTransport, StdoutTransport
from edgeai.sinks.mqtt.settings import Settings
from edgeai.sinks.other_settings import (
    TRANSPORTS,
    AnySinkSettings,
    FileSinkSettings,
    check_sink_files,
    open_transport,
)

ADAPTER = TypeAdapter(AnySinkSettings)


def read(**fields):
    return ADAPTER.validate_python({"name": "one"} | fields)


def hook(url, **fields):
    return read(kind="webhook", url=url, **fields)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook",
        "https://example.com:8443/a?b=c",
        "http://localhost:8080/",
        "http://127.0.0.2/",
        "http://[::1]:80/x",
    ],
)
def test_urls_that_are_fine(url):
    assert hook(url).url == url


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://example.com/", "allow_plain"),
        ("http://localhost.example.com/", "allow_plain"),
        ("http://127.0.0.1.example.com/", "allow_plain"),
        ("ftp://example.com/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("example.com/hook", "https://"),
        ("https:///hook", "https://"),
        ("https://user:s3cret@example.com/", "must not hold a user"),
        ("https://s3cret@example.com/", "must not hold a user"),
        ("https://example.com/#s3cret", "fragment"),
        ("https://example.com:99999/s3cret", "no URL"),
        ("https://example.com:0/s3cret", "port"),
        ("https://example.com/s3cret two", "ASCII URL"),
        ("https://example.com/s3cret\r\nX: y", "ASCII URL"),
        ("https://bücher.example/", "ASCII URL"),
        ("https://[::1/", "no URL"),
        ("https://example.com/s3cret" + "x" * 2048, "at most 2048"),
    ],
)
def test_urls_that_are_refused_and_not_repeated(url, said):
    with pytest.raises(ValidationError) as caught:
        hook(url)
    (fault,) = caught.value.errors()
    assert said in fault["msg"]
    assert "s3cret" not in fault["msg"]


def test_plain_http_beyond_this_machine_must_be_asked_for():
    assert hook("http://10.0.0.7/hook", allow_plain=True).allow_plain
    with pytest.raises(ValidationError, match="tls needs an https"):
        hook("http://localhost/", tls={})


def test_which_classes_go_there():
    assert read(kind="stdout").wanted == {"alarm", "event", "telemetry"}
    assert read(kind="stdout", classes=("alarm",)).wanted == {"alarm"}
    assert read(kind="file", path="e", classes=("image",), images=True).wanted == {"image"}
    for kind in ({"kind": "file", "path": "e"}, {"kind": "stdout"}):
        with pytest.raises(ValidationError, match="images = true"):
            read(**kind, classes=("image",))
    with pytest.raises(ValidationError):
        read(kind="stdout", classes=())


@pytest.mark.parametrize("name", ["", "a/b", "../x", "x" * 65, "ü", ".a"])
def test_names_are_plain(name):
    with pytest.raises(ValidationError):
        ADAPTER.validate_python({"name": name, "kind": "stdout"})


class Whole(Settings):
    sinks: tuple[AnySinkSettings, ...] = ()


def parse(text):
    return parse_settings(text.encode(), Whole, where="device.toml", error=ConfigError)


def test_toml_and_its_faults():
    found = parse('[[sinks]]\nname = "f"\nkind = "file"\npath = "e.jsonl"\nclasses = ["alarm", "event"]\n')
    assert isinstance(found.sinks[0], FileSinkSettings)
    faults = {
        '[[sinks]]\nname = "f"\nkind = "fyle"\n': "device.toml:3: sinks.0.kind: must be one of",
        '[[sinks]]\nname = "f"\nkind = "file"\npaht = "x"\n': "device.toml:4: unknown key 'sinks.0.paht'; did you mean 'path'",
        '[[sinks]]\nname = "w"\nkind = "webhook"\nurl = "http://u:s3cret@x/"\n': "device.toml:4: sinks.0.url: must not hold a user",
    }
    for text, said in faults.items():
        with pytest.raises(ConfigError) as caught:
            parse(text)
        assert str(caught.value).startswith(said)
        assert "s3cret" not in str(caught.value)


def test_the_table_opens_every_kind(tmp_path):
    assert sorted(TRANSPORTS) == ["file", "stdout", "webhook"]
    assert isinstance(open_transport(read(kind="file", path=tmp_path / "e")), FileTransport)
    assert isinstance(open_transport(read(kind="stdout"), reader_gone=lambda: None), StdoutTransport)
    assert list(tmp_path.iterdir()) == []


def test_files_are_looked_at(tmp_path):
    check_sink_files(read(kind="stdout"))
    check_sink_files(read(kind="file", path=tmp_path / "e"))
    with pytest.raises(ConfigError, match=r"sink one: .* is no plain file"):
        check_sink_files(read(kind="file", path=tmp_path))
