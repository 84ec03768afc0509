"""Lines of keys: every way that TOML has to write one, against tomllib's own reading of the same text."""

from __future__ import annotations

import sys

import pytest

from edgeai.toml_lines import key_lines, line_of

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = """\
# a comment with [a.header] and key = 1
plain = 1
"quoted key" = 2
'literal' = "a # no comment"
dotted.inner = 1979-05-27 07:32:00  # a date with a space
text = '''
[no.header]
no = "key"
'''
more = \"\"\"a \\\"\"\" b
[neither]\"\"\"
[table]
inline = { a = 1, b.c = [1, 2], d = { e = "}" } }
list = [
  1,  # one
  { f = 2 },

  [3,
   4],
]
[[cameras]]
name = "a"
  [[cameras.rules]]
  kind = "line"
  [[cameras.rules]]
  kind = "zone"
[[cameras]]
name = "b"
[cameras.tracker]
lost_s = 1
[[cameras.rules]]
kind = "track"
[ spaced . out ]
x = 1
"""


def paths(value, above=()):
    """Every path of a parsed document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def test_every_path_has_its_line():
    lines = key_lines(TEXT)
    assert set(paths(tomllib.loads(TEXT))) == set(lines)
    source = TEXT.splitlines()
    for path, line in lines.items():
        last = path[-1]
        if isinstance(last, str):
            assert last in source[line - 1], (path, line)


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (("plain",), 2),
        (("dotted", "inner"), 5),
        (("more",), 10),
        (("table", "inline", "d", "e"), 13),
        (("table", "list", 1, "f"), 16),
        (("table", "list", 2, 1), 19),
        (("cameras", 0), 21),
        (("cameras", 0, "rules", 1, "kind"), 26),
        (("cameras", 1, "tracker", "lost_s"), 30),
        (("cameras", 1, "rules", 0, "kind"), 32),
        (("spaced", "out", "x"), 34),
        # what is not there gets the table around it
        (("cameras", 1, "rules", 0, "name"), 31),
        (("cameras", 0, "source"), 21),
        (("nowhere",), 0),
        ((), 0),
    ],
)
def test_lines(path, line):
    assert line_of(key_lines(TEXT), path) == line


def test_escapes_within_strings_do_not_end_them():
    assert key_lines('a = "x \\" [b]"\nc = 1\nd = "\\\\"\ne = 2') == {
        ("a",): 1,
        ("c",): 2,
        ("d",): 3,
        ("e",): 4,
    }


@pytest.mark.parametrize(
    "text", ["", "=", "[", "[[", "a", "a=", 'a="', "a=[", "a={b", "[a]]\nb=1", "\0", "a=" + "[" * 9999]
)
def test_other_text_is_no_error(text):
    key_lines(text)
