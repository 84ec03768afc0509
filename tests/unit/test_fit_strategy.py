"""TF_CONFIG and the choice of a strategy: what is wrong is told before TensorFlow waits for anybody."""

from __future__ import annotations

import json

import numpy as np
import pytest

from compress.train.distributed import Replicas, open_strategy
from edgeai.errors import UsageError

GOOD = {"cluster": {"worker": ["a:1", "b:2"]}, "task": {"type": "worker", "index": 0}}


def test_one_needs_no_strategy():
    assert open_strategy("one") is None


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (None, "needs TF_CONFIG, which is not set"),
        ("{nonsense", r"is no JSON \(character 1"),
        ([1], "an object with cluster and task is expected"),
        ({"cluster": {}}, "an object with cluster and task is expected"),
        ({**GOOD, "cluster": {"ps": ["a:1"]}}, "may name chief and worker, not 'ps'"),
        ({**GOOD, "cluster": {"worker": "a:1"}}, "must be a list of host:port, got a:1"),
        ({**GOOD, "cluster": {"worker": ["a"]}}, "must be a list of host:port"),
        ({**GOOD, "cluster": {"worker": ["a:70000"]}}, "must be a list of host:port"),
        ({**GOOD, "cluster": {"worker": ["a:1", "a:1"]}}, "an address is given twice"),
        ({**GOOD, "task": {"type": "worker", "index": 2}}, "task 'worker' number 2 is not in the cluster"),
        (
            {**GOOD, "task": {"type": "worker", "index": "0"}},
            "task 'worker' number '0' is not in the cluster",
        ),
        ({**GOOD, "task": {"type": ["x"], "index": 0}}, "is not in the cluster"),
    ],
)
def test_a_wrong_tf_config_is_told_with_a_right_one(monkeypatch, config, said):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(UsageError, match=f"{said}.*host-a:2222"):
        open_strategy("multi-worker")


@pytest.mark.compress
def test_too_late_is_told(monkeypatch):
    from compress.quiet import start_tensorflow

    start_tensorflow()
    import tensorflow as tf

    tf.constant(1).numpy()
    monkeypatch.setenv("TF_CONFIG", json.dumps({**GOOD, "cluster": {"worker": ["localhost:1"]}}))
    with pytest.raises(UsageError, match=r"cannot start: .*; open the strategy before any network"):
        open_strategy("multi-worker")


def test_one_process_shares_with_itself():
    arrays = {"weights": np.ones(3, np.float32)}
    assert Replicas().share({"a": 1}, arrays) == ({"a": 1}, arrays)
    assert Replicas(count=4, devices=("a", "b")).workers == 2
