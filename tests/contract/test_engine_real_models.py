"""Published models behind the Engine interface: names, shapes, parity between precisions, and sane answers."""

from __future__ import annotations

import numpy as np
import pytest

from edgeai.bundle.manifest import ImageInput, LogMelInput
from edgeai.engines import EdgeEngine, open_model_file
from edgeai.engines.edges import dequantise
from edgeai.engines.onnx import OnnxEngine
from edgeai.engines.tflite import TfliteEngine

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def models(shared_data):
    return shared_data / "models"


@pytest.fixture(scope="module")
def photograph(shared_data):
    import cv2

    pictures = sorted((shared_data / "coco_people").rglob("*.jpg"))
    picture = cv2.imread(str(pictures[0]))
    assert picture is not None
    return picture


def resized(picture, size):
    import cv2

    return cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)


def test_every_model_opens_and_runs(models):
    found = sorted([*models.rglob("*.tflite"), *models.rglob("*.onnx")])
    assert len(found) >= 15
    for path in found:
        shapes = {"input": (1, 576)} if path.name == "silero_vad.onnx" else {}
        engine = OnnxEngine(path, shapes=shapes) if path.suffix == ".onnx" else open_model_file(path)
        with engine:
            inputs = {spec.name: np.zeros(spec.shape, spec.dtype) for spec in engine.inputs}
            inputs |= {"sr": np.array(16000)} if "sr" in inputs else {}
            outputs = engine.run(inputs)
            assert list(outputs) == [spec.name for spec in engine.outputs]
            for spec in engine.outputs:
                assert outputs[spec.name].size
                assert np.isfinite(dequantise(outputs[spec.name], spec)).all()


def test_keyword_model_int8_and_float32_agree(models):
    contract = LogMelInput(frames=49, mels=10)
    folder = models / "mlperf_tiny"
    with (
        EdgeEngine(open_model_file(folder / "kws_ref_model.tflite"), contract) as small,
        EdgeEngine(open_model_file(folder / "kws_ref_model_float32.tflite"), contract) as large,
    ):
        # the model's own range of features: scale 0.58, zero point 83, so about -123 to 26
        rng = np.random.default_rng(0)
        sure = 0
        for _ in range(50):
            features = rng.normal(0, 8, (1, 49, 10, 1)).astype(np.float32)
            features[..., 0, 0] -= 40
            ((a,), (b,)) = (tuple(engine.run({"features": features}).values()) for engine in (small, large))
            assert a.shape == b.shape == (1, 12)
            assert b.sum() == pytest.approx(1, abs=1e-4)
            if b.max() > 0.8:  # noise leaves the model in doubt; where it is not, eight bits change nothing
                sure += 1
                assert a.argmax() == b.argmax()
        assert sure >= 10


def test_person_model_int8_and_float32_agree(models, photograph):
    picture = np.ascontiguousarray(resized(photograph, 96)[..., ::-1])
    contract = ImageInput(width=96, height=96, colour="RGB", std=(255.0, 255.0, 255.0))
    folder = models / "mlperf_tiny"
    with (
        EdgeEngine(open_model_file(folder / "vww_96_int8.tflite"), contract) as small,
        EdgeEngine(open_model_file(folder / "vww_96_float.tflite"), contract) as large,
    ):
        ((a,), (b,)) = (tuple(engine.run({"image": picture}).values()) for engine in (small, large))
    assert np.abs(a - b).max() < 0.1


def test_ssd_with_nms_inside_knows_its_shapes_before_the_first_run(models, photograph):
    picture = np.ascontiguousarray(resized(photograph, 300)[..., ::-1])
    contract = ImageInput(width=300, height=300, colour="RGB", mean=(128.0,) * 3, std=(128.0,) * 3)
    path = models / "detectors" / "ssd_mobilenet_v1_coco_quant_300.tflite"
    with EdgeEngine(TfliteEngine(path), contract) as engine:
        names = ["TFLite_Detection_PostProcess" + end for end in ("", ":1", ":2", ":3")]
        assert [spec.name for spec in engine.outputs] == names
        assert [spec.shape for spec in engine.outputs] == [(1, 10, 4), (1, 10), (1, 10), (1,)]
        outputs = engine.run({"image": picture})
    scores = outputs[names[2]][0]
    assert (np.diff(scores) <= 0).all()
    assert 0.3 < scores[0] <= 1
    assert outputs[names[3]][0] == 10


def test_yolox_takes_planar_pixels(models, photograph):
    picture = resized(photograph, 416)
    contract = ImageInput(width=416, height=416, layout="NCHW")
    with EdgeEngine(open_model_file(models / "detectors" / "yolox_nano_coco_416.onnx"), contract) as engine:
        output = engine.run({"image": picture})["output"]
        raw = engine.engine.run({"images": picture.transpose(2, 0, 1)[None].astype(np.float32)})["output"]
    assert output.shape == (1, 3549, 85)
    assert np.array_equal(output, raw)
    assert (output[..., 4:] >= 0).all()
    assert (output[..., 4] * output[..., 5:].max(axis=-1)).max() > 0.3


def test_silero_keeps_its_state_outside(models):
    with OnnxEngine(models / "vad" / "silero_vad.onnx", shapes={"input": (1, 576)}) as engine:
        assert [spec.name for spec in engine.inputs] == ["input", "state", "sr"]
        state = np.zeros((2, 1, 128), np.float32)
        for _ in range(3):
            outputs = engine.run(
                {"input": np.zeros((1, 576), np.float32), "state": state, "sr": np.array(16000, np.int64)}
            )
            assert 0 <= outputs["output"][0, 0] < 0.2
            state = outputs["stateN"]
        assert np.abs(state).max() > 0


def test_a_streaming_model_remembers_and_forgets_when_told(models):
    rng = np.random.default_rng(0)
    steps = rng.integers(-128, -79, (60, 1, 3, 40)).astype(np.int8)  # soft noise
    with TfliteEngine(models / "microwakeword" / "hey_mycroft.tflite") as engine:
        assert [(spec.name, spec.dtype) for spec in engine.inputs] == [("input_audio", "int8")]
        assert [(spec.name, spec.dtype) for spec in engine.outputs] == [("dense_1", "uint8")]

        def run_all():
            return [int(engine.run({"input_audio": step})["dense_1"][0, 0]) for step in steps]

        first, second = run_all(), run_all()
        assert first != second
        engine.reset()
        assert run_all() == first
