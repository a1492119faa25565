#!/usr/bin/env bash
# Starts a private Redis, one fanout-worker and one gateway to try Roomcast out, and stops them at Ctrl-C.
#
#   PORT=5000        port of the gateway             DATA_DIR=.data   database, signing key, Redis files, logs
#   REDIS_PORT=6390  port of the private Redis       PROFILE=dev      cargo profile: dev or release
#   REDIS_URL, DATABASE_URL   used instead of our own; nothing is installed or started for them
#   BIN_DIR                   take the two binaries from there and build nothing
#
# Every setting of `gateway --help` and `fanout-worker --help` can be given in the same way, in the environment or in a
# file named .env. Kept to bash 3.2, the one that macOS has.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

names=() # of the children, in the order of their start
pids=()
stopping= # set by the signals; whatever waits looks at it
trap 'stopping=1' INT TERM HUP

say() { printf '%s\n' "$*" 2>/dev/null || true; }

die() {
  printf 'make run: %s\n' "$*" >&2 || true
  exit 1
}

# Reads .env; what the environment says already wins.
read_dotenv() {
  local name value
  while IFS='=' read -r name value || [[ -n $name ]]; do
    if [[ $name =~ ^[A-Z][A-Z0-9_]*$ && -z ${!name+set} ]]; then export "$name=$value"; fi
  done <.env
}

# Exports NAME=value unless NAME is set, and remembers it for the greeting.
eased=
ease() {
  local name=${1%%=*}
  [[ -z ${!name+set} ]] || return 0
  export "${1?}"
  eased+=" $1"
}

# Two servers on one append-only file would destroy it. Our children inherit the lock, so that it holds as long as any
# of them, even if this script is killed with -9. (perl, because macOS has no flock command and every Debian has perl.)
lock_data_dir() {
  local script='' children=''
  exec 9>>"$DATA_DIR/lock"
  if perl -e 'open my $lock, ">>&=", 9 or die $!; exit !flock $lock, 2 | 4'; then
    printf '%s' "$$" >"$DATA_DIR/lock"
    return
  fi
  read -r script children <"$DATA_DIR/lock" || true
  # The script stops its children in their order; they must be stopped by hand only where it is gone.
  if kill -0 "$script" 2>/dev/null; then children=$script; fi
  die "$DATA_DIR is in use by another run: stop that one (kill $children) or choose another with DATA_DIR=<directory>"
}

# Fails with one clear line if something listens on port $2 of $1, which the variable $3 chooses.
need_port() {
  if (exec 3<>"/dev/tcp/$1/$2") 2>/dev/null; then
    die "port $2 is taken: stop what listens there or choose another, as in 'make run $3=$(($2 + 1))'"
  fi
}

# Sends $3 to port $2 of $1 and prints what is answered within 2 s. A fresh Debian has no curl.
ask() (
  exec 3<>"/dev/tcp/$1/$2" || exit 1
  printf '%b' "$3" >&3
  IFS= read -t 2 -r -d '' answer <&3 || true
  printf '%s' "$answer"
) 2>/dev/null

redis_answers() {
  [[ $(ask 127.0.0.1 "$REDIS_PORT" "AUTH $redis_password\\r\\nPING\\r\\nQUIT\\r\\n") == *+PONG* ]]
}

# Our own Redis listens where every user of this machine can reach it: it takes nothing from who cannot read DATA_DIR.
choose_redis_password() {
  local file=$DATA_DIR/redis/password
  [[ -s $file ]] || od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >"$file"
  redis_password=$(<"$file")
  export REDIS_URL=redis://:$redis_password@127.0.0.1:$REDIS_PORT
}

all_ready() {
  local answer
  answer=$(ask "$host" "$PORT" 'GET /health/ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n') || return 1
  [[ $answer == HTTP/1.?' 200 '* && $answer == *'"worker":"alive"'* ]]
}

# Starts the child $1 by the command "${@:2}". Its log is a file; the one of the run before is kept beside it.
start() {
  local name=$1
  local log=$DATA_DIR/$name.log
  shift
  if [[ -f $log ]]; then mv -f "$log" "$log.1"; fi
  # `set -m` gives it a process group of its own: Ctrl-C reaches this script alone, which stops the children in order.
  # With a Ctrl-C for all, Redis would be gone before the worker has finished its batch.
  set -m
  NO_COLOR=1 "$@" </dev/null >"$log" 2>&1 &
  set +m
  names+=("$name")
  pids+=("$!")
  printf ' %s' "$!" >>"$DATA_DIR/lock"
}

# (bash itself reports a child that was killed while it waits for another: we say that better.)
pause() { { sleep "$1"; } 2>/dev/null || true; }

show_log() {
  {
    printf '%s\n' "--- the end of $DATA_DIR/$1.log:"
    tail -n 20 "$DATA_DIR/$1.log"
    printf '%s\n' '---'
  } >&2 || true
}

# Leaves the script if it was asked to stop or if a child is gone.
watch() {
  local i status
  [[ -z $stopping ]] || exit 0
  for i in "${!pids[@]}"; do
    kill -0 "${pids[i]}" 2>/dev/null && continue
    status=0
    wait "${pids[i]}" 2>/dev/null || status=$?
    show_log "${names[i]}"
    die "${names[i]} ended by itself with exit code $status"
  done
}

# Waits until the command "${@:2}" succeeds; $1 says what is wrong if it does not in time.
await() {
  local complaint=$1 name within=${START_DEADLINE_S:-60}
  local deadline=$((SECONDS + within)) patience=$((SECONDS + 5))
  shift
  until "$@"; do
    watch
    if ((SECONDS == patience)); then say "Still waiting, for ${within} s at most: logs are in $DATA_DIR" && patience=0; fi
    if ((SECONDS >= deadline)); then
      for name in "${names[@]}"; do show_log "$name"; done
      die "$complaint within $within s"
    fi
    pause 0.2
  done
}

# Ends one child: asks, waits for its own deadline and a little more, then kills it. Fails unless it ended well.
end() {
  local name=$1 pid=$2 status=0
  local deadline=$((SECONDS + ${SHUTDOWN_DEADLINE_S:-10} + 5))
  kill -TERM "$pid" 2>/dev/null || return 0
  while kill -0 "$pid" 2>/dev/null; do
    if ((SECONDS >= deadline)); then kill -KILL "$pid" 2>/dev/null || true; fi
    pause 0.1
  done
  wait "$pid" 2>/dev/null || status=$?
  # 143: it had not yet come to the point where it handles the signal.
  if ((status == 143)); then status=0; fi
  ((status == 0)) || say "$name ended with exit code $status: see $DATA_DIR/$name.log"
  return "$status"
}

# Ends the children in reverse order, so that each can finish its work while what it needs still runs.
end_all() {
  local status=$? i
  trap '' INT TERM HUP
  ((${#pids[@]} == 0)) || say 'Stopping'
  for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
    end "${names[i]}" "${pids[i]}" || status=1
  done
  exit "$status"
}

if [[ -f .env ]]; then read_dotenv; fi
DATA_DIR=${DATA_DIR:-.data}
PROFILE=${PROFILE:-dev}
REDIS_PORT=${REDIS_PORT:-6390}
export GATEWAY_LISTEN=${GATEWAY_LISTEN:-127.0.0.1:${PORT:-5000}}
PORT=${GATEWAY_LISTEN##*:}
host=${GATEWAY_LISTEN%:*}
listens_on=$host
host=${host#[} && host=${host%]}
# Who listens on every address is reached at any.
case $host in '' | '*' | 0.0.0.0 | ::) host=127.0.0.1 ;; esac
for port in "$PORT" "$REDIS_PORT"; do
  if ! [[ $port =~ ^[1-9][0-9]{0,4}$ ]] || ((port > 65535)); then die "'$port' is not a port: give a number up to 65535"; fi
done
own_redis=
if [[ -z ${REDIS_URL-} ]]; then
  own_redis=1
fi
export DATABASE_URL=${DATABASE_URL:-sqlite://$DATA_DIR/roomcast.db}
export CREATE_DATABASE=${CREATE_DATABASE:-true}
export SIGNING_KEY_FILE=${SIGNING_KEY_FILE:-$DATA_DIR/signing.key}

# The services' own defaults are those of a public server. On an address that only this machine reaches, the examples of the
# specification must work as they stand (password "test"), and one address plays all the users.
if [[ $listens_on =~ ^(127\.[0-9.]+|localhost|\[::1\])$ ]]; then
  ease PASSWORD_MIN_LENGTH=4
  ease ALLOW_WEAK_PASSWORDS=true
  ease FIRST_USER_IS_ADMIN=true
  ease REGISTER_PER_ADDRESS=1000
  ease LOGIN_PER_ADDRESS=1000
else
  say "Others can reach $GATEWAY_LISTEN: passwords, limits and rights are those of a public server. An admin is made by 'gateway grant-admin'."
fi
ease ROOMCAST_LOG_FORMAT=text

# Only we may read what is in it. A directory that was there keeps its mode.
[[ -d $DATA_DIR ]] || (umask 077 && mkdir -p "$DATA_DIR")
lock_data_dir
need_port "$host" "$PORT" PORT
if [[ $own_redis ]]; then need_port 127.0.0.1 "$REDIS_PORT" REDIS_PORT; fi

# 9>&-: whatever these leave running (a service, a compiler cache) must not keep our lock.
needs=()
if [[ -z ${BIN_DIR-} ]]; then needs+=(rust); fi
if [[ $own_redis ]]; then needs+=(redis); fi
deploy/install.sh ${needs[@]+"${needs[@]}"} 9>&-
if [[ -z ${BIN_DIR-} ]]; then
  # --workspace: with the features the tests are built with, so that little is built anew after them.
  cargo build --profile "$PROFILE" --workspace --bin gateway --bin fanout-worker 9>&-
  BIN_DIR=${CARGO_TARGET_DIR:-target}/${PROFILE/#dev/debug}
fi

say "Starting. Made easy for trying out, unless you set it otherwise:$eased"
umask 077
trap end_all EXIT
# If whoever reads our output ends first (`make run | tee log` at Ctrl-C), we still have children to stop.
trap '' PIPE
if [[ $own_redis ]]; then
  mkdir -p "$DATA_DIR/redis"
  # A copy: Redis writes into the file it was started with when it is told to (CONFIG REWRITE).
  cp deploy/redis.conf "$DATA_DIR/redis/redis.conf"
  choose_redis_password
  printf 'requirepass %s\n' "$redis_password" >>"$DATA_DIR/redis/redis.conf"
  start redis redis-server "$DATA_DIR/redis/redis.conf" --bind 127.0.0.1 --port "$REDIS_PORT" --dir "$DATA_DIR/redis"
  await 'Redis did not answer' redis_answers
fi
start fanout-worker "$BIN_DIR/fanout-worker"
start gateway "$BIN_DIR/gateway"
await 'gateway and fanout-worker did not become ready' all_ready

say "Ready. Swagger UI, to try every call:"
say
if [[ $host == *:* ]]; then host="[$host]"; fi
say "http://$host:$PORT/"
say
say "Data and logs are in $DATA_DIR and stay there. Ctrl-C stops everything."
while watch; do pause 1; done
