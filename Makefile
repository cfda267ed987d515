# Everything a clone needs is made here: `make demo` and `make test` want only Python 3.11 or newer and make.

PYTHON ?= python3
BIN := .venv/bin
SYNC = $(UV) sync --frozen --inexact --python "$(PYTHON)"
SOURCES := k2kernel tests benchmarks $(wildcard panel_apps)

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "k2kernel needs Python 3.11 or newer; say which with make PYTHON=/path/to/python3.11" >&2; exit 1; }

# uv from the PATH, else a private one that .uv/bin/uv installs.
UV_FOUND := $(shell uv --version >/dev/null 2>&1 && command -v uv)
UV := $(or $(UV_FOUND),.uv/bin/uv)

# An interpreter that is not there is an error, not a download; a virtual environment of the caller is not ours.
export UV_PYTHON_DOWNLOADS := never
# As pip does: behind a proxy that signs anew, only the system's certificates are right.
export UV_SYSTEM_CERTS := true
unexport VIRTUAL_ENV
# Compiled once, at the installation, instead of at each start.
export UV_COMPILE_BYTECODE := 1
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: .services help demo lab test test-long bench soak lint format lock clean

help:  ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

demo: .venv/.run  ## install and run the main job; DATA=folder runs it on your own files
	$(BIN)/k2 demo $(if $(DATA),--data "$(DATA)")

lab: .venv/.lab  ## open JupyterLab with the notebooks on the lake in .k2, made by the demo where there is none
	@test -d "$${K2_HOME:-.k2}" || $(BIN)/k2 demo
	$(BIN)/jupyter lab notebooks

test: lint .services  ## install and run every check: ruff, mypy, pytest
	$(BIN)/pytest -q -m "not long and not alone" -n 3 --dist loadgroup
	$(BIN)/pytest -q -m "alone and not long"

test-long: .venv/.dev .services  ## the tests that take minutes
	$(BIN)/pytest -q -m long

bench: .venv/.dev .bench/.engines .services  ## measure beside other engines; ROWS=1000000 for a quick look, JSON=file to keep it
	$(BIN)/python -m benchmarks --engines .bench/venv/bin/python $(if $(ROWS),--rows $(ROWS)) $(if $(JSON),--json "$(JSON)")

soak: .venv/.dev .services  ## a stream at full load, maintained, asked, replayed and killed; DURATION=1800 seconds
	$(BIN)/python -m benchmarks.soak --seconds $(or $(DURATION),1800) $(if $(JSON),--json "$(JSON)")

lint: .venv/.dev
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy

format: .venv/.dev  ## put the code into shape
	$(BIN)/ruff check --fix $(SOURCES)
	$(BIN)/ruff format $(SOURCES)

lock: $(if $(UV_FOUND),,.uv/bin/uv)  ## resolve pyproject.toml into uv.lock again
	$(UV) lock

clean:  ## remove what make made; a lake (.k2) stays
	rm -rf .venv .uv .bench dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.run: pyproject.toml uv.lock $(if $(UV_FOUND),,.uv/bin/uv)
	@$(CHECK_PYTHON)
	$(SYNC)
	@touch $@

.venv/.lab: pyproject.toml uv.lock .venv/.run
	$(SYNC) --extra notebook
	@touch $@

.venv/.dev: pyproject.toml uv.lock .venv/.run
	$(SYNC) --extra app --extra dev --extra kafka --extra postgres --extra s3 --extra spark
	@touch $@

# What is measured beside does not fit into one environment with the extras.
.bench/.engines: pyproject.toml uv.lock .venv/.run
	UV_PROJECT_ENVIRONMENT=.bench/venv $(SYNC) --group bench
	@touch $@

# The servers that streams and Spark are tested on; without Java or Maven their tests are skipped, in CI they fail.
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/k2kernel
SERVICES := $(CACHE)/services
SPARK := $(CACHE)/spark

.services: $(if $(shell command -v java && command -v mvn),$(SERVICES)/.fetched $(SERVICES)/catalog/.fetched $(SPARK)/.fetched)
.services: $(if $(shell command -v go),$(addprefix $(SERVICES)/,bin/versitygw bin/dashboards compose-spec.json))

# Jars that a file names, in place of $(1). The file is kept with them: where it is the same, another clone fetches
# nothing anew, and takes no jar from under a server that runs.
jars = @cmp -s "$<" "$@" || { rm -rf $(1) && mvn --quiet --batch-mode --file "$<" package -Dinto="$(@D)" && cp "$<" "$@"; }
$(SERVICES)/.fetched: tests/services/pom.xml
	$(call jars,"$(@D)/kafka" "$(@D)/registry" "$(@D)/markers")
	@touch "$@"

$(SERVICES)/catalog/.fetched: tests/services/catalog.xml
	$(call jars,"$(@D)")
	@touch "$@"

$(SPARK)/.fetched: tests/services/spark.xml
	$(call jars,"$(@D)")
	@touch "$@"

$(SERVICES)/bin/versitygw:
	GOBIN="$(SERVICES)/bin" go install github.com/versity/versitygw/cmd/versitygw@v1.8.0

$(SERVICES)/bin/dashboards: $(addprefix tests/services/dashboards/,main.go go.mod go.sum)
	cd "$(<D)" && go build -o "$@"

COMPOSE := github.com/compose-spec/compose-go/v2@v2.16.2
$(SERVICES)/compose-spec.json:
	go mod download $(COMPOSE)
	install -D -m 644 "$$(go env GOMODCACHE)/$(COMPOSE)/schema/compose-spec.json" "$@"

.uv/bin/uv:
	@$(CHECK_PYTHON)
	@$(PYTHON) -m venv .uv || \
		{ echo "Python cannot make a virtual environment; install its venv module (Debian: python3-venv)" >&2; exit 1; }
	.uv/bin/pip install --quiet --disable-pip-version-check uv
