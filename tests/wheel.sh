#!/usr/bin/env bash
# Builds the wheel, installs it into an environment with its dependencies only, and runs the demo's command and the command
# line from another folder.
#     bash tests/wheel.sh
# Dependencies are links to those in .venv, found by the requirements in the wheel: extras are missing, so this also tests what
# works without them, and nothing is downloaded or unpacked twice.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$here/.venv/bin/python" -m venv "$scratch/env"
"$scratch/env/bin/python" -m pip wheel -q --no-deps -w "$scratch" "$here"
"$scratch/env/bin/python" -m pip install -q --no-deps "$scratch"/prunescope-*.whl
"$here/.venv/bin/python" - "$scratch"/env/lib/python*/site-packages <<'PYTHON'
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path
from packaging.requirements import Requirement

place = Path(sys.argv[1])
wheel = next(each for each in distributions(path=[str(place)]) if each.name == "prunescope")
needed, linked = [(wheel, {""})], set()
while needed:
    dist, extras = needed.pop()
    for requirement in map(Requirement, dist.requires or []):
        marker = requirement.marker
        if marker and not any(marker.evaluate({"extra": extra}) for extra in extras):
            continue
        found = distribution(requirement.name)
        assert requirement.specifier.contains(found.version), (str(requirement), found.version)
        if requirement.name not in linked:
            linked.add(requirement.name)
            needed.append((found, requirement.extras | {""}))
            for top in {file.parts[0] for file in found.files} - {"..", "__pycache__"}:
                if not (place / top).exists():
                    (place / top).symlink_to(found.locate_file(top))
PYTHON
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
