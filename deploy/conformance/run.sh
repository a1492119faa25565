#!/usr/bin/env bash
# Plays clients, generators and linters that are not ours against the real server.
#
# What they need is installed, generated and compiled under target/conformance, in the versions of the lock files beside
# this script; nothing is written into the source tree.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# The generator of clients, and the plugin that fetches it, both from Maven.
generator=org.openapitools:openapi-generator-cli:7.25.0
fetcher=org.apache.maven.plugins:maven-dependency-plugin:3.8.1
# The oldest Node.js that the packages run on. Debian 12 has 18; the lock file brings a newer one where there is one for the platform.
oldest_node=22.12

from=deploy/conformance
into=$PWD/${CARGO_TARGET_DIR:-target}/conformance

say() { printf '== %s\n' "$*"; }

die() {
  printf 'conformance: %s\n' "$*" >&2
  exit 1
}

# Copies the project $1 beside what is installed for it.
lay_out() {
  mkdir -p "$into/$1"
  cp -R "$from/$1/." "$into/$1/"
}

# True if $2 was installed from another lock file than $1, or not at all.
is_stale() { ! cmp -s "$1" "$2/installed-from"; }

install_node() {
  lay_out node
  cd "$into/node"
  if is_stale package-lock.json .; then
    # Without the packages' own scripts: one of them reports to its maker.
    npm ci --ignore-scripts --no-audit --no-fund --loglevel=error >/dev/null
    cp package-lock.json installed-from
  fi
  local program
  for program in node_modules/node-*/bin/node; do
    if [[ -x $program ]]; then PATH=$PWD/${program%/node}:$PATH; fi
  done
  hash -r
  local have
  have=$(node --version)
  [[ $(printf '%s\n' "$oldest_node" "${have#v}" | sort -V | head -n 1) == "$oldest_node" ]] ||
    die "Node.js ${have#v} is too old, $oldest_node or newer is needed"
  cd - >/dev/null
}

install_python() {
  lay_out python
  is_stale "$into/python/requirements.txt" "$into/python" || return 0
  python3 -m venv --clear "$into/python/venv"
  "$into/python/venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes \
    --requirement "$into/python/requirements.txt"
  cp "$into/python/requirements.txt" "$into/python/installed-from"
}

# Generates the client for one language: the generator's name for it, the directory, its options.
generate() {
  local language=$1 directory=$into/$2 options=$3
  rm -rf "$directory"
  java -jar "$into/generator/"*.jar generate --input-spec gateway/openapi.json --generator-name "$language" \
    --output "$directory" --additional-properties "$options" \
    --global-property apiDocs=false,modelDocs=false,apiTests=false,modelTests=false >"$directory.log" 2>&1 ||
    die "no client for $language: $(tail -n 20 "$directory.log")"
}

generate_clients() {
  mvn --quiet --batch-mode "$fetcher:copy" -Dartifact="$generator" -DoutputDirectory="$into/generator"
  lay_out go
  lay_out kotlin
  lay_out rust
  generate typescript-fetch node/client importFileExtension=.js
  generate python python/generated packageName=roomcast_client
  # Without the last option Go's refuses answers with fields that it does not know, and we add some now and then.
  generate go go/client packageName=client,withGoMod=false,disallowAdditionalPropertiesIfNotPresent=false
  generate kotlin kotlin/client library=jvm-okhttp4,serializationLibrary=kotlinx_serialization
}

compile_clients() {
  (cd "$into/node" && node_modules/.bin/tsc)
  "$into/python/venv/bin/python" -m compileall -q "$into/python/generated"
  (cd "$into/go" && go build -o bin/ ./follow ./story)
  (cd "$into/kotlin" && mvn --quiet --batch-mode compile)
  CARGO_TARGET_DIR=$into/rust/target cargo build --quiet --locked --manifest-path "$into/rust/Cargo.toml"
}

say 'installing clients, generators and linters'
install_node
install_python
say 'generating clients from gateway/openapi.json'
generate_clients
say 'compiling them'
compile_clients
say 'building the server'
cargo build --quiet --workspace --bins
say 'playing them against the server'
exec "${CARGO_TARGET_DIR:-target}/debug/conformance" --clients "$into" --rules "$from" "$@"
