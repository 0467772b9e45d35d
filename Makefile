# The commands of this project. `make demo` and `make test` need a Rust
# toolchain and a C compiler; what else the tests need, they install.

CARGO ?= cargo
target := $(or $(CARGO_TARGET_DIR),target)
scripts := tests/demo tests/packages tests/host/private tests/host/booted tests/slurm/bed benches/run .ci/run $(wildcard packaging/completions/bash/*)
# Tests run as root on a private host, of which nothing is left on this one.
comma := ,
as_root := $(if $(filter 0,$(shell id -u)),,'sudo'$(comma) )
private := target.'cfg(unix)'.runner=[$(as_root)'$(CURDIR)/tests/host/private']

.PHONY: all build demo test check deny bench completions

all: build

# The client needs no NSS: linked statically it starts faster.
build:
	$(CARGO) build --release --bin slurm-tokend --bin slurm-tokenctl
	$(CARGO) rustc --release --bin slurm-token -- -C target-feature=+crt-static

demo:
	$(CARGO) build --quiet --bins
	tests/demo $(target)/debug

test:
	tests/packages
	$(CARGO) test --no-run
	$(CARGO) test --config "$(private)" --lib --test it

# What CI checks before the tests.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	shellcheck $(scripts)
	mandoc -Tlint -Wwarning packaging/man/*

deny:
	$(CARGO) deny --all-features check licenses bans sources

bench:
	benches/run

# Writes the completions of the shells anew, of what the programs' help says.
completions:
	$(CARGO) build --quiet --bins
	packaging/completions/generate $(target)/debug packaging/completions
