# make lab     a virtual environment with wanlab in it, and JupyterLab on the first notebook
# make test    all that CI runs: lint, types, tests, notebooks, the notebook faces in a browser
# make check   lint and types only
#
# PYTHON is the Python that makes the environment, VENV where it is, WORKERS how many processes test; LAB_ARGS and TEST_ARGS go
# to JupyterLab and pytest:
#     make lab PYTHON=python3.12 LAB_ARGS="--no-browser --port 9999"

PYTHON ?= python3
VENV ?= .venv
LAB_ARGS ?=
TEST_ARGS ?=
WORKERS ?= 2
NOTEBOOK = notebooks/01_first_clip.ipynb
INSTALL = $(VENV)/bin/python -m pip install --disable-pip-version-check -c constraints.txt -e

.PHONY: lab test check

# JupyterLab refuses to run as root, as in containers, unless it is told to. The notebook goes in as the default address and
# not as a file, so that the address printed with --no-browser leads to it too.
lab: $(VENV)/.lab
	root=; if [ "$$(id -u)" = 0 ]; then root=--allow-root; fi; \
	exec "$(VENV)/bin/jupyter" lab $$root --LabApp.default_url=/lab/tree/$(NOTEBOOK) $(LAB_ARGS)

test: check
	"$(VENV)/bin/python" -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

check: $(VENV)/.test
	"$(VENV)/bin/ruff" check
	"$(VENV)/bin/ruff" format --check
	"$(VENV)/bin/mypy"

# The stamps: nothing is installed again until one of these files changes.
$(VENV)/.lab: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) ".[lab]"
	touch $@

$(VENV)/.test: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) ".[lab,test]"
	touch $(VENV)/.lab $@

$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
	{ echo 'wanlab needs Python 3.11, 3.12 or 3.13: make lab PYTHON=python3.12'; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@
