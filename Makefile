# Onebell. `make` lists what there is. On a new machine Go and make are enough: what else is missing is installed by
# deploy/setup, into .tools or, for Debian's programs, with apt-get.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS   += --no-print-directory

PROGRAMS := ingestor token alert sender console simulator onebell
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS  := -X github.com/onebell/onebell/pkg/lifecycle.Version=$(VERSION)
# Static programs: images hold nothing else.
BUILD    := CGO_ENABLED=0 go build -trimpath -ldflags '$(LDFLAGS)'
MODULES   = $(shell go list -m -f '{{.Dir}}')
# The longest package, the black-box tests, takes about a tenth of this on two cores.
TIMEOUT  ?= 15m
DATA     ?= data
COMPOSE  ?= docker compose

.DEFAULT_GOAL := help

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: run
run: ## install what is missing, build, and run the demo shop on this machine (data in ./data)
	@deploy/setup/packages.sh redis-server || echo 'make: going on without redis-server: onebell brings a slower stand-in'
	@$(MAKE) bin/onebell
	@exec bin/onebell up --demo --data $(DATA)

.PHONY: build
build: $(PROGRAMS:%=bin/%) ## build all programs into ./bin

.PHONY: $(PROGRAMS:%=bin/%)
$(PROGRAMS:%=bin/%):
	@$(BUILD) -o $@ ./services/$(@F)/cmd/$(@F)

.PHONY: test
test: ## install what is missing and run every test (TEST='-run X' narrows)
	@deploy/setup/packages.sh redis-server chromium
	@deploy/setup/test.sh -timeout $(TIMEOUT) $(TEST) work

.PHONY: check
check: ## formatting, vet, lint, contracts, generated code, and each module by itself
	@deploy/setup/tools.sh
	@PATH="$(CURDIR)/.tools:$$PATH" deploy/setup/check.sh

.PHONY: generate
generate: ## generate Go from the protobuf files
	@deploy/setup/tools.sh buf protoc-gen-go protoc-gen-go-grpc
	@cd proto && PATH="$(CURDIR)/.tools:$$PATH" buf format -w && PATH="$(CURDIR)/.tools:$$PATH" buf generate

.PHONY: format
format: ## format all Go files
	@deploy/setup/tools.sh gofumpt
	@.tools/gofumpt -w $(MODULES)

.PHONY: tidy
tidy: ## bring go.mod and go.sum of every module, and the workspace, in step with the code
	@go work sync
	@for module in $(MODULES); do (cd "$$module" && GOWORK=off go mod tidy); done

.PHONY: up
up: ## build the images and start everything with Docker Compose
	@deploy/compose/secrets.sh
	@# One image first: all share the stage that compiles, and find it built.
	@export VERSION='$(VERSION)' && $(COMPOSE) build ingestor && $(COMPOSE) up --build --detach --wait
	@echo 'simulator with the phone http://127.0.0.1:8089, console http://127.0.0.1:8090 (sign in with deploy/compose/secrets/token_operator)'

.PHONY: smoke
smoke: ## one opt-in and one bell against what `make up` started
	@deploy/compose/smoke.sh

.PHONY: down
down: ## stop what `make up` started (its data stays: `docker compose down -v` removes it)
	@$(COMPOSE) down

.PHONY: clean
clean: ## remove what was built (not ./data)
	@rm -rf bin .tools
