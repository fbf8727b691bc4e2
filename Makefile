# make demo   evaluates the shipped weights on generated video, draws a clip, fine-tunes the weights for a minute
# make demo-train   trains a small network from random weights on generated video and evaluates it
# make test   lint, types, tests
# make faults   trainings and evaluations killed at random moments
# make docs   builds the documentation as a site in site/, and executes its notebooks
# make train-weights   trains the shipped weights from the data sets in DATA, on a GPU (nine minutes on an H200), then a quality head
# make exhaustive   further golden traces, trainings of all parts of the network, more trackers in the closed loop, single kills, the notebooks
# make mutants   changes one expression at a time in the code that computes, lists the changes that no test notices, fails above a tenth
# All install into .venv first; an install is found again until the lock or the project file changes.

PYTHON ?= python3
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
INSTALLED := .venv/.installed-$(shell (cat requirements.lock pyproject.toml; $(PYTHON) -V) | git hash-object --stdin)
RUN := .venv/bin/python
DATA ?= ../shared/data
BACKBONE_WEIGHTS ?= ../shared/weights/resnet18_imagenet_layer3.safetensors
export NO_ALBUMENTATIONS_UPDATE := 1
unexport PYTHONDONTWRITEBYTECODE

.PHONY: install test exhaustive faults mutants lint docs demo demo-train train-weights lock
install: $(INSTALLED)

$(INSTALLED):
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 13) else "Python 3.11 or 3.12 is needed: make PYTHON=python3.11")'
	$(PYTHON) -m venv --clear .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.lock
	# Both OpenCV packages write into cv2/. The headless files must win: they need no libGL, which a bare machine lacks.
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --force-reinstall $$(grep '^opencv-python-headless' requirements.lock)
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	# In parallel, and whether or not PYTHONDONTWRITEBYTECODE is set: without bytecode, every start takes twice as long.
	$(RUN) -m compileall -q -j 0 -x py312_ .venv/lib
	touch $@

lint: install
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# One process a core and one thread a process; tests of one file share its fixtures and stay in one process. The order
# of the files is kept, because those of few and long tests would come last and leave cores idle.
test: lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) -m pytest -n auto --dist loadfile --no-loadscope-reorder --timeout 600

exhaustive: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) -m pytest -n auto --dist loadfile -m exhaustive

# One after the other: the moments of the kills are to be those of a machine at work, not of one that is overloaded.
faults: install
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) -m pytest -s -m faults

mutants: install
	rm -rf mutants
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv/bin/mutmut run
	.venv/bin/mutmut results
	.venv/bin/mutmut export-cicd-stats
	$(RUN) -c 'import json, sys; n = json.load(open("mutants/mutmut-cicd-stats.json")); part = (n["killed"] + n["timeout"]) / n["total"]; print(f"{part:.1%} of {n}"); sys.exit(part < 0.9)'

docs: install
	.venv/bin/mkdocs build

demo: install
	rm -rf demo
	$(RUN) -m alpharefine.synthetic demo/data --photos 4 --frame_size '[360,480]' --lasot_train 0 --lasot_test 0 --got10k 0 --coco 0 --coco_val 0 --davis 0 --ecssd 0
	$(RUN) evaluate.py --ckpt ar18_cm --tracker mil --data_root demo/data/photos --baseline --devices 2 --output_dir demo/results
	.venv/bin/alpharefine track demo/data/photos/astronaut/astronaut-1 --output demo/astronaut.mp4
	$(RUN) train.py --config demo_finetune.yaml --output_dir demo/runs --wandb off

demo-train: install
	rm -rf demo-train
	$(RUN) -m alpharefine.synthetic demo-train/data --lasot_train 16 --lasot_test 6 --got10k 40 --coco 150 --coco_val 20 --davis 0 --ecssd 0
	$(RUN) train.py --config demo.yaml --data.root demo-train/data --output_dir demo-train --wandb off
	$(RUN) evaluate.py --ckpt demo-train/demo/checkpoints/last.ckpt --tracker mil --data_root demo-train/data/lasot --baseline --min_feedback_score 0 --output_dir demo-train/results

train-weights: install
	$(RUN) train.py --config ar18_store.yaml --data.root $(DATA) --model.backbone_weights $(BACKBONE_WEIGHTS) --wandb off
	$(RUN) train.py --config ar18_store.yaml --config overlays/ar18_quality.yaml --name ar18_quality --data.root $(DATA) --wandb off

lock:
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/python -m pip install --quiet hatchling editables
	.lock-venv/bin/python -m pip install --quiet -e '.[dev,trax]'
	.lock-venv/bin/python -m pip freeze --all --exclude-editable | grep -v '^pip==' \
		| sed -E -e '/^(nvidia-|cuda-|triton)/ s/$$/ ; sys_platform == "linux"/' -e '/^vot-/ s/$$/ ; platform_machine == "x86_64"/' > .lock-venv/requirements.lock
	mv .lock-venv/requirements.lock requirements.lock
	rm -rf .lock-venv
