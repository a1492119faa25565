#!/usr/bin/env bash
# Runs a command with a private Postgres beside it, and stops the server when the command ends:
#
#   deploy/postgres.sh cargo test --package shared
#
# The command finds the server in TEST_POSTGRES_URL, as a superuser. If that is set already, nothing is started.
set -euo pipefail
[[ -z ${TEST_POSTGRES_URL-} ]] || exec "$@"

# How long the server may take until it answers, in tenths of a second.
patience=300

die() {
  printf 'postgres: %s\n' "$*" >&2
  exit 1
}

# Prints the directory of the server's programs, of the newest version there is. Debian keeps them out of PATH.
find_programs() {
  local initdb
  for initdb in "$(command -v initdb)" /{usr/lib,opt/homebrew/opt,usr/local/opt}/postgresql*/{,*/}bin/initdb; do
    # What PATH names can be a link into the directory meant.
    [[ ! -x $initdb ]] || dirname "$(readlink -f "$initdb")"
  done | sort -V | tail -n 1
}

# At once: what it would still write goes with the directory.
# shellcheck disable=SC2317,SC2329 # The trap below calls it, which shellcheck does not see.
stop() {
  [[ -z ${server-} ]] || { kill -QUIT "$server" 2>/dev/null && wait "$server"; } || true
  rm -rf "$directory"
}

is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

programs=$(find_programs)
[[ -n $programs ]] || die "there is no initdb: run 'deploy/install.sh postgres'"
directory=$(mktemp -d "${TMPDIR:-/tmp}/roomcast-postgres.XXXXXX")
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Postgres does not run as root. Where it can be arranged, it does not outlive this script either.
run=()
if ((EUID == 0)); then
  user=$(id -un postgres 2>/dev/null || echo nobody)
  chown "$user" "$directory"
  run=(setpriv "--reuid=$user" "--regid=$(id -g "$user")" --clear-groups --pdeathsig=QUIT --)
elif command -v setpriv >/dev/null; then
  run=(setpriv --pdeathsig=QUIT --)
fi

(cd "$directory" && ${run[@]+"${run[@]}"} "$programs/initdb" --pgdata=data --username=roomcast --auth=trust \
  --encoding=UTF8 --no-locale --no-sync) >"$directory/initdb.log" 2>&1 || die "initdb failed: $(cat "$directory/initdb.log")"

# Below the ports that the system and the test rig hand out.
port=$((15000 + RANDOM % 5000))
until is_free "$port"; do port=$((15000 + RANDOM % 5000)); done
# Durable as it comes: the product refuses a server that is not.
(cd "$directory" && exec ${run[@]+"${run[@]}"} "$programs/postgres" -D data -p "$port" -c listen_addresses=127.0.0.1 \
  -c unix_socket_directories= -c max_connections=300) >"$directory/postgres.log" 2>&1 &
server=$!
until "$programs/pg_isready" --quiet --host=127.0.0.1 --port="$port" --username=roomcast 2>/dev/null; do
  if ! kill -0 "$server" 2>/dev/null || ((patience-- <= 0)); then
    die "Postgres did not start: $(cat "$directory/postgres.log")"
  fi
  sleep 0.1
done

status=0
TEST_POSTGRES_URL=postgres://roomcast@127.0.0.1:$port/postgres "$@" || status=$?
exit "$status"
