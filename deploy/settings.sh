#!/usr/bin/env bash
# Writes deploy/docs/settings.md from what the programs know of their settings.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
cargo build --quiet --bin gateway --bin fanout-worker
page=deploy/docs/settings.md
{
  cat <<'INTRODUCTION'
# Settings

Both programs take each setting as a flag or from the environment, list them with `--help`, and refuse invalid ones in one line with exit code 64.
An empty variable counts as not set. `make run` reads them from the environment too, and from a file `.env`. A limit of 0 means none. `make settings`
writes this page.

INTRODUCTION
  "${CARGO_TARGET_DIR:-target}/debug/gateway" settings
  echo
  "${CARGO_TARGET_DIR:-target}/debug/fanout-worker" settings
} >"$page.new"
mv "$page.new" "$page"
