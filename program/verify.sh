#!/bin/bash
# Builds the program anew in a temporary folder and compares it with builds/SHA256SUMS.
#
#   program/verify.sh
#
# Under other versions than those in builds/BUILT_WITH other bytes are expected: then the program's tests are run on
# the new build instead. Exits 0 when the builds are the same or the tests pass, 1 when not, 3 when it cannot build.
set -euo pipefail
cd "$(dirname "$0")"
new=$(mktemp -d)
trap 'rm -rf "$new"' EXIT

./build.sh "$new" >"$new/log" 2>&1 || { status=$?; cat "$new/log" >&2; exit "$status"; }
if cmp -s builds/SHA256SUMS "$new/SHA256SUMS"; then
    (cd builds && sha256sum --check --quiet SHA256SUMS)
    echo "the committed builds are what this source builds:"
    cat builds/SHA256SUMS
    exit 0
fi
if cmp -s builds/BUILT_WITH "$new/BUILT_WITH"; then
    echo "the same compiler and linker built other bytes: run program/build.sh and commit builds/" >&2
    diff builds/SHA256SUMS "$new/SHA256SUMS" >&2 || true
    exit 1
fi
echo "other versions than in builds/BUILT_WITH, so other bytes; the program's tests run on the new build:"
diff builds/BUILT_WITH "$new/BUILT_WITH" || true
cd ..
SPLITUP_PROGRAM_V0=$new/splitup.v0.so SPLITUP_PROGRAM_V3=$new/splitup.v3.so "${PYTHON:-python3}" -m pytest -q tests/program
