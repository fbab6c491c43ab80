# Everything that README.md names. `make help` lists it.

PROGRAMS := pgagroal pgagroal-cli pgagroal-admin pgagroal-scriptrunner pgagroal-console

# A release archive has its version in a file. That of a checkout is the last tag and what came after it. Without a
# tag, or without git, it is the first version in CHANGELOG.md, with "-dev" while that one has no date. git is given
# its directory: it must not take the repository around an unpacked archive, and may belong to another user.
GIT = git --git-dir=.git
VERSION ?= $(shell v=$$(cat dist.version 2>/dev/null || $(GIT) describe --tags --match 'v[0-9]*' --dirty 2>/dev/null) || \
	v=$$(sed -n 's/^\#\# \[\([0-9][^]]*\)\] - [0-9].*/\1/p; t; s/^\#\# \[\([0-9][^]]*\)\].*/\1-dev/p' CHANGELOG.md | head -n 1); echo "$${v:-devel}" | sed 's/^v//')
COMMIT ?= $(shell cat dist.commit 2>/dev/null || $(GIT) describe --always --exclude '*' --abbrev=12 --dirty 2>/dev/null)
# The time of everything that is built, so that it can be built again byte by byte: that of the commit.
export SOURCE_DATE_EPOCH ?= $(shell cat dist.time 2>/dev/null || $(GIT) log -1 --format=%ct)

# Where build puts the programs and install takes them from. Packages of another architecture have their own.
BUILDDIR = bin

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR = $(PREFIX)/bin
MANDIR = $(PREFIX)/share/man
DOCDIR = $(PREFIX)/share/doc/pgagroal
HOOKDIR = $(PREFIX)/lib/pgagroal/hooks
BASHDIR = $(PREFIX)/share/bash-completion/completions
ZSHDIR = $(PREFIX)/share/zsh/site-functions
FISHDIR = $(PREFIX)/share/fish/vendor_completions.d
UNITDIR = $(PREFIX)/lib/systemd/system
SYSUSERSDIR = $(PREFIX)/lib/sysusers.d
TMPFILESDIR = $(PREFIX)/lib/tmpfiles.d
SHAREDIR = $(PREFIX)/share/pgagroal

# What is installed, as mode:file:directory. Packages are made of the same list.
MANIFEST = \
	$(foreach f,$(PROGRAMS),0755:$(BUILDDIR)/$f:$(BINDIR)) \
	$(foreach s,1 5 7 8,$(foreach f,$(wildcard man/*.$s),0644:$f:$(MANDIR)/man$s)) \
	$(foreach f,$(wildcard contrib/systemd/*.service contrib/systemd/*.socket),0644:$f:$(UNITDIR)) \
	$(foreach f,$(wildcard contrib/sysusers.d/*.conf),0644:$f:$(SYSUSERSDIR)) \
	$(foreach f,$(wildcard contrib/tmpfiles.d/*.conf),0644:$f:$(TMPFILESDIR)) \
	$(foreach f,$(wildcard contrib/completions/bash/*),0644:$f:$(BASHDIR)) \
	$(foreach f,$(wildcard contrib/completions/zsh/*),0644:$f:$(ZSHDIR)) \
	$(foreach f,$(wildcard contrib/completions/fish/*),0644:$f:$(FISHDIR)) \
	$(foreach f,$(wildcard contrib/hooks/*.sh),0755:$f:$(HOOKDIR)) \
	$(foreach f,$(wildcard contrib/hooks/*.sample),0644:$f:$(HOOKDIR)) \
	$(foreach d,prometheus grafana,$(foreach f,$(wildcard contrib/$d/*.yml contrib/$d/*.json),0644:$f:$(SHAREDIR)/$d)) \
	$(foreach f,$(wildcard doc/console/*.png),0644:$f:$(DOCDIR)/console) \
	$(foreach f,$(wildcard doc/*.svg),0644:$f:$(DOCDIR)) \
	$(foreach f,$(wildcard pgagroal.conf.sample README.md CHANGELOG.md LICENSE doc/*.md),0644:$f:$(DOCDIR))

# Texts name the places of PREFIX=/usr/local, and their links those of a checkout. An
# installed text names the places where things have been installed.
PLACES = \
	-e 's|/usr/local/lib/pgagroal/hooks|$(HOOKDIR)|g' \
	-e 's|/usr/local/bin/pgagroal|$(BINDIR)/pgagroal|g' \
	-e 's|/usr/local/share/doc/pgagroal|$(DOCDIR)|g' \
	-e 's|](doc/|](|g' \
	-e 's|](\.\./CHANGELOG\.md)|](CHANGELOG.md)|g' \
	-e 's|](\(\.\./\)\{0,1\}man/\([^)]*\)\.\([1-8]\))|]($(MANDIR)/man\3/\2.\3)|g' \
	-e 's|](\(\.\./\)\{0,1\}contrib/hooks)|]($(HOOKDIR))|g' \
	-e 's|](\(\.\./\)\{0,1\}contrib/systemd)|]($(UNITDIR))|g' \
	-e 's|/usr/local/share/pgagroal|$(SHAREDIR)|g' \
	-e 's|](\(\.\./\)\{0,1\}contrib/prometheus)|]($(SHAREDIR)/prometheus)|g' \
	-e 's|](\(\.\./\)\{0,1\}contrib/grafana)|]($(SHAREDIR)/grafana)|g'

# The checkout may belong to somebody else than who builds, which git, asked by go
# for a stamp, refuses; version and commit come from here anyway.
RELEASE = github.com/pgagroal-go/pgagroal/internal/release
GOFLAGS_BUILD = -trimpath -buildvcs=false \
	-ldflags '-s -w -X $(RELEASE).version=$(VERSION) -X $(RELEASE).commit=$(COMMIT) -X $(RELEASE).date=$(SOURCE_DATE_EPOCH)'

.DEFAULT_GOAL := build
.PHONY: build demo demo-up demo-down test test-all test-17 test-drivers test-browser test-patroni test-race test-packages test-systemd test-documents regress fuzz bench lint html install deb rpm dist image clean help

build: ## build the programs into ./bin
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $(BUILDDIR)/ $(addprefix ./cmd/,$(PROGRAMS))

bin/pgagroal-demo: build
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $@ ./test/demo

# PICTURE=doc/demo.svg draws it anew.
PIPELINE ?= session

demo: bin/pgagroal-demo ## kill a primary under load and show what clients see; PIPELINE=transaction for the other pipeline
	.ci/setup demo
	bin/pgagroal-demo -pipeline $(PIPELINE) $(if $(PICTURE),-picture $(PICTURE))

demo-up: bin/pgagroal-demo ## the same servers and pool in ./demo-data, to play with
	.ci/setup demo
	bin/pgagroal-demo -pipeline $(PIPELINE) up

demo-down: ## stop what demo-up has started
	@if [ -x bin/pgagroal-demo ]; then bin/pgagroal-demo down; else echo 'there is no demo'; fi

# go test runs as many packages at a time as there are processors; the black-box
# tests wait more than they work, so a few of each package run at once. The
# time-out is that of a package.
TESTFLAGS = -parallel 4 -timeout 10m
# internal/pbkdf says why HMAC and SHA-256 are left out: with them make test takes twice as long.
RACE = -race '-gcflags=crypto/internal/fips140/sha256=-race=false' '-gcflags=crypto/internal/fips140/hmac=-race=false' '-gcflags=./internal/pbkdf=-race=false'

test: ## install what tests need, then run all of them
	.ci/setup test
	go vet ./... ./.ci/gotest
	go build $(RACE) ./... # or the first tests compete with the compiler
	go run ./.ci/gotest -run TestSimulation -timeout 10m ./supervisor/failover -schedules 250000 # one goroutine a schedule: nothing to race
	go run ./.ci/gotest -run HoldNoSecret -timeout 5m ./test/takeover # searches all memory, and the race detector's has no end
	go run ./.ci/gotest $(RACE) $(TESTFLAGS) ./... ./.ci/gotest

# What differs from one version of PostgreSQL to the next: protocol, drivers, failover.
test-17: ## the tests of protocol, drivers and failover beside PostgreSQL 17
	.ci/setup test-17
	go mod download
	.ci/postgresql-17 go run ./.ci/gotest $(TESTFLAGS) ./test/login ./test/client ./test/transaction ./test/failover ./test/primary
	.ci/postgresql-17 go run ./.ci/gotest $(TESTFLAGS) ./test/drivers -all

test-drivers: ## a dozen drivers over TLS, in each pipeline
	.ci/setup test drivers
	go run ./.ci/gotest $(TESTFLAGS) ./test/drivers -all

# SCREENSHOTS=doc/console makes its pictures anew.
test-browser: ## the web console in chromium
	.ci/setup browser
	go vet -tags browser ./console
	go run ./.ci/gotest -tags browser -run Browser -timeout 10m ./console $(if $(SCREENSHOTS),-args -screenshots $(abspath $(SCREENSHOTS)))

test-patroni: ## failover_mode = follow before a real Patroni
	.ci/setup test patroni
	go vet -tags patroni ./test/patroni
	go run ./.ci/gotest -tags patroni -timeout 10m ./test/patroni

# An hour and more: other schedules than make test plays, each fault and each
# disturbance 20 times with the default times, and 500 rounds of killed clients.
test-all: test test-17 test-drivers test-browser test-patroni test-packages test-systemd test-documents ## what make test has no time for: long simulations, faults with the default times, again and again
	go run ./.ci/gotest -run "TestSimulation|PacketLoss" -timeout 60m ./supervisor/failover -schedules 5000000 -seed 2000000 -losses 20000
	go run ./.ci/gotest -run PassedOver -timeout 60m ./internal/pool -steps 5000000
	go run ./.ci/gotest -timeout 90m ./test/faults -repeat 20
	PGAGROAL_TEST_ROUNDS=500 go run ./.ci/gotest -run KilledOnes -timeout 60m ./test/client
	go run ./.ci/gotest -parallel 6 -timeout 60m ./test/hangs -all
	go run ./.ci/gotest -parallel 4 -timeout 60m -run "LoginsOfEveryMethod|CertificatesOfEachKind" ./test/login -all
	go run ./.ci/gotest -run "TestAScrape|TestReloads" -timeout 30m ./test/metrics -all
	go run ./.ci/gotest -timeout 60m -run TestWorkersAreReplaced ./test/operator -all
	go run ./.ci/gotest -timeout 60m ./test/upgrade -all
	go run ./.ci/gotest -timeout 60m -run UnderACrowd ./test/failover -rounds 20
	.ci/postgresql-17 go run ./.ci/gotest -parallel 4 -timeout 60m -run "LoginsOfEveryMethod|CertificatesOfEachKind" ./test/login -all

test-race: ## run all tests twice under the race detector, in random order
	.ci/setup test
	go run ./.ci/gotest $(RACE) $(TESTFLAGS) -timeout 20m -count 2 -shuffle on ./...

# The next three make the packages by other processes, whose files go test does not see: without -count 1 it would go on
# telling of an earlier product.
test-packages: ## the packages: two builds are equal, linters, both kinds alike, arm64 in an emulation, image, Kubernetes
	.ci/setup packages
	go -C .ci/packages vet ./...
	go -C .ci/packages test -count 1 -timeout 20m ./...

# PACKAGES=DIR keeps the packages there, and takes them from there the next time. ROOT=bookworm or ROOT=trixie boots a
# root of that release in which nothing is installed, instead of this machine's.
test-systemd: ## a Debian that is booted here, with the .deb, units and servers: start to purge
	.ci/setup systemd $(if $(ROOT),test-17)
	go vet -tags systemd ./test/systemd
	go run ./.ci/gotest -count 1 -tags systemd -timeout 30m ./test/systemd $(if $(PACKAGES),-packages $(abspath $(PACKAGES))) $(if $(ROOT),-root "$$(.ci/root $(ROOT))")

test-documents: ## what documents have people type, on a Debian with nothing in it that the first call makes
	.ci/setup documents
	go mod download
	go -C .ci/packages mod download
	go vet -tags bare ./test/firsthour
	go run ./.ci/gotest -count 1 -tags bare -run Bare -timeout 60m ./test/firsthour

regress: build ## run PostgreSQL's own regression tests through the pool
	.ci/setup regress
	test/regress/run $(REGRESS)

fuzz: ## run each fuzz target for FUZZTIME (20s)
	.ci/fuzz $(FUZZTIME)

# The tables of doc/PERFORMANCE.md: make bench BENCH='-write doc/PERFORMANCE.md'
bin/pgagroal-bench: build
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o $@ ./test/bench

bench: bin/pgagroal-bench ## measure beside PgBouncer; BENCH='-cases PATTERNS -rounds N ...'
	.ci/setup bench
	bin/pgagroal-bench $(BENCH)

lint: ## install and run the linters
	.ci/setup lint
	.ci/lint

html: ## make a site of the manual pages and documents in dist/html
	.ci/setup lint
	go run ./doc/site

install: ## install into DESTDIR and PREFIX what `make build` has built
	@set -e; text=$$(mktemp); trap 'rm -f "$$text"' EXIT; for entry in $(MANIFEST); do \
		mode=$${entry%%:*}; rest=$${entry#*:}; file=$${rest%%:*}; dir=$(DESTDIR)$${rest#*:}; \
		if [ ! -e "$$file" ]; then echo "$$file is missing: run make build first" >&2; exit 1; fi; \
		from=$$file; case $$file in $(BUILDDIR)/*) ;; *) sed $(PLACES) "$$file" >"$$text"; from=$$text ;; esac; \
		install -D -m "$$mode" "$$from" "$$dir/$${file##*/}"; \
		echo "$$dir/$${file##*/}"; \
	done

# The files of a package are those of make install; .ci/packages says the rest. It is a module of its own.
ARCH ?= $(shell go env GOHOSTARCH)
DIST = $(CURDIR)/dist
PACKAGED = $(DIST)/$(ARCH)

package = rm -rf $(PACKAGED)/root-$1; \
	GOOS=linux GOARCH=$(ARCH) $(MAKE) --no-print-directory build BUILDDIR=$(PACKAGED)/bin && \
	$(MAKE) --no-print-directory install BUILDDIR=$(PACKAGED)/bin DESTDIR=$(PACKAGED)/root-$1 PREFIX=/usr DOCDIR=/usr/share/doc/pgagroal-go >/dev/null && \
	go -C .ci/packages run . -format $1 -arch $(ARCH) -version '$(VERSION)' -root $(PACKAGED)/root-$1 -out $(DIST)

deb: ## a package for Debian and its kin into ./dist; ARCH=arm64 for that architecture
	$(call package,$@)

rpm: ## a package for Fedora and its kin into ./dist; ARCH=arm64 for that architecture
	$(call package,$@)

# git archive leaves the modules out. What isn't committed is not in the archive, and its version doesn't say dirty.
ARCHIVE = pgagroal-go-$(VERSION:-dirty=)
dist: ## the sources with all modules they need, as an archive in ./dist that builds without git and network
	rm -rf $(DIST)/$(ARCHIVE)
	mkdir -p $(DIST)/$(ARCHIVE)
	$(GIT) archive HEAD | tar -x -C $(DIST)/$(ARCHIVE)
	cd $(DIST)/$(ARCHIVE) && go mod vendor && \
		echo '$(VERSION:-dirty=)' >dist.version && echo '$(COMMIT:-dirty=)' >dist.commit && echo '$(SOURCE_DATE_EPOCH)' >dist.time
	tar -C $(DIST) --sort=name --mode=u+rwX,go=rX --owner=0 --group=0 --numeric-owner --mtime=@$(SOURCE_DATE_EPOCH) -c $(ARCHIVE) | gzip -9n >$(DIST)/$(ARCHIVE).tar.gz
	rm -rf $(DIST)/$(ARCHIVE)
	@echo $(DIST)/$(ARCHIVE).tar.gz

BUILDAH = buildah
image: ## a container image of the programs, by buildah
	GOOS=linux GOARCH=$(ARCH) $(MAKE) --no-print-directory build BUILDDIR=dist/$(ARCH)/bin
	$(BUILDAH) bud --format docker --isolation chroot --arch $(ARCH) --timestamp $(SOURCE_DATE_EPOCH) -f contrib/docker/Dockerfile \
		--build-arg PROGRAMS=dist/$(ARCH)/bin -t pgagroal-go:$(VERSION) .

clean: demo-down ## stop the demo and remove what was built
	rm -rf bin dist

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12
