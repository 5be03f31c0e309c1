# git, make and Go 1.26 are what you bring; the rest comes from Debian (packaging/deps.sh says what and why before it installs).

GO       ?= go
FUZZTIME ?= 10s
BENCHTIME ?= 2s
KILLS    ?= 1000
BINARY   ?= build/appliance

# SoftHSM2 and its C++ are linked in; names and users are resolved without glibc's loadable modules, which a static binary cannot have.
STATIC_TAGS    := builtin_softhsm,netgo,osusergo
# The symbol with the recipe's stamp makes Go link anew when the library changed: Go knows nothing of files that it did not compile.
STATIC_LDFLAGS = -linkmode external -extldflags "-static -Wl,--gc-sections -Wl,--build-id=none \
	-Wl,--defsym=softhsm2_$(shell cut -c1-16 build/softhsm2/stamp)=0"
# No paths, no symbols, no build ID: two builds of one commit are the same bytes, wherever they are made. A tree that git does not
# know (or does not trust) is built without the commit in it.
VCS   := $(shell git rev-parse HEAD >/dev/null 2>&1 && echo true || echo false)
# What the program calls itself, and the package: docs/decisions/0008-package.md.
ifndef VERSION
VERSION := $(shell packaging/version.sh 2>/dev/null || echo unknown)
endif
STAMP := -X main.version=$(VERSION)
BUILD := CGO_ENABLED=1 $(GO) build -trimpath -buildvcs=$(VCS)

.PHONY: build build-hsm deb apt-repo deps-check deps-package demo serve test check bench soak fuzz simulate clean go deps deps-test deps-machines deps-vm test-machines vmtest grown softhsm2

build: deps softhsm2
	$(BUILD) -tags $(STATIC_TAGS) -ldflags '-s -w -buildid= $(STAMP) $(STATIC_LDFLAGS)' -o $(BINARY) ./cmd/appliance
	@file $(BINARY) | grep -q 'statically linked' || { file $(BINARY); echo 'error: $(BINARY) is not static' >&2; exit 1; }

# The same program without SoftHSM2 inside: it loads the PKCS#11 module that its configuration names.
build-hsm: deps
	$(BUILD) -ldflags '-s -w -buildid= $(STAMP) -extldflags "-Wl,--build-id=none"' -o build/appliance-hsm ./cmd/appliance

# build/aes-appliance_VERSION_amd64.deb, for Debian 12 and 13. Of one commit it is always the same bytes.
DEB ?= build/aes-appliance_$(VERSION)_amd64.deb
deb: deps-package build
	@VERSION=$(VERSION) packaging/deb.sh $(BINARY) $(STATIC_TAGS) $(DEB)

# A signed repository in a folder, for any web server: with GNUPGHOME and KEY in earnest, else with a key for tests. docs/package.md
APT ?= build/apt
apt-repo: deb
	@packaging/apt-repo.sh $(APT) $(DEB)

# Says when Debian has a security update of a library that is linked in: exit code 1 then, 2 when it cannot be said.
deps-check: deb
	@build/bill check -sbom build/deb/usr/share/doc/aes-appliance/sbom.cdx.json

demo: build
	build/appliance demo --dir demo

# Until ctrl-C, with demo/env for a shell: URL, CA, TOKEN and more.
serve: build
	build/appliance demo --dir demo --serve

# Twice where it matters: everything against Debian's SoftHSM2, and what touches the token or the whole program against the one inside.
# Last, the binary is built twice and compared.
test: deps-test check softhsm2
	$(GO) test -count=1 -timeout 30m ./...
	$(GO) test -count=1 -timeout 30m -tags $(STATIC_TAGS) -ldflags '$(STATIC_LDFLAGS)' ./internal/token/... ./cmd/...
	packaging/reproducible.sh

# The package on Debian machines (vmtests/README.md), as root: containers, minutes.
test-machines: deps-machines deb
	$(GO) test -count=1 -timeout 40m -parallel 4 -tags vm ./vmtests/

# And virtual machines, for what a container cannot show: half an hour. What a start takes with a big log is timed in a container all the same.
vmtest: deps-vm deb grown
	$(GO) test -count=1 -timeout 20m -tags vm -run '^TestColdStart$$' -v ./vmtests/
	$(GO) test -count=1 -timeout 60m -tags vm -run '^TestLife$$' -v ./vmtests/ -tier vm

# A demo with 10,000 certificates and a million lines, for what is timed on machines: about a minute, and 3 GB.
grown: build
	rm -rf build/grown.part
	$(GO) test -count=1 -timeout 20m -run '^TestGrown$$' -tags $(STATIC_TAGS) -ldflags '$(STATIC_LDFLAGS)' ./cmd/appliance -grown $(abspath build/grown.part)
	rm -rf build/grown && mv build/grown.part build/grown

check: deps
	@packaging/deps.sh check
	@systemd/check.sh
	@files=$$(find . -name '*.go' -not -path './build/*' -not -path './demo/*' | xargs gofmt -l); \
	if [ -n "$$files" ]; then printf 'error: gofmt would change:\n%s\n' "$$files" >&2; exit 1; fi
	$(GO) vet ./...
	$(GO) vet -tags vm ./vmtests/...
	@diff=$$($(GO) mod tidy -diff 2>/dev/null) || [ -n "$$diff" ] || \
	echo 'note: go mod tidy was not checked: it wants modules that are neither in the cache nor to be had'; \
	if [ -n "$$diff" ]; then printf 'error: go mod tidy would change:\n%s\n' "$$diff" >&2; exit 1; fi

# The whole appliance, static, in one run: a table with ratios, and build/bench.json. Packages have benchmarks of their own: go test -bench.
bench: deps-test build
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) -tags $(STATIC_TAGS) -ldflags '$(STATIC_LDFLAGS)' ./cmd/appliance -appliance $(abspath $(BINARY)) >build/bench.txt || { cat build/bench.txt; exit 1; }
	$(GO) test -run '^$$' -bench . -benchtime $(BENCHTIME) ./internal/replica -entries 1000000 >>build/bench.txt || { cat build/bench.txt; exit 1; }
	$(GO) run ./packaging/benchtable -out build/bench.json <build/bench.txt

# What make test does in short, long: the built program is killed KILLS times under load. It takes about a third of a second for each.
soak: build deps-test
	$(GO) test -count=1 -v -timeout 4h -run '^TestKilled$$' ./cmd/appliance -kills $(KILLS) -appliance $(abspath $(BINARY))

# Every fuzz target that there is, FUZZTIME each, one after another.
fuzz: deps
	@grep -rnoE '^func Fuzz[A-Za-z0-9_]+' --include='*_test.go' internal cmd | \
	while IFS=: read -r file _ target; do \
		target=$${target#func }; echo "== $$target in $$(dirname $$file)"; \
		$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 5x -parallel 1 "./$$(dirname $$file)" </dev/null || exit 1; \
	done

# Thousands of random schedules of a primary and its backup; a failure prints its seed (go test ./internal/replica -run TestSimulation -seed N).
SCHEDULES ?= 5000
SEED      ?= 1000
simulate: deps
	$(GO) test -count=1 -timeout 4h -run '^TestSimulation$$' ./internal/replica -schedules $(SCHEDULES) -seed $(SEED)

clean:
	rm -rf build demo

# A development version calls itself "devel go1.27-0123456 Mon Jan 2 15:04:05 2026" or "go1.27-devel_0123456".
GET_GO := hint: get it from https://go.dev/dl/ and put its bin folder into PATH
go:
	@command -v $(GO) >/dev/null || { echo 'error: Go 1.26 or newer is needed and there is no Go here' >&2; echo '$(GET_GO)' >&2; exit 1; }; \
	v=$$($(GO) env GOVERSION) || { echo 'error: Go is here, but `$(GO) env` fails with what stands above' >&2; exit 1; }; \
	printf '%s\n' go1.26 "$${v#devel }" | sort -CV || { echo "error: Go 1.26 or newer is needed and this is $$v" >&2; echo '$(GET_GO)' >&2; exit 1; }

deps: go
	@packaging/deps.sh build

deps-machines: go
	@packaging/deps.sh machines

deps-vm: go
	@packaging/deps.sh vm

deps-test: go
	@packaging/deps.sh test

deps-package: go
	@packaging/deps.sh package

softhsm2: deps
	@packaging/softhsm2/build.sh
