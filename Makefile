# Each target is a line that one could type.

GO          = go
STATICCHECK = honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT     = mvdan.cc/gofumpt@v0.12.0
SHARED     ?= ../shared
PACKAGES    = clamav-daemon spamassassin spamd postfix swaks curl gcc libc6-dev
T          ?= 30s

.PHONY: build demo unit test tools lint race integration conformance fuzz bench clean

build: ## the one static binary
	CGO_ENABLED=0 $(GO) build -trimpath -o postern ./cmd/postern

demo: build ## the main job, with no set-up
	./postern demo

unit: ## seconds
	$(GO) test ./...

test: tools lint unit race integration conformance ## everything
	@echo "all tests passed"

tools: ## what the tests need, from the distribution
	@missing=""; for p in $(PACKAGES); do dpkg -s $$p >/dev/null 2>&1 || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo=sudo; \
	  $$sudo apt-get update -q && \
	  $$sudo env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends $$missing; \
	fi

lint:
	@unformatted=$$($(GO) run $(GOFUMPT) -l .); if [ -n "$$unformatted" ]; then echo "not formatted (gofumpt -w):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet -tags integration,conformance ./...
	$(GO) run $(STATICCHECK) -tags integration,conformance ./...

race: ## what is concurrent
	CGO_ENABLED=1 $(GO) test -race ./...

integration: build ## with the real clamd, spamd, Postfix; a skipped test is a failure
	$(GO) test -tags integration -count=1 -v -run Integration -timeout 20m ./... > .integration.log 2>&1 || { grep -v '^=== ' .integration.log | tail -150; exit 1; }
	@if grep -n -- '--- SKIP' .integration.log; then echo "a test was skipped"; exit 1; fi
	@grep -c -- '--- PASS' .integration.log | sed 's/$$/ integration tests passed/'

conformance: ## published vectors, from $$SHARED
	@if [ -d "$(SHARED)/suites" ]; then \
	  SHARED=$$(cd $(SHARED) && pwd) $(GO) test -tags conformance -count=1 -v -run Conformance -timeout 20m ./... > .conformance.log 2>&1 \
	    || { grep -v '^=== ' .conformance.log | tail -150; exit 1; }; \
	  if grep -n -- '--- SKIP' .conformance.log; then echo "a test was skipped"; exit 1; fi; \
	  grep -c -- '^--- PASS' .conformance.log | sed 's/$$/ conformance suites passed/'; \
	elif [ -n "$$CI" ]; then echo "no vectors in $(SHARED)/suites"; exit 1; \
	else echo "no vectors in $(SHARED)/suites: conformance left out"; fi

fuzz: ## every fuzz target for $$T
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime $(T) $$p || exit 1; \
	  done; \
	done

bench: build ## beside a bare Postfix (as root, a few minutes); flags in $$BENCH: docs/performance.md
	CGO_ENABLED=0 $(GO) build -trimpath -o postern-bench ./cmd/postern-bench
	./postern-bench --corpus $(SHARED)/corpus $(BENCH)

clean:
	rm -f postern postern-bench .integration.log .conformance.log
