#!/usr/bin/env bash
# .git/hooks/pre-push: reject the push if the compressed model violates the limits of policy.yaml. An
# inconclusive check (exit status 3) passes with a message; the check in CI uses more examples.
set -uo pipefail
prunescope check --dense models/dense --candidate models/compressed.onnx --tokenizer models/dense \
    --task data/test.csv --policy policy.yaml --evaluation-size 200
status=$?
if [ "$status" -eq 3 ]; then
    echo "pre-push: inconclusive on 200 examples; pushing anyway."
    exit 0
fi
exit "$status"
