# What a person or CI does with Steppe. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help install-needs build images demo test test-unit test-versions test-kills test-nomad proto-release check bench clean

# sudo forgets where the user's Rust is.
ifneq ($(SUDO_USER),)
user-home := $(shell getent passwd "$(SUDO_USER)" | cut -d: -f6)
export PATH := $(PATH):$(user-home)/.cargo/bin
export RUSTUP_HOME ?= $(user-home)/.rustup
endif

VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml)

# Crates that can't be built without C libraries or a static libc, for those who have cargo alone.
NEEDY := steppe-testbed steppe-integration
ifneq ($(shell pkg-config --exists libnftnl libmnl 2>/dev/null && echo yes),yes)
NEEDY += steppe-netfilter-agent
endif

help: ## lists the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

install-needs: ## installs what is missing, as root; says what and why
	@integration/install-needs

build: install-needs ## builds everything
	cargo build --workspace

# The images are made of what is on this machine, so that no registry and no Docker daemon is needed.
PROFILE ?= release
IMAGES ?= target/images
images: install-needs ## makes the container images, as archives for `docker load`, in target/images
	cargo build --profile $(PROFILE) -p steppe-cli -p steppe-control -p steppe-proxy -p steppe-netfilter-agent -p steppe-dns
	@docker/pack target/$(PROFILE:dev=debug) $(IMAGES) $(VERSION)

demo: install-needs ## raises two hosts and shows the story, as root; KEEP=1 leaves them up
	@integration/run-demo

test: install-needs ## runs every test, as root
	@integration/run-tests

test-unit: ## runs the tests that need nothing but cargo
	cargo test --workspace $(addprefix --exclude ,$(NEEDY))

test-versions: install-needs ## runs the suite with the previous release's control, and with its agents, as root
	@integration/run-versions-apart

test-kills: install-needs ## shows that each rule of the netfilter-agent is needed, as root
	@integration/run-kills

test-nomad: ## runs the tests on a real Nomad, as root: NOMAD_BIN, or the one in PATH; writes integration/nomad-report.md
	@integration/install-needs nomad
	@integration/run-nomad-tests

proto-release: ## keeps today's protocol as the one that later changes must be compatible with
	cargo run --quiet -p steppe-api --example descriptor-set >proto/released.binpb
	git rev-parse HEAD >integration/previous-release

check: install-needs ## formatting, lints, each crate alone, licences of dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@for crate in $$(cargo tree --workspace --depth 0 --prefix none | awk 'NF { print $$1 }'); do \
	    echo "cargo check -p $$crate"; cargo check --quiet -p "$$crate" || exit 1; done
	@if command -v cargo-deny >/dev/null; then cargo deny check bans licenses sources; \
	    else echo "cargo deny is not installed: licences of dependencies are not checked"; fi

bench: ## measures Steppe beside its peers, as root; WHAT="proxy --rounds 5", "grants", …; all without it
	@integration/run-bench $(WHAT)

clean: ## removes what was built and downloaded
	cargo clean
