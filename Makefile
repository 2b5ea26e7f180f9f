# make demo | test | lint | clean. Each makes .venv if it is missing; all share it.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: demo test lint clean
.DELETE_ON_ERROR:

# The stamp is touched last, so that a broken installation is repeated and a whole one is not.
$(STAMP): setup.py
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(BIN)/pip install --disable-pip-version-check -e '.[dev]'
	touch $@

# Ten minutes on two cores: speech, six exits, a table, a picture, and one utterance with and without stopping early.
RUN := results/conformer_ee/1234
demo: $(STAMP)
	$(BIN)/python train.py hparams/conformer_ee.yaml
	@echo; echo "One utterance, stopped where the entropy allows, then through the full encoder:"
	@$(BIN)/speechbrain-ee transcribe --model $(RUN) --json data/synthetic/audio/test/test-00000.wav
	@$(BIN)/speechbrain-ee transcribe --model $(RUN) --json --full data/synthetic/audio/test/test-00000.wav
	@echo; echo "The picture: $(RUN)/eval/test/exits.png"

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/yamllint --strict .
	$(BIN)/codespell

# Trained models and data stay: they cost hours.
clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
