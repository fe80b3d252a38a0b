# What people do here. `make` alone lists it.

DEMO := $(CURDIR)/target/demo

.PHONY: help demo test test-full fuzz bench bench-isolation lint

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' Makefile | expand -t 24

demo: ## builds moat and lets it mend a small repository, killed twice on the way
	cargo build --release --locked --package moat
	MOAT_DATA_DIR=$(DEMO)/data MOAT_CONFIG_DIR=$(DEMO)/config \
	    cargo run --quiet --release --locked --package moat --bin moat -- demo
	@echo
	@echo '`moat` is here:  export PATH="$(CURDIR)/target/release:$$PATH"'

test: ## all tests, with a sample of the crash sweep
	scripts/test

test-full: ## all tests, with the whole crash sweep
	scripts/test --full

fuzz: ## each fuzz target for a minute; needs nightly and cargo-fuzz
	scripts/fuzz

bench: ## measures against the peers, prints one table
	bench/run

bench-isolation: ## tries the containment list on moat and its peers, prints one table
	bench/isolation

lint: ## formatting, clippy and documentation, warnings are errors
	scripts/lint
