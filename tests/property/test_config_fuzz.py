"""Whatever bytes a configuration holds, only ConfigError escapes, on one line; and lines are right for any layout."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.config import Config, load_config, parse_config
from edgeai.data import find_data
from edgeai.errors import ConfigError
from edgeai.settings_file import parse_settings, settings_faults
from edgeai.toml_lines import key_lines

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

KEYS = ["cameras", "rules", "mqtt", "tls", "outbox", "tracker", "name", "source", "model", "kind", "a", "b", "polygon", "threads", "microphones", "x", '"y z"']  # fmt: skip
VALUES = ["1", "-0.5", "nan", "true", '"line"', '"zone"', '"mic"', "'a'", "[0, 1]", "[[0,0],[1,0],[1,1]]", "{}", "{ kind = 'line' }", "[{}]", "1979-05-27", "07:32:00", '"\\u0000"', "'''\nx = 1\n'''", "[", '"']  # fmt: skip
keys = st.lists(st.sampled_from(KEYS), min_size=1, max_size=3).map(".".join)
lines = st.one_of(
    st.tuples(keys, st.sampled_from(VALUES)).map(" = ".join),
    keys.map("[{}]".format),
    keys.map("[[{}]]".format),
    st.sampled_from(["", "# x", "=", "[cameras", "\x00"]),
)
documents = st.lists(lines, max_size=15).map("\n".join)


def only_config_errors(content: bytes):
    try:
        parse_settings(content, Config, where="x.toml", error=ConfigError)
    except ConfigError as error:
        assert str(error).startswith("x.toml")
        assert "\n" not in str(error)


@given(st.binary(max_size=200))
def test_bytes(content):
    only_config_errors(content)


@given(documents)
def test_text_that_looks_like_toml(text):
    only_config_errors(text.encode())


@given(documents, st.randoms(use_true_random=False))
def test_a_right_file_with_changed_bytes(text, random):
    good = b'[[cameras]]\nname = "a"\nsource = "v"\nmodel = "m"\nrules = [{ kind = "line", name = "d", a = [0, 0], b = [1, 1] }]\n'
    content = bytearray(good + text.encode())
    for _ in range(random.randint(1, 4)):
        content[random.randrange(len(content))] = random.randrange(256)
    only_config_errors(bytes(content))


@given(documents)
def test_every_key_that_tomllib_reads_has_a_line(text):
    try:
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return
    found = key_lines(text)
    source = text.splitlines()

    def look(value, path):
        items = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in items:
            assert (*path, key) in found
            assert isinstance(key, int) or key in source[found[(*path, key)] - 1]
            look(inner, (*path, key))

    look(table, ())


EXAMPLES = [path.read_bytes() for path in sorted(find_data("firmware_configs", "examples").glob("*.toml"))]
ODD = ["", "0", "-1", "1e400", "-inf", "nan", "9" * 400, "0x" + "f" * 5000, "1979-05-27T07:32:00Z", "07:32:00", "true", "[]", "{}", "[[]]", '""', '"\\u0000"', '"\\ud800"', '"\\U0010ffff"', '"\\U00110000"', "'" + "x" * 5000 + "'", '"rtsp://u:p@h/"', '"usb:"', '"csi:-1"', '"gst:!"', '"file://"', '"://"', '"/\\u0000"', '"~nobody/x"', '"' + "../" * 2000 + '"', "[" * 300 + "]" * 300, "{a=" * 300 + "1" + "}" * 300]  # fmt: skip


def only_config_errors_of(content: bytes):
    """As a file of that content, its paths placed."""
    try:
        parse_config(content, Path("/nowhere/device.toml"), where="x.toml")
    except ConfigError as error:
        assert "\n" not in str(error)
        faults = settings_faults(content, Config, where="x.toml")
        assert all("\n" not in each for each in faults)
        if faults:
            assert str(error) in faults


@given(st.sampled_from(EXAMPLES), st.randoms(use_true_random=False))
def test_the_examples_with_changed_bytes_lines_and_values(example, random):
    lines = example.decode().splitlines()
    for _ in range(random.randint(1, 5)):
        number = random.randrange(len(lines))
        change = random.randrange(5)
        if change == 0:
            del lines[number]
        elif change == 1:
            lines.insert(random.randrange(len(lines)), lines[number])
        elif change == 2:
            lines[number] = lines[number].lstrip("# ")
        else:
            lines[number] = f"{lines[number].partition('=')[0]}= {random.choice(ODD)}"
    content = bytearray("\n".join(lines).encode())
    for _ in range(random.randint(0, 2)):
        content[random.randrange(len(content))] = random.randrange(256)
    only_config_errors_of(bytes(content))


@pytest.mark.parametrize(
    "content",
    [
        b"a." * 5_000 + b"a = 1",
        b"threads." + b"a." * 190 + b"a = 1",
        b"[" + b"a." * 5_000 + b"a]",
        b"a = " + b"[" * 200_000,
        b"a = " + b"[" * 400 + b"]" * 400,
        b"a = " + b"{a = " * 5_000,
        b"[[cameras]]\n" * 40_000,
        b"[[cameras.rules]]\n" * 20_000,
        b"\n".join(b"k%d = 1" % number for number in range(60_000)),
        b"a = '" + b"x" * (1 << 20) + b"'",
        b"# " + b"x" * (1 << 20),
        b"x" * (1 << 20),
        b"=" * (1 << 20),
        b"\n" * (1 << 20),
        b"\r" * 1000,
        b"\0",
        b"a = 1\n\0",
        b"\xef\xbb\xbf" * 3,
        b"\xff\xfea\0=\x001\0",
        b"device = '\xed\xa0\x80'",
        b'device = "\\ud800"',
        b"threads = 1e9999999",
        b"health = { every_s = 1e400 }",
        b"threads = " + b"9" * 4_000,
        b"threads = 0b" + b"1" * 100_000,
        b"threads = 9999-99-99",
        b"threads = 0001-01-01T00:00:00+23:59",
        b"'' = 1\n[\"\"]\n'' = {'' = ''}",
        b"__class__ = 1\nmodel_config = {}\n[cameras]\n__init__ = []",
    ],
    ids=lambda content: f"{len(content)} bytes of {content[:12]!r}",
)
def test_texts_that_have_broken_parsers(content):
    only_config_errors(content)
    only_config_errors_of(content)


def test_the_file_itself_may_be_anything(tmp_path):
    for name in ("absent.toml", ".", "../..", "x" * 300):
        with pytest.raises(ConfigError):
            load_config(tmp_path / name)
