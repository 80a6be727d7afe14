# make app starts the dashboard, make test runs the tests; both create .venv once.
PYTHON ?= python3
VENV   := .venv
RUN    := $(VENV)/bin/python

.PHONY: app test lint clean always

# Packages are compiled when they are first imported. Where this variable is set, as in many
# containers, nothing would be saved and every process would compile torch again (13 s each).
unexport PYTHONDONTWRITEBYTECODE

app: $(VENV)/installed
	$(RUN) -m streamlit run app.py

test: $(VENV)/installed-test
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n 4 --dist loadfile --no-loadscope-reorder --durations 15

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m mypy

# Stamps are copies of the requirement files, compared by content: new modification times after a checkout must not reinstall.
$(VENV)/installed: always
	@cat requirements.txt requirements-no-deps.txt | cmp -s - $@ || { \
		$(MAKE) -s --no-print-directory $(RUN) && echo "Installing requirements.txt into $(VENV); this happens once and takes minutes" && \
		$(RUN) -m pip install -q --no-compile --no-warn-conflicts -r requirements.txt && $(RUN) -m pip install -q --no-compile --no-deps -r requirements-no-deps.txt && \
		cat requirements.txt requirements-no-deps.txt > $@; }

$(VENV)/installed-test: $(VENV)/installed
	@cmp -s requirements-test.txt $@ || { $(RUN) -m pip install -q --no-compile -r requirements-test.txt && cp requirements-test.txt $@; }

$(RUN):
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "PruneScope needs Python 3.11, 3.12 or 3.13; name one: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "On Debian, venv is a separate package: apt install python3-venv" >&2; exit 1; }

clean:
	rm -rf $(VENV)
