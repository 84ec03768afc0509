# Each target does its own set-up. `make help` lists them.
SHELL := /bin/bash
BIN := .venv/bin
ARGS ?=
# Two tests at a time, a file to a worker: what a file makes once, it makes once. More would only wait for memory.
WORKERS ?= 2

.PHONY: help setup demo test lint format types contracts bench-compress bench-widths bench-quantize bench-qat bench-unequal bench-exports bench-peers \
  import-check trt-check trt-api wheel-check zoo-eval bench-zoo bench-serve bench-speakers bench-learning-curve bench-large \
  bench-overhead bench-cameras fault-suite lock clean
.DEFAULT_GOAL := help

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 22

setup: ## .venv with everything (Debian packages too, where root or sudo is there)
	@.ci/setup.sh

demo: setup ## the whole main job in five minutes: distil a student, run it, report over MQTT
	@$(BIN)/edgeai-compress demo $(ARGS)

test: setup ## all tests; ARGS="tests/unit -k name" picks some
	@$(BIN)/python -m pytest $(or $(ARGS),-n $(WORKERS) --dist loadfile)

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: setup ## let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

types: setup ## mypy, strict
	@$(BIN)/mypy

contracts: setup ## who may import whom
	@$(BIN)/lint-imports --no-cache --no-logo

bench-compress: setup ## what compression brings on real data; hours at full length, ARGS="--only digits --seeds 1" for less
	@$(BIN)/python tests/bench/bench_compress.py --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-widths: setup ## the sweep that says how wide bench-compress' baselines must be; hours, ARGS="--table" prints it
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_widths --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-quantize: setup ## what each precision costs and brings, on bench-compress' baselines; ARGS="--only digits" for less
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_quantize --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-qat: setup ## quantization-aware training of a zoo detector beside int8 after training, on its test split; about an hour
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_qat --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-unequal: setup ## what cross-layer equalization wins back of unequal channels, int8 per tensor; some minutes
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_unequal --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-exports: setup ## every CNN of keras.applications, LSTM and GRU to int8 TFLite and ONNX Q/DQ; an hour, ARGS="--only MobileNetV2,gru" for less
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_exports $(ARGS)

bench-peers: setup ## the digits baseline through tfmot, TF's converter and Torch-Pruning too, after bench-compress; .venv-peers takes 4 GB
	@.ci/peers.sh
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_peers $(ARGS)

import-check: setup ## real detectors' ONNX files through onnx2tf, in its own environment: 2.6 GB, once
	@EDGEAI_ONNX2TF=1 $(BIN)/python -m pytest -q tests/system/test_import_onnx.py

trt-check: setup ## our ONNX exports through NVIDIA's own parser and builder, on the CPU; fetches 90 MB of NVIDIA's wheels
	@.ci/trt_check.sh

trt-api: setup ## names and signatures of TensorRT's and CUDA's real bindings, releases 8.6 to 11.4; fetches 30 MB
	@.ci/trt_api.sh $(ARGS)

wheel-check: setup ## build the wheel, install it in a clean environment, use it from /
	@.ci/wheel_check.sh

zoo-eval: setup ## every model of the zoo on its test split: are cards and README true? ARGS="--write" writes them, "--only commands" is one
	@$(BIN)/edgeai-compress zoo-eval --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-speakers: setup ## a keyword recipe without each of its speakers, measured on that one; some ten minutes a speaker
	@$(BIN)/python tests/bench/bench_speakers.py --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-learning-curve: setup ## would more pictures help? field-weeds' recipe on a part of its pictures, and on more; minutes a size
	@$(BIN)/python tests/bench/bench_learning_curve.py --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-large: setup ## memory of a network of 24 million parameters through prune, distill, quantize and export; some minutes
	@$(BIN)/python tests/bench/bench_large.py $(ARGS)

bench-overhead: setup ## our engine call over the library's own at 320 x 320 x 3, each format, layout and norm; seconds
	@$(BIN)/python tests/bench/bench_overhead.py $(ARGS)

bench-zoo: setup ## the zoo beside YOLOX-nano, SSD-MobileNet, MLPerf Tiny's keyword model and microWakeWord, on test splits; some minutes
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_zoo --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-serve: setup ## edgeai serve under load beside the bare engine, by turns; a minute, wrk where it is installed
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_serve --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

bench-cameras: setup ## edgeai run beside loops of supervision, norfair and MediaPipe, same model and video; ten minutes, .venv-peers takes 1 GB
	@.ci/peers.sh cameras
	@PYTHONPATH=tests $(BIN)/python -m bench.bench_cameras --data $${EDGEAI_DATA:-../shared/data} $(ARGS)

fault-suite: setup ## events counted while links, brokers, the device, disks and clocks fail, beside plain paho; half an hour, ARGS="--short" a minute
	@PYTHONPATH=tests $(BIN)/python -m fault_suite $(ARGS)

lock: setup ## fresh .ci/constraints.txt
	@.ci/lock.sh

clean: ## remove what builds and tests leave (not .venv, not out/)
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
