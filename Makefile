# Every target sets up what it needs. PYTHON may name another interpreter (3.11 or newer).
PYTHON ?= python3
BIN := .venv/bin
MIRROR := $(or $(FINELINE_MIRROR),$(wildcard ../shared/data))
MIRROR_OPTION := $(if $(MIRROR),--mirror $(MIRROR))
RUN ?= runs/release
FLOORS := eval/fineline_eval/floors.json

.PHONY: demo setup train serve eval card bench test check format quick clean

.venv/runtime: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $@

.venv/everything: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,scan-ray,train,eval,dev]'
	touch $@ .venv/runtime

demo: .venv/runtime  ## judge sample texts in many languages with the shipped model
	$(BIN)/fineline classify - < examples/demo.txt

setup: .venv/everything

train: setup  ## the release recipe, from data to bundle
	$(BIN)/fineline train --recipe release $(MIRROR_OPTION)

quick: setup  ## the whole loop in minutes
	$(BIN)/fineline train --recipe quick --out runs/quick $(MIRROR_OPTION)
	$(BIN)/fineline verify --bundle runs/quick/bundle

serve: setup  ## the HTTP endpoint on 127.0.0.1:8000
	$(BIN)/fineline serve

eval: setup  ## judge the shipped model on every suite the mirror has
	$(BIN)/fineline eval $(MIRROR_OPTION)

card: setup  ## publish the last evaluation if the gates hold: report, card, README results, floors
	test ! -f $(FLOORS) || $(BIN)/fineline gates runs/eval
	cp runs/eval/report.json runs/eval/decisions.parquet model_cards/fineline-1/
	$(BIN)/fineline card model_cards/fineline-1/report.json --out model_cards/fineline-1/README.md --readme README.md
	cp -r model_cards/fineline-1/README.md model_cards/fineline-1/figures serving/models/fineline-1/
	$(BIN)/fineline gates model_cards/fineline-1 --record

.venv-infinity/bin/infinity_emb:  ## a rival of the benchmark, which wants older versions of much
	$(PYTHON) -m venv .venv-infinity
	.venv-infinity/bin/python -m pip install --quiet --disable-pip-version-check 'infinity-emb[server,optimum]==0.0.78' torch==2.13.0

bench: setup .venv-infinity/bin/infinity_emb  ## serving beside its rivals: table in serving/README.md; RUN is a finished 'make train'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python serving/bench/serve_bench.py $(MIRROR_OPTION) --run $(RUN) --infinity .venv-infinity --out serving/bench/serve.json
	$(BIN)/python serving/bench/serve_table.py serving/bench/serve.json serving/README.md

test: setup
	$(BIN)/python -m pytest

check: setup  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .venv-infinity build dist runs
