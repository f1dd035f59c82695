# What there is to do. `make` alone prints this list.

GO ?= go
BIN := bin/xdpipe
# Where bench writes what benchstat reads.
BENCH_OUT ?= /tmp/xdpipe-bench.txt
BENCH_COUNT ?= 6

# Modules of their own: examples, as plugins are, and the benchmarks with their peers.
EXAMPLES := $(sort $(patsubst %/go.mod,%,$(wildcard examples/*/go.mod)))
NESTED := bench $(EXAMPLES)

.DEFAULT_GOAL := help
.PHONY: help demo test race fuzz bench generate check-generated lint tidy build image clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: build ## real traffic through xdpipe on veth pairs; needs root, no NIC
	$(BIN) demo

# One package at a time: each has the machine's cores to itself, since packets
# that wait for a core are not lost but late.
test: ## all tests; as root, or those that need it are skipped
	$(GO) test -p 1 -count 1 -timeout 20m ./...
	@set -e; for m in $(EXAMPLES); do (set -x; cd $$m && $(GO) test -p 1 -count 1 ./...); done

race: ## all tests with the race detector and the frame ledger
	XDPIPE_VERIFY=1 $(GO) test -race -p 1 -count 1 -timeout 30m ./...
	@set -e; for m in $(EXAMPLES); do (set -x; cd $$m && XDPIPE_VERIFY=1 $(GO) test -race -p 1 -count 1 ./...); done

fuzz: ## each fuzz target for a minute
	./scripts/fuzz 60s

bench: ## in-memory figures, then the forwarder on veth beside another library's
	$(GO) test -run '^$$' -bench . -count $(BENCH_COUNT) -benchtime 200ms ./umem ./xsk ./pipeline/... > $(BENCH_OUT)
	cd bench && $(GO) tool benchstat $(BENCH_OUT)
	cd bench && $(GO) run ./veth

generate: ## compile the BPF programs again; needs clang
	$(GO) generate ./...

check-generated: ## fail if the committed BPF objects are not those of their source; needs clang
	./scripts/check-generated

lint: ## gofmt, go vet and staticcheck
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "not gofmt-clean: $$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	@set -e; check=$$($(GO) tool -n staticcheck); for m in $(NESTED); do (set -x; cd $$m && $(GO) vet ./... && $$check ./...); done

tidy: ## go mod tidy in every module; after a change to what one of them requires
	@set -e; for m in . $(NESTED); do (set -x; cd $$m && $(GO) mod tidy); done

build: ## the static binary, as the image has it
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o $(BIN) ./cmd/xdpipe

image: ## the container image
	docker build -t xdpipe .

clean: ## remove what was built
	rm -rf bin
