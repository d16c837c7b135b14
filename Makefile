# Two commands matter: `make landscape` and `make test`. Both set up .venv when it is missing or out of date.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: landscape test check gpu docs minimum install lab checkpoints reports notebooks gallery clean
.DEFAULT_GOAL := landscape

landscape: $(STAMP)  ## draw the loss landscape of a shipped distilled student
	$(BIN)/kdviz landscape checkpoints/resnet8_kd+rk.pt

test: $(STAMP)  ## run every test; lines that none of them reached are counted at the end
	$(BIN)/python -m pytest -n auto --cov --cov-report=term

check: $(STAMP)  ## lint, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

gpu: $(STAMP)  ## on a machine with a GPU: the tests marked gpu and the benchmarks, one report in reports/gpu
	$(BIN)/python benchmarks/gpu.py

docs: $(STAMP)  ## the documentation site, in build/site; warnings are errors
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server --directory build/site"

minimum:  ## the tests with the lowest versions that pyproject.toml allows (torch: the newest)
	$(PYTHON) -m venv --clear build/minimum
	build/minimum/bin/python tests/minimum.py > build/minimum/constraints.txt
	build/minimum/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	build/minimum/bin/python -m pip install --quiet --disable-pip-version-check -c build/minimum/constraints.txt -e ".[dev]"
	build/minimum/bin/python -m pytest -n auto -W default -m "not slow" tests

install: $(STAMP)  ## the environment alone

# torchvision without what it asks for: that would be another build of torch.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev,docs,notebooks,compare,optimizers,embeddings,cluster]" pycocotools
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps torchvision
	touch $(STAMP)

lab: $(STAMP)  ## JupyterLab on the notebooks
	$(BIN)/jupyter lab notebooks

checkpoints: $(STAMP)  ## train the shipped checkpoints again (about an hour on two cores)
	$(BIN)/python checkpoints/build.py

reports: $(STAMP)  ## every analysis figure of both papers, from the shipped checkpoints
	$(BIN)/kdviz paper rkkd
	$(BIN)/kdviz paper pld

notebooks: $(STAMP)  ## execute the notebooks; their figures stay in the files
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False notebooks/*.ipynb

gallery: $(STAMP)  ## README's figures, from the shipped checkpoints
	$(BIN)/kdviz landscape checkpoints/resnet8_kd+rk.pt --format png -o runs/gallery/landscape
	$(BIN)/kdviz path checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt --losses ce,kd --format png -o runs/gallery/between
	$(BIN)/kdviz histogram checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt --format png -o runs/gallery/histogram
	$(BIN)/kdviz tau checkpoints/resnet8_ce.pt checkpoints/resnet8_kd.pt checkpoints/resnet8_kd+rk.pt checkpoints/resnet8_dist.pt checkpoints/resnet8_pld.pt --format png -o runs/gallery/tau
	$(BIN)/kdviz suboptimal --format png -o runs/gallery/suboptimal
	$(BIN)/kdviz surface --losses pld --temperature 2,1,.5,.1 --format png -o runs/gallery/surface
	cp runs/gallery/landscape/contour.png docs/landscape.png
	cp runs/gallery/between/surface.png docs/between.png
	cp runs/gallery/histogram/histogram_values.png docs/histogram.png
	cp runs/gallery/tau/tau_distribution.png docs/tau.png
	cp runs/gallery/suboptimal/toy_bars.png docs/suboptimal.png
	cp runs/gallery/surface/both.png docs/surface.png

clean:
	rm -rf $(VENV) build dist *.egg-info
