# `make demo` and `make test` set everything up on their first call; docs/install.md says what that takes.
#   make PYTHON=python3.13 VENV=/some/where/venv test     another interpreter, another place
#   make WORKERS=8 test                                   so many processes; each tests a file at a time

VENV ?= .venv
PYTHON ?=
WORKERS ?= 2
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INTERFACES := ov3d_msgs pip_ros/nav2_msgs pip_ros/tf2_msgs pip_ros/vision_msgs
INTERFACE_FILES := $(shell find $(INTERFACES) -type f)

# The wheels bring their own ROS 2. One that this shell has sourced, or another environment's wheels, must not be mixed in.
ifneq (,$(ROS_DISTRO)$(_ROS_WHEELS_BOOTSTRAP_COMPLETE))
unexport ROS_DISTRO AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH RMW_IMPLEMENTATION
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE PYTHONPATH LD_LIBRARY_PATH
endif

.PHONY: setup demo test oracle lint format lock clean

setup: $(VENV)/.requirements $(VENV)/.interfaces

demo: setup
	$(BIN)/ov3d demo

test: setup
	OMP_NUM_THREADS=1 ROS_PYTHON_CHECK_FIELDS=1 $(BIN)/python -m pytest \
	    --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# What some tests compare with or build with, and are skipped without: MinkowskiEngine and colcon.
oracle: setup
	$(PIP) install --quiet --no-deps --requirement requirements/colcon.txt
	sh scripts/build_minkowski.sh "$(VENV)"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Three stamps: the interpreter; everything from PyPI with the package itself (editable); the interfaces built here.
$(VENV)/.created: scripts/setup_venv.sh
	sh scripts/setup_venv.sh "$(VENV)" "$(PYTHON)"
	touch $@

$(VENV)/.requirements: setup.py setup.cfg constraints.txt $(VENV)/.created
	$(PIP) install --constraint constraints.txt --editable '.[all]'
	touch $@

$(VENV)/.interfaces: $(INTERFACE_FILES) constraints.txt | $(VENV)/.requirements
	$(PIP) install --no-build-isolation --no-deps --force-reinstall $(addprefix ./,$(INTERFACES))
	touch $@

# New versions for every Python at once; keeps the present ones where it can. Needs `pip install uv`.
lock:
	sh scripts/lock.sh

clean:
	rm -rf $(VENV) build dist *.egg-info out .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
