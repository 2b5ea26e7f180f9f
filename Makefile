# make demo | test | lint | docs | test-versions | release-check | version | lock | clean. Every target installs its packages into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Bytecode halves the time of an import, also where Python may not write any.
INSTALL := $(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode --require-hashes
COMPILE := $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes \
	--no-emit-index-url --custom-compile-command "make lock" --no-emit-package speechbrain-ee-runtime

.PHONY: demo test lint docs test-versions release-check version lock clean
.DELETE_ON_ERROR:

# The virtual environment with uv. Each stamp file is written last, so that an interrupted installation is repeated.
$(BIN)/.uv: locks/uv.txt
	$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 10) or sys.exit("Python 3.10 or newer is needed and $(PYTHON) is %d.%d: give make PYTHON=python3.11" % v[:2])'
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r locks/uv.txt
	touch $@

$(BIN)/.run: $(BIN)/.uv locks/run.txt setup.py runtime/pyproject.toml
	$(INSTALL) -r locks/run.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable ./runtime --editable .
	touch $@

$(BIN)/.dev: $(BIN)/.run locks/dev.txt
	$(INSTALL) -r locks/dev.txt
	touch $@

$(BIN)/.lint: $(BIN)/.uv locks/lint.txt
	$(INSTALL) -r locks/lint.txt
	touch $@

$(BIN)/.docs: $(BIN)/.run locks/docs.txt
	$(INSTALL) -r locks/docs.txt
	touch $@

# Takes five to ten minutes on two cores: generates speech, trains six exits, and prints the savings of early exits.
RUN := results/conformer_ee/1234
demo: $(BIN)/.run
	$(BIN)/python train.py hparams/conformer_ee.yaml
	@echo; echo "One utterance with the calibrated policy:"
	@$(BIN)/speechbrain-ee transcribe --model $(RUN) --json data/synthetic/audio/test/test-00000.wav
	@echo; echo "All test utterances, with the calibrated policy and at full depth:"
	@$(BIN)/python benchmarks/policy_speed.py $(RUN)
	@echo; echo "The same without torch, exported for a device:"
	@$(BIN)/speechbrain-ee export $(RUN) --out $(RUN)/exported
	@$(BIN)/python benchmarks/policy_speed.py $(RUN) --model $(RUN)/exported
	@echo; echo "Plot: $(RUN)/eval/test/exits.png"

# In the order of collection, slow files (tests/recipes) come first; otherwise files with few tests, however slow, come last.
test: $(BIN)/.dev $(BIN)/.docs
	$(BIN)/python tests/web_packages.py
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: $(BIN)/.lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	$(BIN)/codespell
	PYTHONPATH=runtime $(BIN)/lint-imports --no-cache --no-logo

# Writes the documentation site into site/; a broken link or a docstring that Sphinx cannot read is an error.
docs: $(BIN)/.docs
	$(BIN)/python -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("make docs needs Python 3.11 or newer, and .venv has %d.%d: make clean, then make docs PYTHON=python3.11" % v[:2])'
	$(BIN)/python -m sphinx --builder html --fail-on-warning --keep-going --quiet --fresh-env \
		--conf-dir docs/sphinx --doctree-dir build/doctrees . site
	@echo "Open site/index.html"

# Takes half an hour: runs the fast tests with the oldest, the locked and the newest packages; writes README's table.
test-versions: $(BIN)/.uv
	$(BIN)/python tests/versions.py

# Takes minutes: builds the distributions into dist/, checks them, and installs them in empty environments.
release-check: $(BIN)/.uv
	$(BIN)/python tests/release.py --tag "$(TAG)"

# Sets the version of both distributions: make version NEW=0.2.0
version:
	@echo "$(NEW)" | grep -Eqx '[0-9]+\.[0-9]+\.[0-9]+((a|b|rc)[0-9]+)?' || { echo "NEW is \"$(NEW)\": give a version, as in make version NEW=0.2.0"; exit 2; }
	sed -i.old 's/^__version__ = .*/__version__ = "$(NEW)"/' speechbrain_ee/__init__.py runtime/ee_runtime/__init__.py
	rm speechbrain_ee/__init__.py.old runtime/ee_runtime/__init__.py.old

# Updates the lock files; locks/held.txt lists the packages that are held back, with reasons.
lock: $(BIN)/.uv
	echo uv | $(COMPILE) - --output-file locks/uv.txt
	$(COMPILE) --group lint --output-file locks/lint.txt
	echo ./runtime | $(COMPILE) - setup.py --extra synth --extra report --extra onnx --constraints locks/held.txt --output-file locks/run.txt
	echo ./runtime | $(COMPILE) - setup.py --extra dev --constraints locks/held.txt --constraints locks/run.txt --output-file locks/dev.txt
	$(COMPILE) --group docs --constraints locks/run.txt --constraints locks/dev.txt --output-file locks/docs.txt

# Keeps trained models and data, which take hours to make.
clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
