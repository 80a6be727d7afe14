#!/usr/bin/env bash
# Creates a minimal environment for `python -m benchmarks.gpu`: torch, transformers, numpy and pandas.
#     bash benchmarks/gpu/environment.sh FOLDER [PYTHON]        then: FOLDER/bin/python -m benchmarks.gpu --out OUT --device cpu --tiny
# The default versions are those of GPU machines in 2026; set TORCH=2.13.0 or TRANSFORMERS=… in the environment for others.
set -euo pipefail
folder=${1:?"the folder of the new environment is missing"}
python=${2:-python3.12}
"$python" -m venv "$folder"
"$folder/bin/python" -m pip install -q "torch==${TORCH:-2.11.0}" "transformers==${TRANSFORMERS:-5.17.0}" numpy pandas
"$folder/bin/python" -m pip list 2>/dev/null | grep -iE '^(torch|transformers|numpy|pandas|scipy|textattack|streamlit) '
