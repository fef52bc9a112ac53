#!/usr/bin/env bash
# Write the library locks again (needs uv): one for everything, and one for each group that stages depend on.
set -euo pipefail
cd "$(dirname "$0")/.."
compile() { uv pip compile pyproject.toml --universal --python-version 3.11 --no-header --no-annotate -q "$@"; }
compile --all-extras -o requirements/all.txt
for group in curation training evaluation; do
  compile --extra "$group" -c requirements/all.txt -o "requirements/$group.txt"
done
