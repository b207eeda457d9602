# The two commands that matter: make demo, make test. Both do all the set-up themselves.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-multinode check test test-all molecule benchmark benchmark-distribution clean
SHELL := /bin/bash
FLAGPROV := .venv/bin/python -m flagprov

help: ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-24s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## virtual environment with all that development needs
	@scripts/bootstrap.sh

demo: ## a small fleet on this machine, and a release deployed to it (Debian 12, root)
	@scripts/bootstrap.sh lab
	@$(FLAGPROV) lab up --hosts 2
	@$(FLAGPROV) deploy inventory/lab.ini qwen3-tiny --yes

demo-multinode: ## one model over two hosts of that fleet: ranks that start, serve and end together
	@scripts/bootstrap.sh lab
	@$(FLAGPROV) lab up --hosts 2
	@$(FLAGPROV) teardown inventory/lab.ini --yes
	@$(FLAGPROV) deploy inventory/lab.ini qwen3-tiny --set nodes=2 --yes
	@$(FLAGPROV) status inventory/lab.ini

check: setup ## linters, types, import rules, unit tests
	@scripts/test.sh static unit

test: ## everything that continuous integration runs, in a lab of its own (Debian 12, root)
	@scripts/bootstrap.sh tests
	@scripts/test.sh

test-all: ## all tests, also those that take longer than an hour
	@scripts/bootstrap.sh tests
	@scripts/test.sh all

molecule: ## the roles' own tests: make molecule ROLE=container_engine
	@scripts/bootstrap.sh lab
	@scripts/molecule.sh $(ROLE)

benchmark: ## a rollout beside pyinfra, Mitogen and Ansible on the same hosts: make benchmark N=4
	@scripts/bootstrap.sh lab
	@benchmarks/rollout/run.sh $(if $(N),--hosts $(N))

benchmark-distribution: ## files to many hosts behind narrow links, beside scp, rsync and Ansible's copy
	@scripts/bootstrap.sh lab
	@benchmarks/distribution/run.sh

clean: ## take everything away again: lab, images, build, virtual environment
	@scripts/clean.sh
