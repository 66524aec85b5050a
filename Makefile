# make demo   make the environment and measure d90 of a real model on a real task
# make test   make the environment if needed; lint, imports, types and tests
# make sanitize  the kernel tests on a build with AddressSanitizer and UndefinedBehaviorSanitizer
# make bench  measure what it costs, against copying the weights, full fine-tuning and PEFT
# make fuzz   feed 1,000,000 mutated files to every reader of files from outside
# make faults kill, fill, drop and restart under studies, 60 times, and compare their answers
# make clean  remove what those made

PYTHON ?= python3
PIP_FLAGS ?=
# Names are relative and programs run as `python -m`: the folder's name may hold a space.
venv_python := .venv/bin/python
# The editable install maps module by module: other names of modules, another stamp.
modules := $(shell find src -name '*.py' | LC_ALL=C sort | cksum | tr ' ' -)
stamp := .venv/.installed-$(modules)
bench_stamp := $(stamp)-bench

DEMO_TASK ?= wordnet-supersense
DEMO_FLAGS ?= --projection onehot --learning-rates 0.008,0.016 --baseline-learning-rates 1e-4,2e-4 \
	--interval-ratio 3 --budget 14 --epochs 1 --batch-size 16 --max-train-samples 3000 --max-eval-samples 1000

# Such as --quick, --only training or --threads 4.
BENCH_FLAGS ?=

# Such as --runs 100000, --seed 7 or --reader summary.
FUZZ_FLAGS ?=

# Such as --faults 200, --seed 7 or --ground "server, processes".
FAULTS_FLAGS ?=

.PHONY: demo test sanitize bench fuzz faults clean

demo: $(stamp)
	HF_HUB_OFFLINE=1 $(venv_python) -m d90 measure minilm-l6 $(DEMO_TASK) --output demo \
		--store demo/d90.db $(DEMO_FLAGS)

test: $(stamp)
	$(venv_python) -m ruff check .
	$(venv_python) -m ruff format --check .
	$(venv_python) -c "from importlinter.cli import lint_imports_command as lint; lint(['--no-logo'])"
	$(venv_python) -m pyright
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(venv_python) -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder

# The sanitizer's library has to come first in a Python that was not built with it.
sanitize: $(stamp)
	$(venv_python) -m cmake -S . -B build/sanitize -DD90_SANITIZE=ON >/dev/null
	$(venv_python) -m cmake --build build/sanitize --parallel 2
	LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so)" \
		ASAN_OPTIONS=detect_leaks=0 D90_LIBRARY=build/sanitize/libd90.so D90_KERNEL=native \
		$(venv_python) -m pytest -q tests/projections/kernels/test_native.py tests/projections/test_contract.py

bench: $(bench_stamp)
	HF_HUB_OFFLINE=1 $(venv_python) -m benchmarks $(BENCH_FLAGS)

fuzz: $(stamp)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(venv_python) -m tests.fuzz $(FUZZ_FLAGS)

faults: $(stamp)
	HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(venv_python) -m tests.faults $(FAULTS_FLAGS)

clean:
	rm -rf .venv build demo .hypothesis .*_cache

# Installed again when the dependencies, the native code or the list of modules change.
$(stamp): pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
	test -x $(venv_python) || "$(PYTHON)" -m venv .venv
	$(venv_python) -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[demo,dev]"
	rm -f .venv/.installed*
	touch $@

# Only the benchmarks need what d90 is compared to.
$(bench_stamp): $(stamp)
	$(venv_python) -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[bench,demo,dev]"
	touch $@
