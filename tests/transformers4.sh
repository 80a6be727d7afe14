#!/usr/bin/env bash
# Runs the end-to-end test of every encoder family with the oldest supported transformers, in about two minutes.
#     bash tests/transformers4.sh
# transformers 4.57 is installed into a temporary folder in front of .venv, so that torch and the rest are not installed twice.
set -euo pipefail
cd "$(dirname "$0")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
.venv/bin/python -m pip install -q --no-compile --no-deps --target "$folder" transformers==4.57.6 huggingface_hub==0.36.2 tokenizers==0.22.2
export PYTHONPATH=$folder OMP_NUM_THREADS=1
.venv/bin/python -c 'import transformers; assert transformers.__version__ == "4.57.6", transformers.__version__'
.venv/bin/python -m pytest -n 2 tests/test_every_family.py
