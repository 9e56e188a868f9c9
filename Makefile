# Bare `make` prints this help.
#
#   make test     servers, vet, then all tests of all modules; CI runs lint before it
#   make check    the quick part of it: vet, lint, tests that need no server
#   make soak     the long proofs: the model, all mutations, 200 kills in one migration; SEED=, KILLS=, SHARDED_KILLS=, RUNS=, BIG_MB=, LARGE_ROWS=
#   make vitess   against real Vitess clusters, on either side; builds Vitess first (5 minutes, once)
#   make demo     a whole migration on throwaway servers, from nothing
#   make bench    copy, catch-up, lag and costs beside other ways: 25 minutes; BENCHFLAGS='-only b' for a part
#   make build    build everything, the commands into bin/
#   make fmt      format the source
#   make vet      go vet, all modules
#   make lint     golangci-lint, all modules
#   make servers  find or fetch MySQL, MariaDB and etcd (needs no root)
#   make clean    remove what was built here
#   make clean-cache  remove the fetched servers and tools as well
#
# Needed: Go, make, and for fetching servers Debian's apt. Everything else comes from the
# Go module proxy or the machine's own package mirror and is kept in $TABLEHAUL_CACHE.
# TESTFLAGS replaces the flags of `go test`, MODULES the modules.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CACHE ?= $(or $(TABLEHAUL_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/tablehaul)
# Nested modules keep what only tests and examples need out of an embedder's go.sum.
MODULES ?= $(patsubst %/go.mod,%,$(wildcard ./go.mod ./test/go.mod ./examples/go.mod))
# Vitess's tests need programs that only `make vitess` builds.
LINTED := $(MODULES) ./test/vitess
# The race detector needs a C compiler; without one the tests run without it, and say so.
RACE := $(if $(shell command -v $$(go env CC) 2>/dev/null),-race)
TESTFLAGS ?= $(RACE) -count=1 -p 3 -timeout 14m

# golangci-lint is built from its module, once per Go release: about 90 s on two cores.
LINT_VERSION := v2.15.0
LINT := $(CACHE)/bin/golangci-lint-$(LINT_VERSION)-$(shell go env GOVERSION)

# Runs $(1) in every module, or in $(2), all of them even when one fails.
define each
@status=0; for m in $(or $(2),$(MODULES)); do echo "== $$m: $(1)"; (cd $$m && $(1)) || status=1; done; exit $$status
endef

# Runs $(1) in this module, then in all nested ones at once, since these wait for servers most of the time; all of them even when one fails.
define together
@out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; status=0; \
for m in $(filter .,$(MODULES)); do echo "== .: $(1)"; ($(1)) || status=1; done; \
for m in $(filter-out .,$(MODULES)); do (cd $$m && $(1)) > "$$out/$$(basename $$m)" 2>&1 || touch "$$out/failed" & done; wait; \
for m in $(filter-out .,$(MODULES)); do echo "== $$m: $(1)"; cat "$$out/$$(basename $$m)"; done; \
[ ! -e "$$out/failed" ] || status=1; exit $$status
endef

.PHONY: help
help:
	@sed -n 's/^#   \(.*\)/  \1/p' $(firstword $(MAKEFILE_LIST))

.PHONY: servers
servers:
	@go run ./replication/replicationtest/servers fetch

.PHONY: build
build:
	$(call each,go build ./...)
	@mkdir -p bin
	@go build -o bin/ ./replication/replicationtest/servers
	@if [ -d examples/vtctl ]; then cd examples && go build -o ../bin/ ./vtctl ./quickstart; fi

.PHONY: vet
vet:
	$(call each,go vet ./...,$(LINTED))

$(LINT):
	@mkdir -p $(CACHE)/bin
	@echo "building golangci-lint $(LINT_VERSION) (once, about 90 s)"
	@tmp=$$(mktemp -d $(CACHE)/bin/build-XXXXXX); trap 'rm -rf "$$tmp"' EXIT; \
		GOBIN="$$tmp" GOFLAGS= go install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION) && \
		mv "$$tmp/golangci-lint" $@

.PHONY: lint
lint: $(LINT)
	$(call each,$(LINT) run ./...,$(LINTED))

.PHONY: fmt
fmt: $(LINT)
	$(call each,$(LINT) fmt ./...,$(LINTED))

.PHONY: check
check: vet lint
	$(call each,go test -short $(TESTFLAGS) ./...)

.PHONY: test
test: servers vet
	@echo "== the model, without the race detector: ten thousand random schedules; 64 sources into 256 shards"
	@go test -count=1 -run 'TestModel$$|TestFanoutMany$$' ./replication -model.runs 10000
	@[ -n "$(RACE)" ] || echo "no C compiler: testing without -race" >&2
	$(call together,go test $(TESTFLAGS) ./...)

# The seed says which tables, writes and kills; the model and the mutations print their own when they fail.
SEED := $(or $(SEED),$(shell od -An -N4 -tu4 /dev/urandom | tr -d ' '))
KILLS ?= 200
RUNS ?= 100000
SHARDED_KILLS ?= 40
# The size of one transaction, in MB; 2048 needs 10 GB of disk.
BIG_MB ?= 2048
# How many rows of 2 MB are changed in one transaction; 200 need 8 GB of disk, 1000 need 40 GB and half an hour.
LARGE_ROWS ?= 200

.PHONY: soak
soak: servers
	@echo "== the model: $(RUNS) random schedules, and a crash at every step of some"
	@go test -count=1 -timeout 120m -run 'Model|FanoutMany' ./replication -model.runs $(RUNS)
	@go test -count=1 -timeout 120m -run 'FanoutCross' ./replication -model.runs $$(($(RUNS) / 10))
	@echo "== the mutations: each must be noticed"
	@cd test && go test -count=1 -timeout 120m -run 'TestMutations' . -mutations 0
	@echo "== transactions of $(BIG_MB) MB in bounded memory"
	@TABLEHAUL_BIG_MB=$(BIG_MB) go test -count=1 -timeout 60m -run 'TestLargeTransaction' ./replication/source
	@echo "== transactions of $(LARGE_ROWS) rows of 2 MB, into packets of 16 MB"
	@cd test && go test -count=1 -timeout 60m -run 'TestShapes/large_rows' . -large.rows $(LARGE_ROWS)
	@echo "== readers of the target, unique values: three times each"
	@cd test && go test -count=3 -timeout 60m -run 'TestConstantSums|TestUniqueValuesWander' .
	@echo "== 60 kills while tables with foreign keys are copied"
	@cd test && go test -count=1 -timeout 60m -run 'TestKillFamily' . -family.kills 60
	@echo "== sharded keyspaces: $(SHARDED_KILLS) kills while they are copied, half as many after it"
	@cd test && go test -count=1 -timeout 60m -run 'TestSharded$$' . -sharded.kills $(SHARDED_KILLS) -sharded.rows 40000 -sharded.seed $(SEED)
	@echo "== chaos: $(KILLS) kills, seed $(SEED)"
	@cd test && go test -count=1 -timeout 180m -run 'TestChaos$$' . -chaos.kills $(KILLS) -chaos.seed $(SEED)

# Vitess is built from its module, like the linter. It is large, so only who asks for it has it.
VITESS_VERSION := v0.24.2
VITESS_PROGRAMS := vtctld vtctldclient vtgate vttablet
VITESS := $(CACHE)/vitess/$(VITESS_VERSION)

$(VITESS)/vttablet:
	@mkdir -p $(CACHE)/vitess
	@echo "building Vitess $(VITESS_VERSION) (once, about 5 minutes)"
	@tmp=$$(mktemp -d $(CACHE)/vitess/build-XXXXXX); trap 'rm -rf "$$tmp"' EXIT; cd "$$tmp"; \
		cd "$$(go mod download -json vitess.io/vitess@$(VITESS_VERSION) | sed -n 's/.*"Dir": "\(.*\)",*/\1/p')" && \
		GOFLAGS= nice -n 19 go build -p 2 -buildvcs=false -ldflags="-s -w" -o "$$tmp" $(VITESS_PROGRAMS:%=./go/cmd/%) && \
		rm -rf $(VITESS) && mv "$$tmp" $(VITESS)

.PHONY: vitess
vitess: servers $(VITESS)/vttablet
	@cd test/vitess && VITESS_BIN=$(VITESS) go test -count=1 -timeout 20m -v . | grep -E '^ *--- |_test.go|^(ok|FAIL|panic)'

.PHONY: demo
demo: servers
	@cd examples && go run ./quickstart

.PHONY: bench
bench: servers
	@cd test && go build -o ../bin/bench ./bench
	@bin/bench $(BENCHFLAGS)

.PHONY: clean
clean:
	@rm -rf bin
	@go clean -testcache

.PHONY: clean-cache
clean-cache: clean
	@rm -rf "$(CACHE)/servers" "$(CACHE)/datadirs" "$(CACHE)/bin" "$(CACHE)/vitess"
