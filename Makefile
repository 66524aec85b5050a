# make demo   make the environment and measure d90 of a real model on a real task
# make test   make the environment if needed; lint, types and tests
# make clean  remove what those made

PYTHON ?= python3
PIP_FLAGS ?=
# Names are relative and programs run as `python -m`: the folder's name may hold a space.
venv_python := .venv/bin/python
stamp := .venv/.installed

DEMO_TASK ?= wordnet-supersense
DEMO_FLAGS ?= --projection onehot --dims 3000,10000,30000,100000 --learning-rates 0.008 \
	--full-learning-rates 1e-4 --epochs 2 --train-limit 3000 --eval-limit 1000

.PHONY: demo test clean

demo: $(stamp)
	HF_HUB_OFFLINE=1 $(venv_python) -m d90 measure minilm-l6 $(DEMO_TASK) --output demo \
		--store demo/d90.db $(DEMO_FLAGS)

test: $(stamp)
	$(venv_python) -m ruff check .
	$(venv_python) -m ruff format --check .
	$(venv_python) -m pyright
	HF_HUB_OFFLINE=1 $(venv_python) -m pytest -q

clean:
	rm -rf .venv build demo .pytest_cache .ruff_cache .hypothesis

# Installed again when the dependencies or the native code change.
$(stamp): pyproject.toml constraints.txt CMakeLists.txt $(wildcard native/*)
	test -x $(venv_python) || "$(PYTHON)" -m venv .venv
	$(venv_python) -m pip install $(PIP_FLAGS) -c constraints.txt -e ".[demo,dev]"
	touch $@
