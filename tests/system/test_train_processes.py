"""Training as processes: killed at any moment, over two replicas, over two workers that find each other."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import train_small
from broker import free_port

from compress.train.batches import make_numbered

pytestmark = [pytest.mark.compress, pytest.mark.system]

STEPS = 16


@pytest.fixture(scope="module", autouse=True)
def tensorflow():
    from compress.quiet import start_tensorflow

    start_tensorflow()


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, train_small.__file__, *map(str, arguments)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, said = process.communicate(timeout=200)
    assert process.returncode == 0, said
    return said


def here(steps, *, make=train_small.make, dropout=0.0, **options):
    from compress.train.fit import fit

    net = train_small.network(dropout=dropout)
    result = fit(net, make, train_small.loss, train_small.settings(steps), description="small", **options)
    return net.get_weights(), result


def weights_of(path):
    with np.load(path) as archive:
        return [archive[f"w{n}"] for n in range(sum(name.startswith("w") for name in archive.files))]


def assert_close(mine, wanted, **tolerance):
    for one, other in zip(mine, wanted, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def apart(mine, wanted):
    """How far the weights are from each other, against how far the training took them."""
    began = train_small.network().get_weights()
    gap, way = (
        np.concatenate([(a - b).ravel() for a, b in zip(wanted, other, strict=True)])
        for other in (mine, began)
    )
    return float(np.linalg.norm(gap) / np.linalg.norm(way))


def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, capsys):
    steps, path = 200, tmp_path / "fit.ckpt"
    process = start("one", tmp_path / "never.npz", "--steps", steps, "--checkpoint", path, "--dropout", 0.2)
    for line in process.stderr:  # a checkpoint at every step: the kill meets the writing of one, or nearly
        if line.startswith("small: 10%"):
            process.kill()
            break
    process.communicate(timeout=60)
    assert not (tmp_path / "never.npz").exists()
    again, result = here(steps, dropout=0.2, checkpoint=path)
    assert "small: going on from step" in capsys.readouterr().err
    assert 19 <= result.resumed_from < steps
    assert not list(tmp_path.iterdir())
    whole, unkilled = here(steps, dropout=0.2)
    np.testing.assert_allclose(result.losses, unkilled.losses, rtol=1e-2, atol=1e-3)
    assert_close(again, whole, atol=5e-3)


@pytest.fixture(scope="module")
def pair():
    """The weights of one process with batches of twice the size, of the same examples."""
    return here(STEPS, make=train_small.make_pair)[0]


def test_two_replicas_learn_what_one_does_with_twice_the_batch(tmp_path, pair):
    out = tmp_path / "mirrored.npz"
    finish(start("mirrored", out, "--devices", 2, "--steps", STEPS))
    # not the same: each replica norms by the statistics of its own half of the batch
    assert apart(weights_of(out), pair) < 0.2


def test_two_workers_end_with_the_same_weights_and_no_example_twice(tmp_path, pair):
    addresses = [f"localhost:{free_port()}" for _ in range(2)]

    def worker(index):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        # another seed: the first worker's initial weights are the ones that count
        arguments = ("multi-worker", tmp_path / f"{index}.npz", "--steps", STEPS, "--seed", index)
        return start(*arguments, "--checkpoint", tmp_path / f"{index}.ckpt", TF_CONFIG=json.dumps(task))

    workers = [worker(0), worker(1)]
    for process in workers:
        assert "waiting for the 2 workers localhost:" in finish(process)
    mine, theirs = (weights_of(tmp_path / f"{index}.npz") for index in (0, 1))
    assert_close(mine, theirs, rtol=0, atol=0)
    assert apart(mine, pair) < 0.2
    seen = [np.load(tmp_path / f"{index}.npz")["seen"][:STEPS] for index in (0, 1)]
    whole = [make_numbered(train_small.make, seed=1, number=n)["inputs"].sum() for n in range(2 * STEPS)]
    np.testing.assert_allclose(np.sort(np.concatenate(seen)), np.sort(whole), rtol=1e-5)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".npz", ".npz"]
