# The commands of the repository. Every target says after ## what it does; `make` alone lists them.

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help install run tests conformance all check openapi settings loadtest bench soak

# Where rustup puts cargo; a shell that was open while it was installed does not know yet.
export PATH := $(PATH):$(HOME)/.cargo/bin

# What `make loadtest` does unless told otherwise.
LOAD ?= latency --own

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: ## Install what running and testing need (Redis, Postgres, a browser) and fetch the crates
	@deploy/install.sh rust redis postgres browser lints
	cargo fetch

run: ## Start Redis, worker and gateway on http://127.0.0.1:5000/; settings: PORT=, PROFILE=release, DATA_DIR= ...
	@deploy/run.sh

tests: ## Install what the tests need and run all tests
	@deploy/install.sh rust redis postgres browser
	@deploy/test.sh tests

conformance: ## Play foreign clients, generators and linters against the server; ONLY=linters,generated,callers,streams
	@deploy/install.sh rust redis node python go java
	@deploy/conformance/run.sh

all: install tests run ## Install, test and run

check: ## Run the quick gate before a commit: format, shell scripts, layers, dependencies, lints, documentation
	@deploy/install.sh rust lints deny
	@deploy/test.sh fmt scripts layers deps lint docs

settings: ## Regenerate deploy/docs/settings.md
	@deploy/settings.sh

openapi: ## Regenerate gateway/openapi.json
	cargo run --quiet --package gateway -- openapi > gateway/openapi.json.new
	mv gateway/openapi.json.new gateway/openapi.json

loadtest: ## Put load on an installation and measure; LOAD='hot --own --peer nchan', LOAD=--help lists the options
	@deploy/install.sh rust redis $(if $(findstring --postgres,$(LOAD)),postgres) $(if $(findstring nchan,$(LOAD)),nchan)
	cargo build --quiet --release --bin gateway --bin fanout-worker --bin loadtest
	target/release/loadtest $(LOAD)

bench: ## Measure the parts and the whole, and compare with the thresholds; ONLY=hot,commit ROUNDS=3 WINDOW=5 QUICK=true PEER=none OUT=
	@deploy/install.sh rust redis postgres $(if $(filter none,$(PEER)),,nchan)
	cargo build --quiet --release --bin gateway --bin fanout-worker --bin loadtest --bin bench
	cargo bench --quiet --no-run $(addprefix --bench ,requests stream entries batches commit)
	deploy/postgres.sh target/release/bench

soak: ## Kill, cut and flood everything, many times, and look whether anything was lost; FAULTS=F1,F3 FLOODS=headers BACKEND=sqlite COUNT_SCALE=0.1 SEED= OUT=
	@deploy/install.sh rust redis postgres
	cargo build --quiet --release --bin gateway --bin fanout-worker --bin soak
	target/release/soak
