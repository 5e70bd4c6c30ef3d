# The two commands of the course. Each sets up .venv first, once: what it installs is pinned by constraints.txt.

PYTHONS := 3.13 3.12 3.11

# Another project's environment may be active: its packages must not be found by ours.
unexport VIRTUAL_ENV PYTHONPATH PYTHONHOME

# The stamp holds the folder it was made in. Made elsewhere, or by a Python that is gone, .venv is made again.
ready := $(shell .venv/bin/python -c 'print(open(".venv/.ready").read())' 2>/dev/null)

.PHONY: help lab test
help:
	@echo "make lab                     open JupyterLab on the first lesson (ARGS=2 opens lesson 2; ARGS also"
	@echo "                             takes options of jupyter lab, as in ARGS='--no-browser --port 9999')"
	@echo "make test                    run the unit tests, the graded tests on the solutions, and all notebooks"
	@echo "make ... PYTHON=/path/to/it  choose the Python that .venv is made with"

lab: .venv/.ready
	@.venv/bin/learning lab $(ARGS)

NBVAL := .venv/bin/python -m pytest -n 3 --dist loadfile -p tests.kernels --nbval-lax --nbval-cell-timeout=120

test: .venv/.ready
	.venv/bin/pytest -n 3 --dist loadgroup
	.venv/bin/pytest test_learning_03.py --work solutions
	$(NBVAL) --ignore-glob='*.kept-*' notebooks
	LEARNING_STRICT=1 $(NBVAL) solutions

ifneq ($(ready),$(CURDIR))
.PHONY: .venv/.ready
endif
# Made from nothing each time, so that an interrupted set-up leaves no trace.
# A version manager's shim may exist and not run, and Debian's python3 may lack venv: only trying tells.
.venv/.ready: pyproject.toml constraints.txt
	@probe='import sys; print("%d.%d" % sys.version_info[:2]); import venv, ensurepip'; found=; \
	for python in $(if $(PYTHON),"$(PYTHON)",python3 $(PYTHONS:%=python%)); do \
	    if version=$$("$$python" -c "$$probe" 2>/dev/null); then \
	        case " $(PYTHONS) " in *" $$version "*) break;; esac; \
	        found="$$found$${found:+; }$$python is $$version"; \
	    elif [ "$$version" ]; then \
	        found="$$found$${found:+; }$$python $$version has no venv module (on Debian: apt install python$$version-venv)"; \
	    else \
	        found="$$found$${found:+; }$$python does not run"; \
	    fi; \
	    python=; \
	done; \
	if [ -z "$$python" ]; then \
	    echo "No Python to set up with: $$found. Install one of $(PYTHONS), or say where: PYTHON=/path/to/it" >&2; \
	    exit 1; \
	fi; \
	echo "Setting up .venv with Python $$version: about 160 packages, once, a few minutes"; \
	"$$python" -m venv --clear .venv
	@quiet=$$(test -t 1 || echo --quiet); \
	.venv/bin/python -m pip install --disable-pip-version-check $$quiet -c constraints.txt -e '.[test]'
	@printf %s "$$(pwd -P)" > .venv/.ready
