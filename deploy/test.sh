#!/usr/bin/env bash
# Runs the checks named, one after the other, until one fails: fmt, scripts, layers, deps, lint, docs,
# tests. A check whose tool is missing fails: `deploy/install.sh` installs it.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# The newest compiler whose lints this code meets. A later one knows lints this code has never met: it shows them,
# but does not fail the first run of a newcomer.
linted_with=1.95
# Lets the tests park the worker between two of its steps and kill it there.
features=(--features fanout-worker/crash-points)
note=

fmt() {
  cargo fmt --all --check -- --color never
}

scripts() {
  shellcheck deploy/*.sh deploy/conformance/run.sh .ci/run
}

# Fails if the crate $1 depends on the crate $2, tests aside.
keep_apart() {
  local tree
  tree=$(cargo tree --quiet --package "$1" --edges normal --prefix none)
  if grep -q "^$2 v" <<<"$tree"; then
    echo "$1 must not depend on $2" >&2
    return 1
  fi
}

layers() {
  keep_apart gateway fanout-worker
  keep_apart fanout-worker gateway
  keep_apart fanout-worker poem
  keep_apart shared poem
  # The tests know the services from outside.
  keep_apart rig gateway
  keep_apart rig fanout-worker
  keep_apart rig shared
}

# Without the advisories, whose database must be fetched: `cargo deny check` looks at them too.
deps() {
  cargo deny check bans licenses sources
}

lint() {
  local compiler deny=(-D warnings)
  compiler=$(rustc --version | cut -d ' ' -f 2 | cut -d . -f 1-2)
  if [[ $(printf '%s\n' "$linted_with" "$compiler" | sort -V | tail -n 1) != "$linted_with" ]]; then
    note="; lints of Rust $compiler are shown and do not fail, only those up to $linted_with do"
    deny=()
  fi
  cargo clippy --quiet --workspace --all-targets "${features[@]}" -- ${deny[@]+"${deny[@]}"}
}

docs() {
  RUSTDOCFLAGS='-D warnings' cargo doc --quiet --workspace --no-deps --document-private-items
}

# The tests start the services as processes of their own: the binaries must be there before. --tests already here, so
# that everything is compiled once, with one set of features.
tests() {
  cargo build --quiet --workspace --bins --tests "${features[@]}"
  # One more than cores: most tests wait for processes most of the time.
  RUST_TEST_THREADS=${RUST_TEST_THREADS:-$(($(getconf _NPROCESSORS_ONLN) + 1))} \
    deploy/postgres.sh cargo test --workspace --no-fail-fast "${features[@]}"
}

for check in "$@"; do
  case $check in
    fmt | scripts | layers | deps | lint | docs | tests) ;;
    *) echo "'$check' is none of fmt, scripts, layers, deps, lint, docs, tests" >&2 && exit 64 ;;
  esac
  echo "== $check"
  "$check"
done
echo "== all passed: $*$note"
