# Shortcuts. Each is one command that can be typed as well; CONTRIBUTING.md says when to use which.

TOOL = go tool -modfile=tools/go.mod

# How many kills `make kill` makes, and from which seed.
KILLS ?= 300
SEED ?= 1
# How many faults `make fleet` makes.
FAULTS ?= 50
# How long `make soak` lasts, from SEED.
SOAK ?= 1h
# How many streams `make drain` has when the service is told to end.
STREAMS ?= 1000
# How many streams `make load` opens.
LOAD ?= 10000
SCALE ?= 10000
# How many sequences `make sequences` plays in fake time.
SEQUENCES ?= 10000
# How long `make fuzz` spends on each target.
FUZZTIME ?= 30s
# How many random lists of alerts `make narrowing` reads over each API.
RUNS ?= 200
# How many times `make rotations` changes everything, and how many streams each identity has meanwhile.
ROTATIONS ?= 20
ROTATION_STREAMS ?= 200
# What `make docker` calls the image, and the version that it stamps.
IMAGE ?= defender-integration
VERSION ?= $(shell git describe --tags --always --dirty)

.PHONY: help
help: ## show this help
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "%-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: demo
demo: ## watch a campaign of attacks, judged against a simulated Microsoft
	go run ./cmd/defender-integration demo

.PHONY: test
test: ## run all tests
	go test ./...

.PHONY: race
race: ## run all tests with the race detector (needs a C compiler)
	go test -race ./...

.PHONY: generate
generate: ## make gen/ from proto/
	$(TOOL) buf generate

.PHONY: freeze
freeze: ## freeze the contract and the stored messages as they are now, if nothing that was released breaks
	$(TOOL) buf breaking --against proto/released.binpb
	$(TOOL) buf build --exclude-source-info --output proto/released.binpb

.PHONY: fmt
fmt: ## format Go files and proto files
	$(TOOL) golangci-lint fmt
	$(TOOL) buf format --write --exclude-path proto/buf

.PHONY: lint
lint: ## run the linters over Go files and proto files
	$(TOOL) golangci-lint run
	$(TOOL) buf lint

.PHONY: bench
bench: ## run the benchmarks, then the whole way of 100,000 alerts (Linux)
	go test -run '^$$' -bench . -benchmem ./...
	go run ./bench

.PHONY: load
load: ## measure calls a second by ghz, and LOAD (default 10000) streams at rest until SIGTERM (Linux)
	go run ./bench -load $(LOAD)

.PHONY: scale
scale: ## measure SCALE (default 10000) streams on three servers and three NATS servers, and on one server alone (Linux)
	go run ./bench -fleet $(SCALE)

.PHONY: kill
kill: ## kill the service KILLS times (default 300) and its three clients, from SEED (default 1)
	ACCEPTANCE_KILLS=$(KILLS) ACCEPTANCE_SEED=$(SEED) go test -count 1 -timeout 0 -v -run '^TestKill' ./acceptance

.PHONY: soak
soak: ## let 1,000 streams run for SOAK (default 1h), with faults from SEED (default 1)
	ACCEPTANCE_SOAK=$(SOAK) ACCEPTANCE_SEED=$(SEED) go test -count 1 -timeout 0 -v -run '^TestSoak$$' ./acceptance

.PHONY: drain
drain: ## tell the service to end while it has STREAMS (default 1000) streams, all of which resume
	ACCEPTANCE_STREAMS=$(STREAMS) go test -count 1 -timeout 0 -v -run '^TestDrain$$' ./acceptance

.PHONY: full
full: ## run the tests of acceptance/ that are smaller in everybody's run in full
	ACCEPTANCE_FULL=1 go test -count 1 -timeout 0 -v -run '^Test(CrowdedInstants|CallsDoNotGrowWithStreams)$$' ./acceptance

.PHONY: fleet
fleet: ## put FAULTS faults (default 50) on three servers of the service and three of NATS with 100 streams, and cut one 1,000 times, from SEED (default 1)
	ACCEPTANCE_FLEET=$(FAULTS) ACCEPTANCE_STREAMS=100 ACCEPTANCE_INTEGRATIONS=3 ACCEPTANCE_CUTS=1000 ACCEPTANCE_POWER=5 \
		ACCEPTANCE_ENTRIES=100000 ACCEPTANCE_SEED=$(SEED) \
		go test -count 1 -timeout 0 -v -run '^Test(Fleet|AllNodesAreKilled|RollingUpgrade|StreamsMoveBetweenServers|Moving)$$' ./acceptance
	STORE_COPY_ENTRIES=100000 go test -count 1 -timeout 0 -v -run '^TestCopy$$' ./store

.PHONY: faults
faults: ## run the fault matrix and write it into docs/faults.md
	ACCEPTANCE_WRITE_FAULTS=1 go test -count 1 -v -run '^Test(Own)?Faults$$' ./acceptance

.PHONY: metrics
metrics: ## write docs/metrics.md from a running service
	go test -count 1 ./cmd/defender-integration/internal/observing -update

.PHONY: rules
rules: ## test the alerting rules with promtool itself, which takes minutes to build at first
	cd deploy/monitoring && go run -tags remove_all_sd github.com/prometheus/prometheus/cmd/promtool@v0.316.0 test rules alerts_test.yaml

.PHONY: sequences
sequences: ## play SEQUENCES random sequences (default 10000) against a model, and 200 on the real engine, from SEED (default 1)
	SEQUENCES=$(SEQUENCES) SEQUENCES_ENGINE=200 SEQUENCES_SEED=$(SEED) \
		go test -count 1 -timeout 0 -v ./cmd/defender-integration/internal/sequences

.PHONY: fuzz
fuzz: ## run every fuzz target for FUZZTIME (default 30s)
	@grep -rl --include='*_test.go' '^func Fuzz' . | while read -r file; do \
		for target in $$(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$$file"); do \
			echo "$$target in $$(dirname "$$file")"; \
			go test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) "$$(dirname "$$file")" || exit 1; \
		done; \
	done

.PHONY: fixture
fixture: ## write the data directory that later versions must read; only before its format is released
	go test -count 1 -run '^TestWrite$$' ./cmd/defender-integration/internal/datadir -write

.PHONY: narrowing
narrowing: ## read RUNS (default 200) random lists over each API, some of whose alerts always fail
	NARROWING_RUNS=$(RUNS) go test -count 1 -timeout 0 -run '^TestWhatFailsAnywhere$$' ./defender/reading

.PHONY: rotations
rotations: ## change certificates, authorities and policy ROTATIONS times (default 20) under load
	ROTATIONS=$(ROTATIONS) ROTATION_STREAMS=$(ROTATION_STREAMS) go test -count 1 -timeout 0 -v -run '^TestRotationUnderLoad$$' ./server

.PHONY: docker
docker: ## build the image IMAGE (default defender-integration), stamped with VERSION (default that of git)
	docker buildx build --build-arg VERSION=$(VERSION) --build-arg REVISION=$$(git rev-parse HEAD) \
		--build-arg SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) --tag $(IMAGE):$(VERSION) --load .

.PHONY: deployment
deployment: ## run the steps of the Dockerfile without a container engine (Linux, as root), and check and run the manifests
	go -C deploy/check test -count 1 -timeout 60m -v ./...

.PHONY: ci
ci: ## run everything that must hold before a change goes in
	.ci/run
