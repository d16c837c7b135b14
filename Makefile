# Two commands matter: `make landscape` and `make test`. Both set up .venv when it is missing or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: landscape test check install lab checkpoints reports clean
.DEFAULT_GOAL := landscape

landscape: $(STAMP)  ## draw the loss landscape of a shipped distilled student
	$(BIN)/kdviz landscape checkpoints/resnet8_kd+rk.pt

test: $(STAMP)  ## run every test
	$(BIN)/python -m pytest -n auto

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

install: $(STAMP)  ## the environment alone

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,notebooks,compare]"
	touch $(STAMP)

lab: $(STAMP)  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

checkpoints: $(STAMP)  ## train the shipped checkpoints again (about an hour on two cores)
	$(BIN)/python checkpoints/build.py

reports: $(STAMP)  ## every analysis figure of both papers, from the shipped checkpoints
	$(BIN)/kdviz paper rkkd
	$(BIN)/kdviz paper pld

clean:
	rm -rf $(VENV) build dist *.egg-info
