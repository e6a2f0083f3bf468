# The same commands for developers and CI. `make run` and `make test` do all setup on a fresh machine; repeating them is
# quick.

PROFILE ?= dev
export CARGO_TERM_COLOR ?= auto

.PHONY: help run test lint bench fuzz setup web

help:
	@echo "make run    set up, build and start a server with its call page (PROFILE=release for an optimized one)"
	@echo "make test   set up and run every test, browsers included"
	@echo "make lint   formatting, clippy, the page's linters, architecture, file lengths"
	@echo "make bench  what a forwarded packet and an idle participant cost, beside the floor"
	@echo "make fuzz   every parser and a whole shard against made-up bytes, FUZZ_SECONDS=10 each; not part of make test"
	@echo "make setup  only the set-up"

run: setup web
	cargo build --workspace --bins --profile $(PROFILE)
	target/$(subst dev,debug,$(PROFILE))/anytime serve --dev $(ARGS)

test: setup web
	scripts/test.sh

lint: setup web
	scripts/lint.sh

bench: setup web
	scripts/bench.sh

fuzz: setup
	scripts/fuzz.sh $(TARGETS)

setup:
	@scripts/setup.sh

web:
	@scripts/build-web.sh
