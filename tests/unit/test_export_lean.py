"""The ONNX exporter without its copies: the environment is left as it was, and an optimizer that fails is still left out."""

from __future__ import annotations

import os

import pytest

pytestmark = pytest.mark.compress
NAME = "TF2ONNX_CATCH_ERRORS"


def small_network(keras):
    picture = keras.Input((8, 8, 3), name="image")
    x = keras.layers.Conv2D(4, 3, activation="relu", name="first")(picture)
    return keras.Model(picture, {"out": keras.layers.Flatten(name="flat")(x)})


@pytest.mark.parametrize("before", [None, "TRUE"])
def test_the_environment_is_as_it_was(keras, tmp_path, monkeypatch, before):
    from compress.export.onnx import export_onnx

    monkeypatch.delenv(NAME, raising=False)
    if before is not None:
        monkeypatch.setenv(NAME, before)
    export_onnx(small_network(keras), tmp_path / "network.onnx")
    assert os.environ.get(NAME) == before


def test_the_graph_is_not_copied(keras, tmp_path, monkeypatch):
    import tf2onnx.graph

    from compress.export.onnx import export_onnx

    def copied(self, memo):
        raise AssertionError("copied")

    monkeypatch.setattr(tf2onnx.graph.Graph, "__deepcopy__", copied, raising=False)
    export_onnx(small_network(keras), tmp_path / "network.onnx")
    assert (tmp_path / "network.onnx").stat().st_size


def test_an_optimizer_that_fails_is_left_out(keras, tmp_path, monkeypatch):
    import tf2onnx.optimizer

    from compress.export.onnx import export_onnx

    class Fails:
        def __init__(self):
            raise RuntimeError("no")

    monkeypatch.setitem(tf2onnx.optimizer._optimizers, "fails", Fails)
    export_onnx(small_network(keras), tmp_path / "network.onnx")
    assert (tmp_path / "network.onnx").stat().st_size


def test_memory_is_given_back_by_large_processes_alone(monkeypatch):
    from compress import memory

    asked = []
    monkeypatch.setattr(memory.gc, "collect", lambda: asked.append(1))
    memory.give_back_memory()
    monkeypatch.setattr(memory, "WORTH_IT", 0)
    memory.give_back_memory()
    assert len(asked) in (1, 2)  # 2 where the tests before made this process a large one
