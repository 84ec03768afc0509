"""TensorFlow's converter alone: post-training int8 of the float network, nothing trained."""

from __future__ import annotations

from exchange import Made, arguments, stopwatch
from tf_rebuilt import build_network, write_int8


def main() -> None:
    exchange, out, _ = arguments()
    made = Made(out, ("tensorflow", "tf_keras"))
    with stopwatch() as seconds:
        network = build_network(exchange)
        made.off = exchange.check(lambda pictures: network(pictures, training=False).numpy())
        path = out / "converter-int8.tflite"
        write_int8(network, exchange, path)
        made.add("TF converter", path, precision="int8", how="post-training int8", seconds=seconds())
    made.write(exchange.facts)


if __name__ == "__main__":
    main()
