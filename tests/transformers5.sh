#!/usr/bin/env bash
# Everything but attacks on transformers 5: an environment of its own without TextAttack, whose taggers hold transformers below 5,
# and the suite in it. bash tests/transformers5.sh [FOLDER]
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:-.venv5}
python=${PYTHON:-python3}
[ -x "$folder/bin/python" ] || "$python" -m venv "$folder"
without='^(textattack|transformers|huggingface_hub|#)'
grep -vE "$without" requirements.txt > "$folder/requirements.txt"
grep -vE "$without" requirements-test.txt >> "$folder/requirements.txt"
"$folder/bin/python" -m pip install -q -r "$folder/requirements.txt" "transformers==${TRANSFORMERS:-5.24.0}"
PRUNESCOPE_TESTS=without-attacks OMP_NUM_THREADS=1 "$folder/bin/python" -m pytest -n 2 --dist loadfile
