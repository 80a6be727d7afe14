#!/usr/bin/env bash
# Builds the wheel, installs it into an empty environment, and runs the demo's command and the command line from another folder.
#     bash tests/wheel.sh [PYTHON]
# Extras are not installed, so this also tests what works without them; versions are those of requirements.txt.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"${1:-python3}" -m venv "$scratch/env"
"$scratch/env/bin/python" -m pip wheel -q --no-deps -w "$scratch" "$here"
"$scratch/env/bin/python" -m pip install -q --no-compile -c "$here/requirements.txt" "$scratch"/prunescope-*.whl
mkdir "$scratch/elsewhere" && cd "$scratch/elsewhere"
export PRUNESCOPE_HOME="$scratch/home" HF_HUB_OFFLINE=1
run=("$scratch/env/bin/prunescope")
"${run[@]}" methods >/dev/null
"${run[@]}" run --method akr --sparsity 0.7 --calibration-size 32 --evaluation-size 40 --measure accuracy --measure reconstruction --json out.json
"$scratch/env/bin/python" - <<'PYTHON'
import json, pathlib, prune_core
from prune_core.paths import IS_CLONE, ROOT
assert not IS_CLONE and (ROOT / "app.py").is_file() and (ROOT / "pages" / "prune.py").is_file(), ROOT
rows = json.loads(pathlib.Path("out.json").read_text())["rows"]
assert rows["accuracy"][0]["n"] == 40 and len(rows["reconstruction"]) == 42
PYTHON
# a feature that needs an extra names it
if "${run[@]}" run --measure attack --evaluation-size 10 2>message; then echo "an attack ran without textattack" >&2; exit 1; fi
grep -q "prunescope\[attacks\].*--no-deps textattack" message || { cat message >&2; exit 1; }
# the dashboard responds
port=$("$scratch/env/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
STREAMLIT_SERVER_PORT=$port "${run[@]}" >served 2>&1 &
server=$!
for _ in $(seq 60); do
    if "$scratch/env/bin/python" -c "import urllib.request as u; u.urlopen('http://127.0.0.1:$port/_stcore/health', timeout=2)" 2>/dev/null; then
        kill $server; echo "the wheel installs, prunes, and serves the dashboard"; exit 0
    fi
    sleep 1
done
cat served >&2; kill $server; exit 1
