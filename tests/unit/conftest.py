"""What unit tests share: Keras, opened quietly, and batches for what looks at data."""

from __future__ import annotations

import pytest
from prune_networks import make_batches


@pytest.fixture(scope="session")
def keras():
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import keras

    return keras


@pytest.fixture(scope="session")
def batches():
    return make_batches()
