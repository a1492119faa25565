#!/usr/bin/env bash
# Installs what is missing of the things named: rust, redis, postgres, browser, lints, deny,
# nchan, node, python, go, java. What is there already is left alone,
# except another version of cargo-deny.
#
# Debian by apt-get, as root or through sudo; macOS by Homebrew.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=()

die() {
  printf 'install: %s\n' "$*" >&2
  exit 1
}

# Notes the packages $2... if there is no command $1.
need() {
  local command=$1
  shift
  command -v "$command" >/dev/null || packages+=("$@")
}

on_macos() { [[ $OSTYPE == darwin* ]]; }

# Rust itself is not ours to choose. The C compiler is for SQLite and the cryptography, which are built from source.
rust() {
  command -v cargo >/dev/null ||
    die "cargo was not found: install Rust as https://rustup.rs says, then open a new shell"
  local wanted have oldest
  wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
  have=$(cargo --version | cut -d ' ' -f 2)
  oldest=$(printf '%s\n' "$wanted" "$have" | sort -V | head -n 1)
  [[ $oldest == "$wanted" ]] || die "Rust $have is too old, $wanted or newer is needed: rustup update stable"
  need cc gcc libc6-dev
}

# The tests drive Swagger UI in a real browser. On macOS that is the Chrome that is there.
browser() {
  if on_macos; then
    need chromedriver chromedriver
  else
    need chromium chromium
    need chromedriver chromium-driver
  fi
}

# The programs of the server alone: deploy/postgres.sh makes a cluster of its own for the tests.
postgres() {
  local initdb
  for initdb in /usr/lib/postgresql/*/bin/initdb {/opt/homebrew,/usr/local}/opt/postgresql@*/bin/initdb; do
    [[ ! -x $initdb ]] || return 0
  done
  need initdb postgresql
}

# nginx with its module for channels, in Debian alone: what `loadtest --peer nchan` measures beside Roomcast.
nchan() {
  ! on_macos || die "nchan is measured on Debian alone: Homebrew's nginx comes without it"
  [[ -f /usr/lib/nginx/modules/ngx_nchan_module.so ]] || packages+=(nginx libnginx-mod-nchan)
}

# What the checks of the code need, beside cargo itself.
lints() {
  need shellcheck shellcheck
  component fmt rustfmt
  component clippy clippy
}

# Adds the command $1 of cargo, which is the component $2 of rustup.
component() {
  cargo "$1" --version >/dev/null 2>&1 || quietly rustup component add "$2" ||
    die "'cargo $1' was not found, and rustup could not add $2"
}

# Checks the dependencies, in one version: a newer one may find other things, or read .deny.toml in another way, or need a
# newer Rust than the oldest supported one. It is built without optimisation: that takes a minute instead of four, and a
# check a second.
deny() {
  local version=0.20.2
  [[ $(cargo deny --version 2>/dev/null) == "cargo-deny $version" ]] || {
    echo "Installing cargo-deny $version"
    quietly cargo install --debug --locked --force "cargo-deny@$version" || die "cargo-deny could not be installed"
  }
}

# The four languages in which foreign clients are tried. deploy/conformance/run.sh says which versions it needs, and brings
# a newer Node.js itself where Debian's is too old.
node_tools() {
  need node "$(on_macos && echo node || echo nodejs)"
  need npm "$(on_macos && echo node || echo npm)"
}

python_tools() {
  if on_macos; then
    need python3 python
  elif ! python3 -c 'import ensurepip, venv' 2>/dev/null; then
    packages+=(python3-venv)
  fi
}

go_tools() { need go "$(on_macos && echo go || echo golang-go)"; }

java_tools() {
  need java "$(on_macos && echo openjdk || echo default-jdk-headless)"
  need mvn maven
}

# Runs a command silently, and shows what it said only if it failed.
quietly() {
  local output
  output=$("$@" 2>&1) || {
    printf '%s\n' "$output" >&2
    return 1
  }
}

# Asks for the password of sudo once, if there is a terminal to ask on.
can_sudo() {
  command -v sudo >/dev/null || return 1
  if [[ -t 0 ]]; then sudo -v; else sudo -n true 2>/dev/null; fi
}

install_on_debian() {
  local as_root=(env DEBIAN_FRONTEND=noninteractive)
  local by_hand="run 'apt-get install ${packages[*]}' as root"
  local service services=()
  if [[ " ${packages[*]} " == *' redis-server '* ]]; then
    services+=(redis-server)
    by_hand+=", or set REDIS_URL to a Redis you have"
  fi
  if [[ " ${packages[*]} " == *' postgresql '* ]]; then services+=(postgresql); fi
  if [[ " ${packages[*]} " == *' nginx '* ]]; then services+=(nginx); fi
  echo "Installing ${packages[*]}"
  if ((EUID != 0)); then
    can_sudo || die "${packages[*]} missing, and neither root nor sudo to install with: $by_hand"
    as_root=(sudo "${as_root[@]}")
  fi
  local apt_get=("${as_root[@]}" apt-get -qq -o DPkg::Lock::Timeout=120)

  # A source that cannot be reached need not be the one these packages come from.
  quietly "${apt_get[@]}" update || echo "install: 'apt-get update' failed, using the package lists there are" >&2
  quietly "${apt_get[@]}" install -y --no-install-recommends "${packages[@]}" ||
    die "could not install ${packages[*]}: $by_hand"

  # Each package starts a server of its own, which nobody asked for: Roomcast and its tests run private ones.
  for service in ${services[@]+"${services[@]}"}; do
    if [[ -d /run/systemd/system ]]; then quietly "${as_root[@]}" systemctl disable --now "$service" || true; fi
  done
}

install_on_macos() {
  local formulas=("${packages[@]/redis-server/redis}")
  formulas=("${formulas[@]/%postgresql/postgresql@17}")
  command -v brew >/dev/null || die "${formulas[*]} missing, and no Homebrew to install it (https://brew.sh)"
  echo "Installing ${formulas[*]}"
  quietly brew install --quiet "${formulas[@]}" || die "'brew install ${formulas[*]}' failed"
}

for thing in "$@"; do
  case $thing in
    rust | postgres | browser | lints | deny | nchan) "$thing" ;;
    redis) need redis-server redis-server ;;
    node | python | go | java) "${thing}_tools" ;;
    *) die "'$thing' is none of rust, redis, postgres, browser, lints, deny, nchan, node, python, go, java" ;;
  esac
done

((${#packages[@]})) || exit 0
if on_macos; then
  install_on_macos
elif command -v apt-get >/dev/null; then
  install_on_debian
else
  die "neither apt-get nor Homebrew is here: install ${packages[*]} yourself"
fi
