# What each target needs and is missing, it installs (Debian packages, as root) or builds.

.PHONY: help demo test prove replay lint bench cluster crds manifests

help: ## Say what there is to make
	@sed -n 's/^\([a-z]*\):.*## /make \1	/p' Makefile | expand -t 16

demo: ## Show what Keyward does, on a Kubernetes of its own; CLUSTER=current takes yours
	@deploy/demo $(if $(CLUSTER),--$(CLUSTER))

cluster: ## Install Keyward on a Kubernetes on this machine whose Pods run; takes root
	@deploy/cluster $(if $(DIR),--dir $(DIR))

test: ## Run every test, on a Kubernetes of its own
	@tests/run

prove: ## Run the proofs that take long: all faults, kills, outages, larger models, fuzzers; or PROOFS="kills model"
	@tests/run prove $(PROOFS)

replay: ## Run one line of faults again, the one in KEYWARD_FAULTS
	@tests/run replay

lint: ## Check format, lints, scripts and dependencies
	@.ci/lint

bench: ## Measure what Keyward costs against bare loops and servers; or BENCHES="issue memory gateway"
	@benches/run $(BENCHES)

crds: ## Generate crds/ from src/api
	@KEYWARD_WRITE_CRDS=1 cargo test --locked --quiet --test crds

manifests: ## Render what is in deploy/ from the chart, deploy/chart
	@deploy/render
