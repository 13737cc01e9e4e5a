# Everything here needs Go and nothing else; `make test` uses a C compiler for the race detector where there is one.

.DEFAULT_GOAL := help
.PHONY: help build test repeat soak mutants chaos upgrade bench million manual lint fmt fuzz cover demo clean

# The packages whose tests must pass many times in a row.
REPEAT ?= ./internal/core ./lease ./membership ./shard
COUNT  ?= 20

help: ## show this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## build bin/drmctl
	go build -trimpath -o bin/ ./cmd/drmctl

test: ## run all tests, with -race where a C compiler exists (REQUIRE_RACE=1: or fail)
	@scripts/test.sh

repeat: ## run the tests of the core, lease, membership and shard 20 times (COUNT=, REPEAT=)
	@TEST_TIMEOUT=30m scripts/test.sh -count=$(COUNT) $(REPEAT)

soak: ## simulate random schedules for as long as asked (SOAK=10m), of the core or of the group (SIM=groupsim)
	SOAK=$${SOAK:-10m} go test -run='^TestSoak$$' -v -count=1 -timeout=0 ./internal/$${SIM:-sim}

mutants: ## take away one rule after the other, and print what notices (MUTANTS="names of some")
	MUTANTS="$${MUTANTS:-all}" go test -run='^TestEveryMutantIsCaught$$' -v -count=1 -timeout=30m ./internal/mutant

chaos: ## real processes under real faults, and a table of what was measured (SHORT=1: in 4 minutes)
	scripts/chaos.sh

upgrade: ## members of this version beside those of an older commit, which it builds (needs git and the commit)
	DRM_UPGRADE=1 go test -run='^TestOlderMembersBesideNewerOnes$$' -v -count=1 -timeout=30m ./cmd/drmctl

bench: build ## measure against etcd itself
	bin/drmctl bench all

million: build ## the same with a million resources
	bin/drmctl bench million

lint: ## golangci-lint, other platforms, go.mod, known vulnerabilities
	@scripts/lint.sh

manual: ## write docs/drmctl.md, which the commands' help makes up
	go test -run='^TestTheReferenceIsCurrent$$' -count=1 ./cmd/drmctl -update-manual

fmt: ## format the code
	@scripts/tool.sh gofumpt -l -w .

fuzz: ## run each fuzz target for a while (FUZZ_TIME=10s)
	@scripts/fuzz.sh

cover: ## run all tests and write coverage.html
	@scripts/test.sh -coverpkg=./... -coverprofile=coverage.out ./...
	go tool cover -html=coverage.out -o coverage.html
	go tool cover -func=coverage.out | tail -1

demo: ## watch members share resources, one die, and another take over
	go run ./cmd/drmctl demo

clean: ## remove what the other targets made
	rm -rf bin coverage.out coverage.html
