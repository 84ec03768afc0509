"""Whatever bytes a configuration holds, only ConfigError escapes, on one line; and lines are right for any layout."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.config import Config, load_config
from edgeai.errors import ConfigError
from edgeai.settings_file import parse_settings
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


def test_the_file_itself_may_be_anything(tmp_path):
    for name in ("absent.toml", ".", "../..", "x" * 300):
        with pytest.raises(ConfigError):
            load_config(tmp_path / name)
