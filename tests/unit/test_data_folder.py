"""Our data is found in a checkout and in a wheel, and nothing outside of it."""

from __future__ import annotations

import pytest

from edgeai.data import data_root, find_data
from edgeai.errors import DataMissingError


def test_profiles_are_found():
    assert find_data("devices", "profiles", "x86.toml").is_file()


def test_a_wheel_looks_inside_itself_only(tmp_path):
    package = tmp_path / "edgeai"
    package.mkdir()
    assert data_root(package) == tmp_path
    (package / "_data").mkdir()
    assert data_root(package) == package / "_data"


@pytest.mark.parametrize(
    "parts", [("models", "no-such-model"), ("..",), ("models", "..", ".."), ("/etc",), ("a\0b",)]
)
def test_absent_or_outside_is_one_error(parts):
    with pytest.raises(DataMissingError, match="in this installation"):
        find_data(*parts)
