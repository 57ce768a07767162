# Every target runs as typed on a fresh Debian or Ubuntu machine with Rust.
# All builds are of the same packages in one profile, so that llama.cpp is built once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help prerequisites chat test sanitize aarch64 check-aarch64 lint format layering size deny bench plans load paper speculation outlines ros2-peers ros2-golden evaluation train install

# rustup's folder, for shells that have not read its profile yet.
export PATH := $(HOME)/.cargo/bin:$(PATH)
CARGO ?= cargo
# Arguments for chat, bench, outlines and evaluation: make chat ARGS="--prompt hello"
ARGS ?=
# Packages that lint and test look at: those of a normal build. MEMBERS=--workspace adds the
# training program, which nobody needs to run a model (its libraries change how others are built).
MEMBERS ?=
# The model that `make bench` measures: 0.3 GB of random weights in Q4_0.
BENCH_MODEL ?= target/bench.gguf
JUPITER = $(CARGO) run -q --release --bin jupiter --

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

prerequisites: ## Check, and install where possible, what the build needs besides Rust
	@.ci/prerequisites

chat: prerequisites ## Start the chatbot, two stages in one process (ARGS="--help" for its options)
	$(CARGO) run --example chatbot -- $(ARGS)

test: lint ## Check format, lints and layering, and run all tests
	@cache=$$(mktemp -d); trap 'rm -rf "$$cache"' EXIT; \
	echo "$(CARGO) test $(MEMBERS) --locked"; \
	JUPITER_CACHE=$$cache $(CARGO) test $(MEMBERS) --locked

sanitize: prerequisites ## Run the kernels' tests under AddressSanitizer
	@.ci/sanitize

aarch64: prerequisites ## Run the kernels' tests as ARM machines would, emulated by qemu
	@.ci/aarch64 test

check-aarch64: prerequisites ## Check that everything compiles for ARM
	@.ci/aarch64 check

lint: prerequisites layering size deny ## Check format, lints, layering, sizes and licences
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy $(MEMBERS) --all-targets --locked -- -D warnings

format: ## Format all code
	$(CARGO) fmt --all

layering: prerequisites ## Check that dependencies point one way: models <- actors <- runtime
	@.ci/layering

size: ## Check that functions and files are as long as a reader can take
	@.ci/size

deny: ## Check licences, sources and bans with cargo-deny, if it is installed
	@if command -v cargo-deny >/dev/null; then cargo-deny --offline check bans licenses sources; \
	else echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny)"; fi

bench: prerequisites ## Measure against plain llama.cpp on a generated model (ARGS="-r 9", or "-m FILE")
	@mkdir -p $(dir $(BENCH_MODEL))
	test -e $(BENCH_MODEL) || $(JUPITER) synth --arch llama --layers 16 --embd 1536 --heads 24 \
	    --kv-heads 8 --ff 5120 --vocab 8192 --type Q4_0 --seed 1 -o $(BENCH_MODEL)
	$(JUPITER) bench -m $(BENCH_MODEL) --stages 2 --processes -t 1 -p 1024 -n 64 --chunk 128 \
	    --baseline $(ARGS)

plans: prerequisites ## Time the planning
	$(CARGO) run --release --bin plans -- $(ARGS)

load: prerequisites ## Latency over load for each rule that fills steps, simulated or measured (ARGS="FILE.jsonl")
	$(CARGO) run --release --bin load -- $(ARGS)

paper: prerequisites ## Jupiter's table: published, simulated, and ours, as a page and a picture
	$(CARGO) run --release --bin paper -- $(ARGS)

speculation: prerequisites ## What guessing ahead can bring on 1, 2, 4 and 8 stages, predicted and simulated
	$(CARGO) run --release --bin speculation

outlines: prerequisites ## What writing point by point brings to the default model, as a table and a picture (or ARGS="-m FILE")
	$(CARGO) run --release --bin outlines -- $(ARGS)

ros2-peers: prerequisites ## Let two ROS 2 implementations of PyPI talk with our node (needs python3 with venv)
	$(CARGO) build -q $(MEMBERS) --locked --bin jupiter
	@.ci/ros2-peers "$${CARGO_TARGET_DIR:-target}/debug/jupiter"

ros2-golden: ## Make the embedded interfaces of ROS 2 and the golden data of its tests again (PyPI, Python 3.11)
	@folder=$$(mktemp -d); trap 'rm -rf "$$folder"' EXIT; python3 -m venv $$folder; \
	$$folder/bin/pip install -q ros-rclpy ros-rmw-fastrtps-cpp ros-test-msgs \
		$$(printf 'ros-%s-msgs ' std diagnostic geometry lifecycle nav sensor shape stereo trajectory visualization) ros-std-srvs; \
	export AMENT_PREFIX_PATH=$$folder LD_LIBRARY_PATH=$$folder/lib; \
	$$folder/bin/python runtime/src/ros2/golden/make.py $$folder/share

evaluation: prerequisites ## Judge the default model on questions that it was never trained on
	$(CARGO) run --release --bin evaluation -- $(ARGS)

train: prerequisites ## Train the default model anew (about two and a half hours on two cores; goes on where it stopped)
	$(CARGO) run --release -p jupiter-training -- all $(ARGS)

install: prerequisites ## Install the command jupiter into Cargo's folder
	$(CARGO) install --path runtime --locked
