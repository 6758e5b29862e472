# make run    the main job: compare strategies on real digits, leave a table and report.html
# make test   every test
# make any-model
#             tests with networks of torchvision, timm and transformers, in an environment of 6 GB
# make lowest, make newest
#             fast tests with the lowest and the newest versions of what dfal needs, by uv; 6 GB each
# make lint   what CI checks beside the tests
# make docs   the site, in site/
# make notebooks, make code-blocks
#             the notebooks of the site in Jupyter; how long each block of code of the docs takes
# make picture, make reference, make figure
#             what is made from the code and the results: docs/pictures, docs/command-line.md,
#             docs/http-api.md, the tables in docs/strategies.md
# make debian install Debian's packages that tests need, as root: a browser, a proxy, data, LaTeX, Node.js
# Options go into ARGS: make run ARGS="--annotations 60", make test ARGS="-k deepfool".

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ANY_MODEL = .venv-any-model
VERSIONS = .venv-versions
JUPYTER = .jupyter
FAST = $(addprefix tests/, analysis data/datasets data/sources experiments/test_trial.py \
  models/test_onnx.py nn/test_augmentation.py nn/test_networks.py nn/test_training.py semisupervised \
  stats/test_significance.py stores/test_store_versions.py strategies/test_badge.py \
  strategies/test_clusters.py strategies/test_core_set.py strategies/test_egl.py \
  strategies/test_scores.py test_loop.py)
ARGS ?=
TEX = /usr/local/share/texmf/tex/latex
DEBIAN = caddy chromium dataset-fashion-mnist gcc libc6-dev nginx openssl texlive-latex-base texlive-latex-recommended

.PHONY: run test coverage any-model lowest newest lint lint-types lint-page docs notebooks code-blocks picture reference figure debian format clean

run: $(VENV)/installed
	$(BIN)/dfal run $(ARGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest --numprocesses auto $(ARGS)

coverage: ARGS = --cov --cov-report=term:skip-covered
coverage: test

any-model: $(ANY_MODEL)/installed
	$(ANY_MODEL)/bin/python -m pip freeze | \
	  grep -E '^(foolbox|timm|torch|torchvision|transformers)=' > results/any-model.txt
	$(ANY_MODEL)/bin/python -m pytest tests/any_model -m any_model -v --no-header $(ARGS) \
	  >> results/any-model.txt; status=$$?; cat results/any-model.txt; exit $$status

# They fix the version of torch, so that constraints.txt does not hold here.
$(ANY_MODEL)/installed: pyproject.toml
	$(PYTHON) -m venv $(ANY_MODEL)
	$(ANY_MODEL)/bin/python -m pip install --quiet --upgrade pip
	$(ANY_MODEL)/bin/python -m pip install --editable ".[label]" --group test --group any-model
	@touch $@

# Old packages warn of new ones, so that a warning is no error here.
lowest: RESOLUTION = lowest-direct
newest: RESOLUTION = highest
lowest newest:
	uv venv --quiet --clear --python $(PYTHON) $(VERSIONS)
	uv pip compile --quiet --resolution $(RESOLUTION) --python $(VERSIONS) --all-extras \
	  --output-file $(VERSIONS)/versions.txt pyproject.toml
	uv pip install --quiet --python $(VERSIONS) -r $(VERSIONS)/versions.txt
	uv pip install --quiet --python $(VERSIONS) --no-deps --editable .
	uv pip install --quiet --python $(VERSIONS) pytest hypothesis beartype httpx2 onnxruntime
	$(VERSIONS)/bin/python -m pytest -q -o filterwarnings= $(ARGS) $(FAST)

lint: $(VENV)/installed lint-types lint-page
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports

lint-types: $(VENV)/installed
	$(BIN)/mypy

# A warning is an error, so that no link leads nowhere.
docs: $(VENV)/installed
	$(BIN)/python -m sphinx -b html --fail-on-warning --keep-going --quiet docs site
	@echo "The site: file://$(CURDIR)/site/index.html"

notebooks: $(JUPYTER)/installed
	PYTHONPATH=$(JUPYTER) $(BIN)/python docs/run_notebooks.py $(ARGS)

# Beside the environment: the versions of constraints.txt stay as they are.
$(JUPYTER)/installed: $(VENV)/installed
	rm -rf $(JUPYTER)
	$(BIN)/python -m pip install --quiet --target $(JUPYTER) --group notebooks
	@touch $@

code-blocks: $(VENV)/installed
	$(BIN)/python tests/docs/block_times.py

picture: $(VENV)/installed
	$(BIN)/python docs/architecture.py

reference: $(VENV)/installed
	$(BIN)/python docs/command_line.py
	$(BIN)/python docs/http_api.py
	$(BIN)/python docs/tables.py

figure: $(VENV)/installed
	$(BIN)/python docs/readme_figure.py
	$(BIN)/python docs/how_dfal_works.py
	$(BIN)/python docs/gallery.py

# The types of the API's replies are made from its OpenAPI description.
lint-page: $(VENV)/installed node_modules/installed
	mkdir -p .types
	$(BIN)/python -m dfal.labelling.web.api > .types/openapi.json
	npm run --silent types
	npm run --silent lint

node_modules/installed: package.json package-lock.json
	@command -v npm >/dev/null || { echo 'make: the page is linted by npm (Debian: make debian)' >&2; exit 2; }
	npm ci --silent --no-audit --no-fund
	@touch $@

debian:
	apt-get update -qq
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN)
	@# Three packages of LaTeX out of two collections of Debian, which require 100 MB more.
	folder=$$(mktemp -d) && cd "$$folder" && \
	  apt-get download -qq texlive-latex-extra texlive-science && \
	  for deb in *.deb; do dpkg-deb --extract "$$deb" all || exit; done && \
	  mkdir -p $(TEX) && cd all/usr/share/texlive/texmf-dist/tex/latex && \
	  cp -r siunitx threeparttable translations $(TEX) && rm -r "$$folder"
	mktexlsr
	@# Node.js from elsewhere brings an npm that Debian's own would replace.
	command -v npm >/dev/null || \
	  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm

format: $(VENV)/installed node_modules/installed
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	npm run --silent format

# The environment is made anew where a requirement has changed, and counts as made only when it is complete.
$(VENV)/installed: pyproject.toml constraints.txt hatch_build.py src/dfal/nn/kernels.c
	@$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'make: $(PYTHON) must be Python 3.11 or newer with venv (Debian: apt install python3-venv)' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --constraint constraints.txt --build-constraint constraints.txt --editable ".[label]" --group dev
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps --group agreement
	@touch $@

clean:
	rm -rf $(VENV) $(ANY_MODEL) $(VERSIONS) $(JUPYTER) node_modules .types dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage
