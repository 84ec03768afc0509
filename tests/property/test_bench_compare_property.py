"""Any file to compare with: only an EdgeError comes out; any two that can be read are compared."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeai.bench.compare import compare, parse_bench, read_bench_file
from edgeai.errors import EdgeError, UsageError

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
numbers = st.floats() | st.integers() | st.none()
rows = st.fixed_dictionaries(
    {"name": st.sampled_from(["x/tflite/int8_ms", "x/onnx/float32_ms", "overhead_us", "drain_per_s"]), "unit": st.sampled_from(["ms", "us"])},
    optional={"n": st.integers() | json_values, "p50": numbers, "p90": numbers, "value": numbers},
)  # fmt: skip
engines = st.fixed_dictionaries(
    {"label": st.sampled_from(["tflite/int8", "onnx/float32"])},
    optional={"block_ms": st.lists(st.floats() | st.integers(), max_size=8) | json_values},
)
benches = st.fixed_dictionaries(
    {"bench": st.sampled_from(["engines", "audio"]), "results": st.lists(rows, max_size=4)},
    optional={
        "device": st.dictionaries(st.sampled_from(["board", "cpu", "cpu_cores"]), json_values) | json_values,
        "versions": st.dictionaries(st.sampled_from(["numpy", "litert"]), json_values) | json_values,
        "engines": st.lists(engines, max_size=3) | json_values,
        "bundle": json_values,
        "more": json_values,
    },
)
RUN = {
    "bench": "engines",
    "device": {"board": "b", "cpu_cores": 4},
    "versions": {"numpy": "2"},
    "results": [
        {"name": "x/tflite/int8_ms", "unit": "ms", "n": 20, "p50": 2.0, "p90": 2.1, "p99": 3.0},
        {"name": "overhead_us", "unit": "us", "n": 20, "p50": 20.0, "p90": 30.0, "p99": 40.0},
        {"name": "x/tflite/int8_load_ms", "unit": "ms", "n": 1, "value": 30.0},
    ],
    "engines": [{"label": "tflite/int8", "block_ms": [2.0, 2.01, 1.99, 2.0, 2.02, 1.98]}],
    "bundle": {"name": "x", "model": "aa"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("compare")


def tried(folder, content):
    path = folder / "other.json"
    path.write_bytes(content)
    try:
        comparison = compare(read_bench_file(path), parse_bench(RUN))
    except EdgeError as error:
        assert "\n" not in str(error)
        return
    json.dumps(comparison.to_json(), allow_nan=False)
    comparison.table().to_markdown()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes(folder, content):
    tried(folder, content)


@settings(deadline=None)
@given(value=json_values | benches)
def test_any_json(folder, value):
    tried(folder, json.dumps(value).encode())


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"bench": "engines", "results": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"bench": "engines", "results": [{"name": "overhead_us", "unit": "us", "p50": 1'
        + b"0" * 5000
        + b"}]}",
        b'{"bench": "engines", "results": [{"name": "overhead_us", "unit": "us", "p50": 1e-320}]}',
        b'{"bench": "engines", "results": [{"name": "overhead_us", "unit": "us", "p50": 1e308, "p90": 1.7e308}]}',
        b"\xff\xfe",
        b"NaN",
    ],
)
def test_hostile_files(folder, content):
    tried(folder, content)


def changed(**parts):
    return parse_bench(json.loads(json.dumps(RUN)) | parts)


def test_the_same_run_has_no_winner():
    comparison = compare(changed(), changed())
    assert [row.said for row in comparison.rows] == ["no winner", "no winner", "once"]
    assert comparison.warnings == ()
    assert comparison.rows[0].ratio.value == 1


def test_a_slower_run_is_told_with_its_interval():
    slower = RUN["results"][0] | {"p50": 3.0, "p90": 3.1}
    engine = {"label": "tflite/int8", "block_ms": [3.0, 3.01, 2.99, 3.0, 3.02, 2.98]}
    now = changed(results=[slower], engines=[engine])
    (row,) = compare(changed(), now).rows
    assert row.said == "slower"
    assert row.ratio.value == pytest.approx(1.5)
    assert row.ratio.low <= row.ratio.value <= row.ratio.high
    (back,) = compare(now, changed(results=RUN["results"][:1])).rows
    assert back.said == "faster"


def test_percentiles_alone_have_the_distance_of_p90():
    wide = RUN["results"][1]
    near = changed(results=[wide | {"p50": 28.0}])
    assert compare(changed(), near).rows[0].said == "no winner"
    far = changed(results=[wide | {"p50": 80.0, "p90": 90.0}])
    assert compare(changed(), far).rows[0].said == "slower"
    rate = {"name": "drain_per_s", "unit": "1/s", "n": 5, "p50": 100.0, "p90": 101.0}
    assert (
        compare(changed(results=[rate]), changed(results=[rate | {"p50": 200.0, "p90": 201.0}])).rows[0].said
        == "more"
    )


def test_what_else_differs_is_told():
    other = changed(
        device={"board": "c", "cpu_cores": 4}, versions={"numpy": "1"}, bundle={"name": "x", "model": "bb"}
    )
    told = compare(other, changed()).warnings
    assert told == (
        "the board differs: c before, b now",
        "versions differ: numpy 1 before, 2 now",
        "the bundle's engine files differ",
    )


def test_another_bench_or_bundle_cannot_be_compared():
    with pytest.raises(UsageError, match=r"file of `edgeai bench audio`, this is `edgeai bench engines`"):
        compare(changed(bench="audio"), changed())
    with pytest.raises(UsageError, match="no figure in common"):
        compare(changed(results=[]), changed())


def test_a_folder_and_a_large_file_are_told(folder):
    with pytest.raises(EdgeError, match="cannot be read"):
        read_bench_file(folder)
    large = folder / "large.json"
    with large.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(EdgeError, match="larger than 16 MiB"):
        read_bench_file(large)
