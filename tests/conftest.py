"""What every test shares: the shared data folder, the marks that skip with a reason, hypothesis profiles."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

REPOSITORY = Path(__file__).resolve().parents[1]
DATA_REQUIRED = os.environ.get("EDGEAI_REQUIRE_DATA") == "1"

# One seed for everybody in CI; fresh ones at a desk. Deadlines measure the machine's load, not the code.
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci" if DATA_REQUIRED else "dev"))


def _data_folder() -> Path:
    return Path(os.environ.get("EDGEAI_DATA") or REPOSITORY.parent / "shared" / "data").resolve()


def _need_data() -> Path:
    """The shared data folder; skips where it is absent, or fails where CI says that it must be there."""
    folder = _data_folder()
    if folder.is_dir():
        return folder
    reason = f"no shared data folder at {folder}; set EDGEAI_DATA to it"
    if DATA_REQUIRED:
        pytest.fail(f"{reason} (EDGEAI_REQUIRE_DATA=1 forbids skipping)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared clips, pictures and models: $EDGEAI_DATA, else ../shared/data beside the repository."""
    return _need_data()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("data"):
        _need_data()
    if item.get_closest_marker("compress") and importlib.util.find_spec("tensorflow") is None:
        pytest.skip("needs the compress extra: pip install -e '.[compress]'")
    if item.get_closest_marker("system") and os.environ.get("EDGEAI_SKIP_SYSTEM") == "1":
        pytest.skip("EDGEAI_SKIP_SYSTEM=1")
