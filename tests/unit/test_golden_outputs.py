"""Golden files: written the same, read with suspicion, compared against each file's tolerance."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from tiny_bundle import keyword_input, picture_fields, picture_files, write_keyword_bundle

from edgeai.bundle import golden, write_bundle
from edgeai.bundle.golden import check_golden, make_golden, read_golden, relative_error
from edgeai.engines import open_file
from edgeai.errors import BundleError, GoldenMismatchError
from edgeai.types import TensorSpec


class FakeEngine:
    """Gives fixed outputs, whatever comes in."""

    def __init__(self, **outputs):
        self.inputs = (TensorSpec("features", (1, 10, 8, 1), "float32"),)
        self.given = outputs

    def run(self, inputs):
        assert set(inputs) == {"features"}
        return {name: np.float32(value) for name, value in self.given.items()}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_keyword_bundle(tmp_path_factory.mktemp("golden") / "tiny")


def test_every_engine_file_gives_its_golden_outputs(bundle):
    for entry in bundle.manifest.engine_files:
        with open_file(bundle, entry) as engine:
            errors = check_golden(bundle, entry, engine)
        assert set(errors) == {"scores"}
        assert errors["scores"] <= entry.tolerance


def test_wrong_outputs_are_told(bundle):
    entry = bundle.engine_file("tflite", "int8")
    wanted = read_golden(bundle.path("golden.npz")).outputs["scores"]
    cases = {
        r"'scores' is off by 1\.0000 of its range, allowed is 0\.04": FakeEngine(
            scores=wanted + np.ptp(wanted)
        ),
        r"off by inf": FakeEngine(scores=wanted * np.nan),
        r"is \(1, 2\), golden is \(1, 3\)": FakeEngine(scores=wanted[:, :2]),
        r"outputs are \['a', 'b'\], golden are \['scores'\]": FakeEngine(a=wanted, b=wanted),
    }
    for message, engine in cases.items():
        with pytest.raises(GoldenMismatchError, match=message):
            check_golden(bundle, entry, engine)
    check_golden(bundle, entry, FakeEngine(renamed=wanted))  # one output needs no name


def test_without_a_golden_file(tmp_path):
    fields = picture_fields() | {"golden": None}
    plain = write_bundle(tmp_path / "x", fields, picture_files())
    with pytest.raises(BundleError, match="has no golden file"):
        check_golden(plain, plain.engine_file(), FakeEngine())


def test_the_bytes_are_reproducible(bundle):
    with open_file(bundle, bundle.engine_file("tflite", "float32")) as engine:
        first, second = make_golden(engine, keyword_input()), make_golden(engine, keyword_input())
    assert first == second


def test_an_output_called_input_is_refused():
    with pytest.raises(BundleError, match="rename"):
        make_golden(FakeEngine(input=[1.0]), keyword_input())


@pytest.mark.parametrize(
    ("got", "wanted", "error"),
    [
        ([0.0, 1.0], [0.0, 1.0], 0.0),
        ([0.0, 1.5], [0.0, 1.0], 0.5),
        ([10.0, 12.5], [10.0, 12.0], 0.25),
        ([4.0, 4.0], [5.0, 5.0], 0.2),  # constant: its magnitude
        ([0.25], [0.0], 0.25),  # all zero: absolute
        ([], [], 0.0),
        ([np.nan], [0.0], np.inf),
        ([0.0], [np.inf], np.inf),
    ],
)
def test_relative_error(got, wanted, error):
    assert relative_error(np.float32(got), np.float32(wanted)) == pytest.approx(error)


def npy(array, version=(1, 0)):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version=version)
    return file.getvalue()


def archive(**members):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, data in members.items():
            out.writestr(f"{name}.npy", data)
    return file.getvalue()


GOOD = {"input": npy(np.zeros(3, np.float32)), "scores": npy(np.zeros(2, np.float32))}
LIAR = npy(np.zeros(3, np.float32)).replace(b"(3,)", b"(9,)")
HOSTILE = {
    "empty": b"",
    "no zip": b"PK\x03\x04 and nothing",
    "cut": archive(**GOOD)[:-40],
    "no input": archive(scores=GOOD["scores"]),
    "no output": archive(input=GOOD["input"]),
    "object array": archive(**GOOD | {"scores": npy(np.array([1]), (1, 0)).replace(b"<i8", b"|O ")}),
    "float64 output": archive(**GOOD | {"scores": npy(np.zeros(2))}),
    "uint8 output": archive(**GOOD | {"scores": npy(np.zeros(2, np.uint8))}),
    "lying shape": archive(**GOOD | {"scores": LIAR}),
    "giant shape": archive(**GOOD | {"scores": LIAR.replace(b"(9,), }   ", b"(9999999999,), }"[:10])}),
    "negative shape": archive(**GOOD | {"scores": LIAR.replace(b"(9,)", b"(-1,)")}),
    "fortran": archive(**GOOD | {"scores": npy(np.asfortranarray(np.zeros((2, 3), np.float32)))}),
    "no npy": archive(**GOOD | {"scores": b"hello"}),
    "pickle": archive(**GOOD | {"scores": b"\x80\x04\x95cos\nsystem\n(S'true'\ntR."}),
    "another version": archive(**GOOD | {"scores": npy(np.zeros(2, np.float32), (2, 0))}),
    "code in the header": archive(**GOOD | {"scores": LIAR.replace(b"False", b"print")}),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_bundle_errors(tmp_path, case):
    path = tmp_path / "golden.npz"
    path.write_bytes(HOSTILE[case])
    with pytest.raises(BundleError, match=r"golden\.npz") as error:
        read_golden(path)
    assert "\n" not in str(error.value)


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "golden.npz"
    path.write_bytes(archive(**GOOD | {"scores": npy(np.zeros(1 << 20, np.float32))}))
    assert path.stat().st_size < 10_000
    read_golden(path)
    monkeypatch.setattr(golden, "MAX_GOLDEN_BYTES", 1 << 20)
    with pytest.raises(BundleError, match="the limit is"):
        read_golden(path)


def test_an_absent_file(tmp_path):
    with pytest.raises(BundleError):
        read_golden(tmp_path / "golden.npz")
