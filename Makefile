# The commands of this project. `make demo` and `make test` need a Rust
# toolchain and a C compiler; what else the tests need, they install.

CARGO ?= cargo
target := $(or $(CARGO_TARGET_DIR),target)
scripts := tests/demo tests/packages tests/host/private tests/host/booted tests/slurm/bed benches/run benches/tables .ci/run \
	$(wildcard packaging/completions/bash/*) packaging/restart-running \
	$(wildcard packaging/debian/*.postinst packaging/debian/*.prerm packaging/debian/*.postrm)
# Tests run as root on a private host, of which nothing is left on this one.
comma := ,
root := $(if $(filter 0,$(shell id -u)),,sudo)
as_root := $(if $(root),'$(root)'$(comma) )
private := target.'cfg(unix)'.runner=[$(as_root)'$(CURDIR)/tests/host/private']

.PHONY: all build demo test test-host check deny bench completions
.PHONY: install install-node install-python uninstall deb rpm

all: build

# The client needs no NSS: linked statically it starts faster.
build:
	$(CARGO) build --release --bin slurm-tokend --bin slurm-tokenctl
	$(CARGO) rustc --release --bin slurm-token -- -C target-feature=+crt-static

demo:
	$(CARGO) build --quiet --bins
	tests/demo $(target)/debug

# Packages are installed where no other test has left anything.
test:
	tests/packages
	$(MAKE) build
	$(CARGO) test --no-run
	$(CARGO) test --config "$(private)" --lib --test it -- --skip packages::
	$(CARGO) test --config "$(private)" --test it -- packages::

# A real systemd boots in a Debian root, installs the package and serves a Slurm.
test-host:
	tests/packages
	$(MAKE) deb
	$(root) tests/host/booted $(debian)/slurm-tokend_*.deb

# What CI checks before the tests.
check:
	$(CARGO) fmt --check
	$(CARGO) clippy --all-targets -- -D warnings
	shellcheck --external-sources --check-sourced $(scripts)
	mandoc -Tlint -Wwarning packaging/man/*

deny:
	$(CARGO) deny --all-features check licenses bans sources

bench:
	benches/run

# Writes the completions of the shells anew, of what the programs' help says.
completions:
	$(CARGO) build --quiet --bins
	packaging/completions/generate $(target)/debug packaging/completions

# Installation, by the GNU names. The programs look below /etc, /var and /run,
# whatever PREFIX is. `make install` builds nothing, and writes over no
# configuration; DESTDIR needs no root.
PREFIX ?= /usr/local
INSTALL ?= install
prefix := $(PREFIX)
bindir := $(prefix)/bin
sbindir := $(prefix)/sbin
libexecdir := $(prefix)/lib/slurm-tokend
datadir := $(prefix)/share
mandir := $(datadir)/man
docdir := $(datadir)/doc/slurm-tokend
unitdir := $(prefix)/lib/systemd/system
userunitdir := $(prefix)/lib/systemd/user
sysconfdir := /etc
ZSHDIR ?= $(datadir)/zsh/site-functions
# The first directory below PREFIX where this system's Python looks for modules.
PYTHON ?= python3
PYTHONDIR ?= $(eval PYTHONDIR := $$(shell $(PYTHON) -c 'import sys; print(next((p for p in sys.path if p.startswith("$(prefix)/lib/") and p.endswith("-packages")), ""))'))$(PYTHONDIR)
programs := $(addprefix $(target)/release/,slurm-token slurm-tokend slurm-tokenctl)

# These each user starts, systemd the others.
user_units := systemd/slurm-token-keep.service

# Each line: mode, file, where it goes.
node_files := \
	0755:$(target)/release/slurm-token:$(bindir)/slurm-token \
	0755:$(target)/release/slurm-tokend:$(sbindir)/slurm-tokend \
	0755:$(target)/release/slurm-tokenctl:$(sbindir)/slurm-tokenctl \
	0755:packaging/restart-running:$(libexecdir)/restart-running \
	$(foreach f,$(filter-out $(user_units),$(wildcard systemd/*.service systemd/*.socket systemd/*.timer)),0644:$f:$(unitdir)/$(notdir $f)) \
	$(foreach f,$(user_units),0644:$f:$(userunitdir)/$(notdir $f)) \
	$(foreach f,$(wildcard systemd/sysusers.d/*),0644:$f:$(prefix)/lib/sysusers.d/$(notdir $f)) \
	$(foreach f,$(wildcard systemd/tmpfiles.d/*),0644:$f:$(prefix)/lib/tmpfiles.d/$(notdir $f)) \
	$(foreach f,$(wildcard systemd/drop-ins/* etc/*),0644:$f:$(docdir)/examples/$(notdir $f)) \
	$(foreach f,$(wildcard packaging/man/*),0644:$f:$(mandir)/man$(patsubst .%,%,$(suffix $f))/$(notdir $f)) \
	$(foreach f,$(wildcard packaging/completions/bash/*),0644:$f:$(datadir)/bash-completion/completions/$(notdir $f)) \
	$(foreach f,$(wildcard packaging/completions/zsh/*),0644:$f:$(ZSHDIR)/$(notdir $f)) \
	$(foreach f,$(wildcard packaging/completions/fish/*),0644:$f:$(datadir)/fish/vendor_completions.d/$(notdir $f)) \
	$(foreach f,$(wildcard packaging/selinux/slurm_tokend.*),0644:$f:$(datadir)/slurm-tokend/selinux/$(notdir $f)) \
	0644:packaging/apparmor/usr.sbin.slurm-tokend:$(sysconfdir)/apparmor.d/$(subst /,.,$(patsubst /%,%,$(sbindir)/slurm-tokend)) \
	$(foreach f,README.md SECURITY.md CHANGELOG.md LICENSE packaging/INSTALL.md packaging/openapi.yaml,0644:$f:$(docdir)/$(notdir $f))
python_files = $(foreach f,$(wildcard packaging/python/src/slurm_token/*.py packaging/python/src/slurm_token/py.typed),0644:$f:$(PYTHONDIR)/slurm_token/$(notdir $f))

# Files that name the programs by their place get the true one.
put = umask 022; for line in $(1); do \
	mode=$${line%%:*}; from=$${line\#*:}; to="$(DESTDIR)$${from\#*:}"; from=$${from%%:*}; \
	$(INSTALL) -D -m "$$mode" "$$from" "$$to" || exit; \
	case $$from in systemd/*|packaging/apparmor/*|packaging/selinux/*|packaging/restart-running) \
		sed -i 's|/usr/sbin/|$(sbindir)/|g; s|/usr/bin/slurm|$(bindir)/slurm|g' "$$to" || exit;; esac; done

install: install-node install-python

install-node:
	@for program in $(programs); do [ -x "$$program" ] || { echo "$$program is missing: run make first" >&2; exit 1; }; done
	@$(call put,$(node_files))
	@umask 022; [ -e "$(DESTDIR)$(sysconfdir)/slurm/slurm-tokend.toml" ] || \
		$(INSTALL) -D -m 0644 etc/slurm-tokend.toml "$(DESTDIR)$(sysconfdir)/slurm/slurm-tokend.toml"

install-python:
	@[ -n "$(PYTHONDIR)" ] || echo "the Python module is not installed: $(PYTHON) looks for none below $(prefix); give PYTHONDIR="
	@[ -z "$(PYTHONDIR)" ] || { $(call put,$(python_files)); }

# What `make install` with the same variables put there; not what is in /etc/slurm.
uninstall:
	@for line in $(node_files) $(python_files); do rm -f "$(DESTDIR)$${line##*:}" || exit; done

# Packages for this system's architecture, in target/debian and target/rpm. The
# version is Cargo.toml's; the time is the last commit's, so that the same
# programs give the same packages. MAINTAINER is whom users of a package ask.
MAINTAINER ?= slurm-tokend maintainers <maintainers@slurm-tokend.example>
version = $(shell sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
package_version = $(subst -,~,$(version))
SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)
# For the packers only: a build that sees it builds its libraries anew.
packer = env SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH)
debian := $(abspath $(target))/debian
rpm := $(abspath $(target))/rpm

deb: build
	rm -rf $(debian)
	mkdir -p $(debian)/build
	cp -a packaging/debian $(debian)/build/
	sed -i 's|@MAINTAINER@|$(MAINTAINER)|' $(debian)/build/debian/control
	printf '%s\n' 'slurm-tokend ($(package_version)-1) unstable; urgency=medium' '' \
		'  * Release $(version): see CHANGELOG.md.' '' \
		" -- $(MAINTAINER)  $$(LC_ALL=C date -u -R -d @$(SOURCE_DATE_EPOCH))" >$(debian)/build/debian/changelog
	cd $(debian)/build && \
		$(packer) SOURCE=$(CURDIR) dpkg-buildpackage --build=binary --no-sign --no-check-builddeps
	rm -r $(debian)/build

rpm: build
	rm -rf $(rpm)
	$(packer) rpmbuild -bb --define '_topdir $(rpm)' --define '_builddir $(CURDIR)' --define 'package_version $(package_version)' \
		--define 'maintainer $(MAINTAINER)' packaging/rpm/slurm-tokend.spec
