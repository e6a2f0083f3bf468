# The same commands for developers and CI. Each target installs what it needs on a fresh machine, and is quick to repeat.

PROFILE ?= dev
export CARGO_TERM_COLOR ?= auto

.PHONY: help run test lint bench fuzz setup setup-test web

help:
	@echo "make run    set up, build and start a server with its call page (PROFILE=release for an optimized one)"
	@echo "make test   set up and run every test, browsers included"
	@echo "make lint   formatting, clippy, the page's linters, architecture, file lengths"
	@echo "make bench  what a forwarded packet and an idle participant cost, compared with the floor"
	@echo "make fuzz   fuzz every parser and a whole shard, FUZZ_SECONDS=10 each; not part of make test"
	@echo "make setup  only installs what running and linting need; make setup-test also what the tests need"

run: setup web
	cargo build --workspace --bins --profile $(PROFILE)
	target/$(subst dev,debug,$(PROFILE))/anytime serve --dev $(ARGS)

test: setup-test web
	scripts/test.sh

lint: setup web
	scripts/lint.sh

bench: setup web
	scripts/bench.sh

fuzz: setup
	scripts/fuzz.sh $(TARGETS)

setup:
	@scripts/setup.sh

setup-test:
	@scripts/setup.sh test

web:
	@scripts/build-web.sh
