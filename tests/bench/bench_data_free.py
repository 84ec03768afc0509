"""How much of a teacher a student gets without any data: scikit-learn's digits, 8x8, of which the student sees none.

Run: python tests/bench/bench_data_free.py --seeds 1,2,3 --split train

The teacher is trained on the training part. --split train judges both on a fifth of that part, which the teacher does not
see then: choose settings by it. --split test trains the teacher on all of the part and judges on the rest: look once.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compress.distill.data_free import DataFreeSettings, distill_data_free
from compress.groups.macs import model_macs
from compress.quiet import start_tensorflow
from compress.train.fit import FitSettings, fit
from edgeai.cli.figures import Outputs, print_figures
from edgeai.console import print_note
from edgeai.errors import EdgeError
from edgeai.metrics import Measurement

TEST_SHARE, JUDGE_SHARE, PARTS_SEED = 0.3, 0.2, 0
TEACHER_WIDTH, STUDENT_WIDTH = 24, 12
TEACHER = {"steps": 600, "batch": 64}


def load_digits() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """(1797, 8, 8, 1) pictures in 0..1 and their digits."""
    from sklearn.datasets import load_digits as load

    pictures, digits = load(return_X_y=True)
    return (pictures.reshape(-1, 8, 8, 1) / 16).astype(np.float32), digits.astype(np.int64)


def parts(count: int, split: str) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(what the teacher learns from, what both are judged on)."""
    order = np.random.default_rng(PARTS_SEED).permutation(count)
    test, train = np.split(order, [int(TEST_SHARE * count)])
    if split == "test":
        return train, test
    judged, learnt = np.split(train, [int(JUDGE_SHARE * len(train))])
    return learnt, judged


def build_network(width: int, seed: int) -> Any:
    """Three convolutions and a mean; `width` channels at first."""
    import keras

    keras.utils.set_random_seed(seed)
    x = picture = keras.Input((8, 8, 1), name="image")
    for channels, strides in ((width, 1), (2 * width, 2), (4 * width, 2)):
        x = keras.layers.Conv2D(channels, 3, strides=strides, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization(momentum=0.9)(x))
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(picture, {"class": keras.layers.Dense(10, name="class")(x)})


def train_teacher(pictures: NDArray[np.float32], digits: NDArray[np.int64], seed: int) -> Any:
    """On pictures moved by up to a pixel."""
    import tensorflow as tf

    def make(rng: np.random.Generator) -> dict[str, Any]:
        picks = rng.integers(0, len(pictures), int(TEACHER["batch"]))
        moved = [np.roll(pictures[i], tuple(rng.integers(-1, 2, 2)), (0, 1)) for i in picks]
        return {"inputs": np.stack(moved), "targets": digits[picks]}

    def loss(outputs: Any, batch: Any) -> Any:
        return tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["targets"], logits=outputs["class"])
        )

    network = build_network(TEACHER_WIDTH, seed)
    fit(network, make, loss, FitSettings(**TEACHER, seed=seed), description=f"teacher, seed {seed}")
    return network


def accuracy(network: Any, pictures: NDArray[np.float32], digits: NDArray[np.int64]) -> float:
    said = np.asarray(network(pictures, training=False)["class"])
    return float((said.argmax(1) == digits).mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--split", choices=("train", "test"), default="train")
    parser.add_argument("--rounds", type=int, default=DataFreeSettings().rounds)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    try:
        start_tensorflow()
        pictures, digits = load_digits()
        learnt, judged = parts(len(pictures), args.split)
        results, kept = [], []
        for seed in (int(text) for text in args.seeds.split(",")):
            teacher = train_teacher(pictures[learnt], digits[learnt], seed)
            student = build_network(STUDENT_WIDTH, seed + 100)
            began = time.perf_counter()
            distill_data_free(
                teacher, student, DataFreeSettings(rounds=args.rounds, seed=seed), low=0.0, high=1.0
            )
            seconds = time.perf_counter() - began
            best, got = (accuracy(net, pictures[judged], digits[judged]) for net in (teacher, student))
            kept.append(got / best)
            for name, unit, value in (
                ("teacher_percent", "%", 100 * best),
                ("student_percent", "%", 100 * got),
                ("kept_percent", "%", 100 * got / best),
                ("distill_s", "s", seconds),
            ):
                results.append(Measurement(f"seed{seed}/{name}", unit, len(judged), value=value))
            print_note(
                f"seed {seed}: teacher {best:.2%}, student {got:.2%}, {got / best:.1%} kept, {seconds:.0f} s"
            )
        smaller = model_macs(teacher) / model_macs(student)
        results.append(Measurement("kept_percent", "%", len(kept), value=100 * float(np.mean(kept))))
        results.append(Measurement("least_kept_percent", "%", len(kept), value=100 * min(kept)))
        results.append(Measurement("fewer_macs", "x", 1, value=smaller))
        print_figures(
            "data_free", results, title=f"digits, judged on {args.split}", outputs=Outputs(json=args.json)
        )
    except EdgeError as error:
        print_note(f"bench_data_free: error: {error}")
        return error.exit_code
    except ImportError as error:
        print_note(f"bench_data_free: error: {error}; pip install scikit-learn")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
