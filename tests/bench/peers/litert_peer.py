"""litert-quantizer alone: post-training int8 of the converter's float file, by its own recipe; nothing trained."""

from __future__ import annotations

from exchange import Made, arguments, stopwatch
from tf_rebuilt import build_network


def main() -> None:
    exchange, out, _ = arguments()
    made = Made(out, ("litert-quantizer", "ai-edge-litert", "tensorflow", "tf_keras"))
    with stopwatch() as seconds:
        network = build_network(exchange)
        made.off = exchange.check(lambda pictures: network(pictures, training=False).numpy())
        import tensorflow as tf
        from ai_edge_litert.interpreter import Interpreter
        from litert_quantizer import quantizer, recipe

        floats = tf.lite.TFLiteConverter.from_keras_model(network).convert()
        ((key, signature),) = Interpreter(model_content=floats).get_signature_list().items()
        (name,) = signature["inputs"]
        given = quantizer.Quantizer(bytearray(floats), recipe.static_wi8_ai8())
        pictures = [{name: picture[None]} for picture in exchange.calibration()]
        ranges = given.calibrate({key: pictures}, num_threads=1)
        path = out / "litert-int8.tflite"
        path.write_bytes(given.quantize(ranges).quantized_model)
        how = "post-training int8, static_wi8_ai8"
        made.add("litert-quantizer", path, precision="int8", how=how, seconds=seconds())
    made.write(exchange.facts)


if __name__ == "__main__":
    main()
