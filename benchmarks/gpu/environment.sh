#!/usr/bin/env bash
# Makes a bare environment for `python -m benchmarks.gpu`: torch, transformers, numpy and pandas, and nothing else of ours.
#     bash benchmarks/gpu/environment.sh FOLDER [PYTHON]        then: FOLDER/bin/python -m benchmarks.gpu --out OUT --device cpu --tiny
# The versions are those that a GPU machine of 2026 brings; TORCH=2.13.0 and TRANSFORMERS=… in the environment name others.
set -euo pipefail
folder=${1:?"name the folder of the environment to make"}
python=${2:-python3.12}
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install -q "torch==${TORCH:-2.11.0}" "transformers==${TRANSFORMERS:-5.17.0}" numpy pandas
"$folder/bin/python" -m pip list 2>/dev/null | grep -iE '^(torch|transformers|numpy|pandas|scipy|textattack|streamlit) '
