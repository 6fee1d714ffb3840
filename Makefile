# The commands of this repository. Everything runs in the environment that `make setup` builds.
.PHONY: rebuild-speed log-reading setup up down clean check docs coverage test test-stack test-apart test-plain \
  test-random test-cluster test-unit test-contract test-integration test-e2e test-chaos bench bench-guard bench-commit peers scale-out profile fuzz servers clients isolation torture ageing budget-service kafka-outage ledger-loss upgrade kill-points moved-clocks prices-oracle lock fmt
.DEFAULT_GOAL := help

PYTHON ?= python3
ENV := .venv
BIN := $(ENV)/bin
READY := $(ENV)/.ready
PYTEST := -p no:cacheprovider
OWN_STACK := $(wildcard $(addprefix tests/e2e/test_,config_faults.py impatient_stop.py neighbours.py promised_jobs.py reconcile.py signed_keys.py stack_lifecycle.py))
OWN_RIGHTS := $(addprefix tests/e2e/test_,callers.py external_budget.py kafka_users.py mutual_tls.py overrides.py pepper_rotation.py secrets.py signed_config.py thresholds.py)
ON_A_CLUSTER := tests/e2e/test_stores_over_tls.py
PLAIN := $(filter-out tests/integration tests/e2e tests/chaos,$(patsubst %/,%,$(wildcard tests/*/)))

help:  ## Show the commands
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

setup: $(READY)  ## Build the environment: needs Python 3.11 or newer, make and git

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(ENV) \
	  || { echo "Python cannot make environments here; on Debian: apt-get install python3-venv"; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  "$$(grep -oE '^uv==[0-9.]+' requirements.lock)"
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --require-hashes -r requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

up: setup  ## Start the whole gateway here, on real Kafka and real Valkey
	@exec $(BIN)/tallygate up $(ARGS)

down: setup  ## End the gateway that `make up` started here; its state stays
	@$(BIN)/python -m deploy.embedded.down

clean:  ## Remove the environment, caches and what builds leave; the state of `make up` stays
	rm -rf $(ENV) build dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

check: setup  ## Style, types, architecture
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Much of the time of the tests is waiting, so three processes share the cores: one has the stack that most
# end-to-end tests use, one all that needs a part or a stack of its own, one what hardly needs any.
test: setup  ## All tests, on real Kafka, real Valkey and real processes
	@$(MAKE) --no-print-directory --keep-going --jobs=3 --output-sync=target test-stack test-apart test-plain

test-stack: setup  ## The tests that share one stack
	$(BIN)/pytest $(PYTEST) tests/e2e $(OWN_STACK:%=--ignore=%) $(OWN_RIGHTS:%=--ignore=%) $(ON_A_CLUSTER:%=--ignore=%)

test-apart: setup  ## Those on single parts, or with a stack of their own
	$(BIN)/pytest $(PYTEST) tests/integration $(OWN_STACK) tests/chaos

test-plain: setup  ## All others: cores, contracts, drivers of load; and stacks for who may do what
	$(BIN)/pytest $(PYTEST) $(PLAIN) $(OWN_RIGHTS)

test-random: setup  ## Properties and the ledger's model on cases that nobody tried before; about 40 minutes
	$(BIN)/pytest $(PYTEST) --hypothesis-profile=random $$(grep -rlE "from hypothesis" tests/unit) \
	  tests/integration/test_ledger_model.py

test-unit: setup  ## Cores, and shells on parts in memory
	$(BIN)/pytest $(PYTEST) tests/unit

test-contract: setup  ## Lists, schemas, images: what others rely on
	$(BIN)/pytest $(PYTEST) tests/contract

test-integration: setup  ## Single parts on real Kafka or real Valkey
	$(BIN)/pytest $(PYTEST) tests/integration

test-e2e: setup  ## Whole stacks, from outside
	$(BIN)/pytest $(PYTEST) tests/e2e

test-chaos: setup  ## Kills under load
	$(BIN)/pytest $(PYTEST) tests/chaos

test-cluster: setup  ## Whole stacks and kills under load, the ledger on a cluster of three primaries
	TALLYGATE_TEST_LEDGER_PRIMARIES=3 $(BIN)/pytest $(PYTEST) tests/e2e tests/chaos tests/integration/test_processed_marks.py

coverage: setup  ## Branches of the pure cores that unit and contract tests reach; fails below the bound
	$(BIN)/coverage run --include="$$($(BIN)/python -m tests.cores)" -m pytest $(PYTEST) tests/unit tests/contract
	$(BIN)/coverage report

docs: setup  ## Make docs/reference anew from the lists of the code
	$(BIN)/python -m deploy.reference

.PHONY: dashboards panels alarms
dashboards: setup  ## Make deploy/grafana anew from deploy/dashboards
	$(BIN)/python -m tests.contract.dashboard_json

bench: setup  ## Requests/s, latency, CPU per request and memory, on the whole stack
	$(BIN)/python -m tests.load.bench $(ARGS)

bench-guard: setup  ## What a request costs in counts, against tests/load/committed_counts.json
	$(BIN)/python -m tests.load.guard

bench-commit: setup  ## Measure those counts and commit them
	$(BIN)/python -m tests.load.guard --commit

peers: setup  ## Beside LiteLLM, Portkey, MLflow and Bifrost, interleaved, about ten minutes; ARGS="--dir DIR --only NAME ..."
	$(BIN)/python -m tests.load.peers $(ARGS)

scale-out: setup  ## One, two and three of each process, each held to a fifth of a core: requests/s and CPU per request
	$(BIN)/python -m tests.load.scale_out $(ARGS)

.PHONY: trace-picture
trace-picture: setup  ## docs/pictures/trace.svg: a failed-over request as a receiver of traces gets it, half a minute
	$(BIN)/python -m tests.load.trace_picture

profile: setup  ## Where each process spends its time at 64 connections: docs/profile.md; ARGS="--py-spy FILE"
	$(BIN)/python -m tests.load.profiles $(ARGS)

isolation: setup  ## What loud, long, hostile and broken neighbours do to the others; ARGS names scenarios
	$(BIN)/python -m tests.load.isolation $(ARGS)

log-reading: setup  ## ledger verify and requests show on a log of a million usage lines, and what clients feel of it
	$(BIN)/python -m tests.load.log_reading $(ARGS)

rebuild-speed: setup  ## How long a lost ledger is closed: 600 000 outcomes since the snapshots, 10 000 organizations
	$(BIN)/python -m tests.load.rebuild_speed $(ARGS)

prices-oracle: setup  ## 100 000 random requests over all price dimensions, against a provider that bills by itself
	$(BIN)/python -m tests.load.price_oracle $(ARGS)

torture: setup  ## Kills of everything in random order while budgets, quotas and concurrency bind, five seeds
	$(BIN)/python -m tests.chaos.torture --seed 1 2 3 4 5 $(ARGS)

ageing: setup  ## Outages longer than every window, terms that change under a redelivery, a balance changed by hand
	$(BIN)/python -m tests.chaos.ageing $(ARGS)
	$(BIN)/python -m tests.chaos.pinned_terms
	$(BIN)/python -m tests.chaos.tampered

budget-service: setup  ## What clients saw while an external budget service was killed, slowed and hung, second by second
	$(BIN)/python -m tests.chaos.budget_service

.PHONY: batch-under-load
batch-under-load: setup  ## A batch of 10 000 lines beside 50 requests/s, every process killed once: lines, bills, p95, memory; ARGS="--lines N"
	$(BIN)/python -m tests.chaos.batch_under_load $(ARGS)

.PHONY: batch-enemies
batch-enemies: setup  ## Batches whose files go away, whose owner is killed, at a limit, and beside somebody with as many as may be
	$(BIN)/python -m tests.chaos.batch_enemies

kill-points: setup  ## kill -9 at every step between the claim of a request and its booking: a table
	$(BIN)/python -m tests.chaos.kill_points $(ARGS)

upgrade: setup  ## A state folder of an earlier commit goes on under this one: make upgrade FROM=COMMIT; ARGS="--end stopped killed"
	$(BIN)/python -m tests.chaos.upgrade --from $(FROM) $(ARGS)

kafka-outage: setup  ## Kafka killed, hanging, full, with a cut tail, under load; leaders that change; ARGS names outages
	$(BIN)/python -m tests.chaos.kafka_outage $(ARGS)
	$(BIN)/python -m tests.chaos.leader_change

.PHONY: flex-slack webhooks identity-outage issuers doctor-rows runbooks counted-errors
flex-slack: setup  ## 200 flex requests with room for 20 beside interactive traffic, every process killed once
	$(BIN)/python -m tests.chaos.flex_slack $(ARGS)

identity-outage: setup  ## An identity provider and a user-org service killed and slowed under 50 requests/s, second by second
	$(BIN)/python -m tests.chaos.identity_outage

webhooks: setup  ## A receiver of webhooks away for five minutes while dispatchers are killed; ARGS="--down-s N"
	$(BIN)/python -m tests.chaos.webhooks $(ARGS)

doctor-rows: setup  ## Twenty faults made for real, what tallygate doctor says of each, and its remedy followed; ARGS="--only NAME ..."
	$(BIN)/python -m tests.chaos.doctor_rows $(ARGS)

runbooks: setup  ## The commands of deploy/runbooks in order, each night's fault made for real; ARGS="--only NAME ..."
	$(BIN)/python -m tests.chaos.runbooks $(ARGS)

counted-errors: setup  ## Each row of the table of errors caused from outside, and the processes' counts beside the client's own; two minutes
	$(BIN)/python -m tests.chaos.counted_errors

ledger-loss: setup  ## Ledgers lost in every way under load, about an hour; ARGS="--primaries 1 3 --scenario NAME ... --out FILE"
	$(BIN)/python -m tests.chaos.ledger_loss $(ARGS)

.PHONY: replay
replay: setup  ## 200 000 outcomes folded again, killed in the middle, copied, altered; every consumer group reset to earliest
	$(BIN)/python -m tests.load.replay $(ARGS)
	$(BIN)/python -m tests.chaos.group_reset

.PHONY: rolling mixed broker-loss resumed-streams
rolling: setup  ## Each process restarted, added, taken away under 50 requests/s behind HAProxy; needs haproxy, or HAPROXY=PATH
	$(BIN)/python -m tests.chaos.rolling $(ARGS)

resumed-streams: setup  ## 50 streams, kill -9 of their ingress: each goes on at another one, byte for byte, and is billed once; so do 50 responses in the background
	$(BIN)/python -m tests.chaos.resumed_streams $(ARGS)
	$(BIN)/python -m tests.chaos.followed_responses $(ARGS)

mixed: setup  ## Processes of an earlier commit beside these, under load, up and back: make mixed FROM=COMMIT; needs haproxy
	$(BIN)/python -m tests.chaos.mixed_versions --from $(FROM) $(ARGS)

broker-loss: setup  ## Three brokers, each killed under load: what clients saw, and what the books say
	$(BIN)/python -m tests.chaos.broker_loss $(ARGS)

fuzz: setup  ## 100 000 odd answers to the dispatcher, 100 000 odd requests to ingress
	$(BIN)/python -m tests.fuzz.upstream
	$(BIN)/python -m tests.fuzz.requests $(ARGS)

servers: setup  ## Servers that nobody here wrote, behind a gateway: llama.cpp, aimock; ARGS="--with llama-cpp-python" builds a third
	$(BIN)/python -m tests.foreign.servers $(ARGS)

.PHONY: buckets
buckets: setup  ## Files in a bucket of an S3 server of other people (PyPI)
	$(BIN)/python -m tests.foreign.buckets

issuers: setup  ## Access tokens of an identity provider of other people (npm), signed in four ways, as ingress judges them
	$(BIN)/python -m tests.foreign.issuers

panels: setup  ## Each query of each dashboard, asked of a real Prometheus beside a stack in trouble; promtool judges pages and rules; TALLYGATE_PROMETHEUS=FOLDER
	$(BIN)/python -m tests.foreign.panels

alarms: setup  ## Each alert is made to fire by its fault, and clears when that is gone; needs Prometheus too; ARGS="--only ALERT ..."
	$(BIN)/python -m tests.foreign.alarms $(ARGS)

clients: setup  ## openai (Python, Node), LangChain and the Vercel AI SDK through a gateway; needs npm for half of them
	$(BIN)/python -m tests.foreign.clients

.PHONY: acceptance
acceptance: setup  ## What standards ask of a gateway (tests/README.md), seen by openai and anthropic in Python and Node, newest and oldest; needs npm for half of it
	$(BIN)/python -m tests.foreign.acceptance

.PHONY: package-suites
package-suites: setup  ## Test suites that openai, anthropic and LangChain ship, run against a gateway: passed, failed, and why; ARGS="--only NAME ..."
	$(BIN)/python -m tests.foreign.package_suites $(ARGS)

.PHONY: agents
agents: setup  ## A coding agent (pi) at work through a gateway in both protocols, twenty turns a session; needs npm
	$(BIN)/python -m tests.foreign.agents

.PHONY: examples
examples: setup  ## The examples for LangChain, Node and the Vercel AI SDK, on a gateway of their own; needs npm for most
	$(BIN)/python -m tests.foreign.examples

.PHONY: helm workflows smoke loadtest vegeta
helm: setup  ## The Helm chart by Helm itself, Kubernetes' schemas and the processes' settings; needs Go
	$(BIN)/python -m tests.foreign.charts

workflows: setup  ## The workflows of CI by actionlint; needs Go
	$(BIN)/python -m tests.foreign.workflows

smoke:  ## A gateway that was deployed, in seconds: make smoke URL=https://... [MODEL=...], its key in TALLYGATE_API_KEY
	@deploy/smoke.sh $(URL) $(MODEL)

loadtest: setup  ## A verdict: make loadtest SCENARIO=baseline|limits|burst|soak; ARGS="--rate 20 --scale 0.1"
	@deploy/loadtest.sh $(SCENARIO) $(ARGS)

vegeta: setup  ## Our open loop and vegeta's beside each other on one stack; needs Go; ARGS="--rate 50 --seconds 20"
	$(BIN)/python -m tests.foreign.vegeta $(ARGS)

.PHONY: proto grpc
proto: setup  ## Make the Python of schemas/proto anew, and judge it by buf: lint, and what would break older clients (ARGS="--against COMMIT")
	$(BIN)/python -m deploy.reference.protobuf
	$(BIN)/python -m tests.foreign.buf $(ARGS)

grpc: setup  ## grpcurl, which nobody here wrote, lists and calls everything by reflection; needs Go
	$(BIN)/python -m tests.foreign.grpcurl

.PHONY: schemathesis
schemathesis: setup  ## Ten minutes of requests made from the OpenAPI document, public and admin; ARGS="--seconds N"
	$(BIN)/python -m tests.foreign.api_document $(ARGS)

moved-clocks: setup  ## What clients see while the clock of one process is wrong; needs a C compiler
	$(BIN)/python -m tests.chaos.moved_clocks $(ARGS)

fmt: setup  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lock: setup  ## Pin the newest allowed versions
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
	  --no-annotate --group dev pyproject.toml -o requirements.lock
	UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal --generate-hashes \
	  --no-emit-index-url --no-annotate --constraints requirements.lock \
	  --excludes deploy/docker/embedded-only.txt pyproject.toml -o requirements-runtime.lock
