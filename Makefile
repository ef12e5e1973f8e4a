# Builds its own environment in .venv from any Python of 3.11 or later.

VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.installed
# A shim may be there and fail, and a Python may come without what builds environments: each is tried. Those
# newer than our dependencies' wheels come last.
CANDIDATES := python3 python3.13 python3.12 python3.11 /usr/bin/python3 python3.14
PROBE := import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, int(sys.argv[1])))

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_NO_INPUT := 1
# For what the build itself needs, too: the first is for older pips, the second for newer ones.
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt

.PHONY: demo test check bench bench-record bench-erase bench-audit docs sweep-learning sweep-kill sweep-faults \
  sweep-tamper sweep-long sweep-erasure sweep-golden sweep-audits peers spark clean

demo: $(STAMP)
	$(VENV)/bin/rlhf-audit demo demo

test: check
	$(PYTHON) -m pytest -n 2 -m "not sweep and not learning"

check: $(STAMP)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

bench: $(STAMP)
	@set -e; for file in benchmarks/*.py; do echo "$$file"; $(PYTHON) -m benchmarks.$$(basename "$$file" .py); done

# The recorders and stores that ours are compared with, in an environment of their own. Where one does not install, the
# benchmark names it and goes on.
BENCH := .bench
PINS := $(wildcard benchmarks/peers/*.txt)

bench-record: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks.recording

bench-erase: $(BENCH)/.installed
	$(BENCH)/bin/python -m benchmarks.erasing

bench-audit: $(STAMP) $(BENCH)/.installed
	$(PYTHON) -m benchmarks.auditing
	$(BENCH)/bin/python -m benchmarks.audit_peers

$(BENCH)/.installed: $(STAMP) $(PINS)
	rm -rf $(BENCH)
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet -e '.[box2d,mujoco,atari]'
	@set -e; for list in $(PINS); do \
	  PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= $(BENCH)/bin/python -m pip install --quiet -r "$$list" || \
	    echo "$$list does not install here" >&2; \
	done
	touch $@

docs: $(STAMP)
	$(PYTHON) -m docs.generate

sweep-learning: $(STAMP)
	$(PYTHON) -m pytest -n 2 -m learning
	PYTHONPATH=tests/training $(PYTHON) tests/training/learning_figures.py

sweep-kill: $(STAMP)
	$(PYTHON) -m pytest -n 2 -m sweep -k "kill or crash"
	$(PYTHON) tests/kills/kill_sweep.py

sweep-faults: $(STAMP)
	$(PYTHON) tests/faults/fault_sweep.py
	$(PYTHON) -m pytest -s -m sweep tests/faults

sweep-tamper: $(STAMP)
	$(PYTHON) -m pytest -n 2 -m sweep -k tamper

sweep-long: $(STAMP)
	$(PYTHON) -m pytest -m sweep -k "million or for_long"

sweep-erasure: $(STAMP)
	$(PYTHON) -m pytest -n 2 -m sweep tests/withdrawal/test_withdrawal_never_there.py
	$(PYTHON) -m pytest -m sweep tests/withdrawal/test_withdrawal_raw_disk.py

sweep-golden: $(STAMP)
	$(PYTHON) -m pytest -n 2 -m sweep -k "golden or every_space"

sweep-audits: $(STAMP)
	$(PYTHON) -m pytest -s -m sweep -k sweep tests/audits

# One environment for each library that an export is opened in: some of them can't live together.
PEERS := .peers

peers: $(STAMP)
	@set -e; for list in tests/exchange/peers/*.txt; do \
	  home=$(PEERS)/$$(basename "$$list" .txt); echo "building $$home"; \
	  rm -rf "$$home"; $(PYTHON) -m venv "$$home"; \
	  PIP_CONSTRAINT= PIP_BUILD_CONSTRAINT= "$$home/bin/python" -m pip install --quiet -r "$$list"; \
	done
	RLHF_AUDIT_PEERS=$(CURDIR)/$(PEERS) $(PYTHON) -m pytest tests/exchange/test_exchange_peers.py

# Spark, with PySpark's own Java libraries (400 MB) in an environment of its own; Java 17 comes from the system.
SPARK := .spark

spark: $(STAMP)
	rm -rf $(SPARK)
	$(PYTHON) -m venv $(SPARK)
	$(SPARK)/bin/python -m pip install --quiet -c constraints.txt -e '.[spark,dev]'
	$(SPARK)/bin/python -m pytest -n 2 --dist loadfile tests/audits/test_audit_spark*.py

clean:
	rm -rf $(VENV) $(BENCH) $(SPARK) demo

$(STAMP): pyproject.toml constraints.txt
	@found=; for newest in 13 99; do for python in $(CANDIDATES); do \
	  if $$python -c '$(PROBE)' $$newest >/dev/null 2>&1; then found=$$python; break 2; fi; \
	done; done; \
	if [ -z "$$found" ]; then \
	  echo "error: no Python that can build an environment was found" >&2; \
	  echo "  seen: none of $(CANDIDATES); needed: Python 3.11 or later with venv and ensurepip" >&2; \
	  echo "  to fix: install python3 and python3-venv, then run make again" >&2; \
	  exit 4; \
	fi; \
	set -e; \
	echo "building $(VENV) with $$found"; \
	rm -rf $(VENV); \
	$$found -m venv $(VENV); \
	$(PYTHON) -m pip install --quiet -c constraints.txt -e '.[box2d,render,mujoco,atari,video,dev]'; \
	touch $(STAMP)
