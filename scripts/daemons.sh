# shellcheck shell=bash
# The four daemons, one section each: how it is prepared, launched, asked and recognised.
# Every function here works on the stack that services.sh has opened: STACK, STACK_DIR, PORT.

# spawn NAME COMMAND...: a daemon of its own session, so that Ctrl-C in ./dev does not reach it.
# It notes its pid before it becomes the daemon, so none is ever lost sight of.
spawn() {
  local name=$1 log=$STACK_DIR/$1.log
  shift
  [[ ! -f $log || $(stat -c %s "$log") -lt 10000000 ]] || mv -f "$log" "$log.old"
  (
    printf '%d\n' "$BASHPID" >"$STACK_DIR/$name.pid"
    cd /
    exec setsid "$@" </dev/null >>"$log" 2>&1 9>&-
  ) &
  child=$!
}

# mark_daemons DIR: the words by which the command line of a daemon of the stack in DIR is told
# from any other process, for a pid in a file may by now be somebody else's.
mark_daemons() {
  local id
  id=$(printf '%s' "$1" | cksum | cut -d ' ' -f 1)
  MARK[postgres]="-D $PG_DATA "
  MARK[redis]="--dir $1/redis "
  MARK[rabbitmq]="-happening_stack $id "
  MARK[nats]="-sd $1/nats "
  MARK[epmd]="epmd-of-$id "
  STACK_ID=$id
}

# pid_of NAME: prints the pid if the daemon we started still runs. A zombie has no words.
pid_of() {
  local pid words
  { read -r pid <"$STACK_DIR/$1.pid"; } 2>/dev/null || return 1
  [[ $pid =~ ^[0-9]+$ ]] || return 1
  { words=$(tr '\0' ' ' <"/proc/$pid/cmdline"); } 2>/dev/null || return 1
  [[ $words == *"${MARK[$1]}"* ]] || return 1
  printf '%d' "$pid"
}

# end_orphans: somebody removed .dev (git clean, a fresh clone in the same place) while its daemons
# ran. They hold memory and nothing else any more. A container may know the same path: leave it.
end_orphans() {
  local process name words
  for process in /proc/[0-9]*; do
    [[ $process/root -ef / ]] || continue
    { words=$(tr '\0' ' ' <"$process/cmdline"); } 2>/dev/null || continue
    for name in "${!MARK[@]}"; do
      [[ $words != *"${MARK[$name]}"* ]] || kill -TERM "${process#/proc/}" 2>/dev/null || true
    done
  done
}

# Only the test stack may lose what it was told: its data is thrown away anyway.
durable() { [[ $STACK != test* ]]; }

# --- PostgreSQL ------------------------------------------------------------------------------

# It refuses to run as root; then it runs as its package's own user.
as_postgres() {
  local become=()
  if ((EUID == 0)); then
    become=(setpriv --reuid=postgres --regid=postgres --clear-groups)
  fi
  AS_POSTGRES=("${become[@]}" env -i "PATH=$PG_BIN:$PATH" LC_ALL=C.UTF-8 TZ=UTC)
  (($# == 0)) || (cd / && "${AS_POSTGRES[@]}" "$@")
}

# place_postgres: sets PG_DATA. Normally inside the stack; where the user postgres may not go
# there (a tree below /root), in a private directory elsewhere, which the stack remembers.
place_postgres() {
  local note=$STACK_DIR/postgres.home home=''
  [[ ! -r $note ]] || home=$(<"$note")
  [[ -n $home && -d $home ]] || home=$STACK_DIR/postgres
  PG_DATA=$home/data
}

make_postgres_home() {
  local base home=${PG_DATA%/data}
  if [[ $home == "$STACK_DIR/postgres" ]] && ! as_postgres test -x "$STACK_DIR/."; then
    for base in "${TMPDIR:-/var/tmp}" /var/tmp /tmp; do
      as_postgres test -x "$base/." && home=$(mktemp -d "$base/happening-XXXXXXXX") && break
    done
    [[ $home != "$STACK_DIR/postgres" ]] || return 1
    printf '%s\n' "$home" >"$STACK_DIR/postgres.home"
    PG_DATA=$home/data
    mark_daemons "$STACK_DIR"
  fi
  mkdir -p "$home" && chmod 700 "$home" || return 1
  ((EUID != 0)) || chown postgres: "$home"
}

postgres_prepare() {
  local making quick=()
  make_postgres_home || return 1
  making=$PG_DATA.making
  if [[ ! -f $PG_DATA/PG_VERSION ]]; then
    # Made aside and moved into place whole, so an interrupted initdb leaves nothing half done.
    rm -rf "$making" "$PG_DATA"
    durable || quick=(--no-sync)
    as_postgres initdb -D "$making" -U happening -A trust -E UTF8 --locale=C.UTF-8 "${quick[@]}" \
      </dev/null >>"$STACK_DIR/postgres.log" 2>&1 9>&- || return 1
    mv "$making" "$PG_DATA" || return 1
  fi
  forget_dead_postmaster
}

# After kill -9 the lock file stays, and busy sessions outlive their server for a while: wait
# until nobody is attached to the old shared memory. PostgreSQL then copes with the file, unless
# the pid in it is taken again (or a zombie); only then do we remove it.
forget_dead_postmaster() {
  local lock=$PG_DATA/postmaster.pid pid shm waited
  [[ -f $lock ]] || return 0
  pid=$(sed -n 1p "$lock")
  shm=$(sed -n 7p "$lock" | awk '{ print $2 }')
  for ((waited = 0; waited < START_DEADLINE * 20; waited++)); do
    [[ -n $shm && -r /proc/sysvipc/shm ]] || break
    awk -v id="$shm" '$2 == id && $7 > 0 { found = 1 } END { exit !found }' /proc/sysvipc/shm ||
      break
    sleep 0.05
  done
  [[ ! -d /proc/$pid ]] || rm -f "$lock"
}

postgres_launch() {
  local settings=(
    listen_addresses=127.0.0.1 unix_socket_directories= timezone=UTC log_timezone=UTC
    max_wal_size=4GB
  )
  if durable; then
    settings+=(fsync=on synchronous_commit=on max_connections=400 shared_buffers=256MB)
  else
    settings+=(fsync=off synchronous_commit=off full_page_writes=off max_connections=400)
  fi
  as_postgres
  spawn postgres "${AS_POSTGRES[@]}" "$PG_BIN/postgres" -D "$PG_DATA" -p "${PORT[postgres]}" \
    "${settings[@]/#/--}"
}

ask_postgres() {
  env -i PATH="$PATH" PGCONNECT_TIMEOUT=3 "$PG_BIN/psql" -X -A -t -q -w -h 127.0.0.1 \
    -p "${PORT[postgres]}" -U happening -d postgres -c "$1" 2>/dev/null </dev/null
}

postgres_answers() {
  local found
  found=$(ask_postgres "select 1 from pg_database where datname = 'happening'") || return 1
  [[ $found == 1 ]]
}

# --- Redis -----------------------------------------------------------------------------------

redis_prepare() { mkdir -p "$STACK_DIR/redis"; }

redis_launch() {
  local keep=no
  ! durable || keep=yes
  # --set-proc-title no: keeps the words we know it by.
  spawn redis "$REDIS_SERVER" --bind 127.0.0.1 --port "${PORT[redis]}" --set-proc-title no \
    --maxmemory-policy noeviction --appendonly "$keep" --appendfsync everysec --save '' \
    --daemonize no --dir "$STACK_DIR/redis" --databases 16
}

redis_answers() { [[ $(ask 127.0.0.1 "${PORT[redis]}" 'PING\r\n') == 2b504f4e47* ]]; } # +PONG

# --- RabbitMQ --------------------------------------------------------------------------------

# Own home (cookie), node name, distribution port and epmd, so that any number of nodes can
# live side by side; no plugins, so nothing listens but AMQP, on loopback.
rabbitmq_prepare() {
  local dir=$STACK_DIR/rabbitmq schedulers erl_args
  [[ -f $dir/born ]] || rm -rf "$dir" # never answered yet: perhaps killed while it was made
  mkdir -p "$dir/home" "$dir/log" "$dir/mnesia" || return 1
  schedulers=$(nproc)
  schedulers=$((schedulers < 2 ? 2 : schedulers > 8 ? 8 : schedulers))
  erl_args="+S $schedulers:$schedulers +sbwt none -happening_stack $STACK_ID"
  erl_args+=' -kernel inet_dist_use_interface {127,0,0,1}'
  printf '[].\n' >"$dir/plugins"
  cat >"$dir/rabbitmq.conf" <<CONF
listeners.tcp.1 = 127.0.0.1:${PORT[rabbitmq]}
default_user = happening
default_pass = happening
vm_memory_high_watermark.absolute = 1GB
disk_free_limit.absolute = 50MB
log.console = true
log.console.level = warning
log.file = false
CONF
  {
    printf 'export %s=%q\n' \
      HOME "$dir/home" \
      RABBITMQ_NODENAME "happening-$STACK@localhost" \
      RABBITMQ_NODE_IP_ADDRESS 127.0.0.1 \
      RABBITMQ_NODE_PORT "${PORT[rabbitmq]}" \
      RABBITMQ_DIST_PORT "${PORT[dist]}" \
      ERL_EPMD_PORT "${PORT[epmd]}" \
      ERL_EPMD_ADDRESS 127.0.0.1 \
      RABBITMQ_MNESIA_BASE "$dir/mnesia" \
      RABBITMQ_LOG_BASE "$dir/log" \
      RABBITMQ_PID_FILE "$dir/pid" \
      RABBITMQ_ENABLED_PLUGINS_FILE "$dir/plugins" \
      RABBITMQ_CONFIG_FILE "$dir/rabbitmq.conf" \
      RABBITMQ_CONF_ENV_FILE /dev/null
    printf 'export RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=%q\n' \
      "$erl_args"
  } >"$dir/env"
}

start_epmd() {
  # Under a name of ours: it takes no other mark.
  # shellcheck disable=SC2016 # the inner shell expands these
  spawn epmd bash -c 'exec -a "$0" "$@"' "epmd-of-$STACK_ID" \
    "$EPMD" -address 127.0.0.1 -port "${PORT[epmd]}"
}

# revive_epmd: a node that lost its name service works on, but rabbitmqctl does not find it. It
# registers again by itself.
revive_epmd() {
  pid_of epmd >/dev/null || ! pid_of rabbitmq >/dev/null || start_epmd
}

rabbitmq_launch() {
  pid_of epmd >/dev/null || start_epmd
  # RUNNING_UNDER_SYSTEMD: the script becomes the node instead of guarding it, so our pid is it.
  # shellcheck disable=SC2016 # the inner shell expands these
  spawn rabbitmq bash -c '. "$0" && RUNNING_UNDER_SYSTEMD=1 exec "$1"' \
    "$STACK_DIR/rabbitmq/env" "$RABBITMQ_SERVER"
}

rabbitmq_answers() {
  # It greets with a method frame on channel 0.
  [[ $(ask 127.0.0.1 "${PORT[rabbitmq]}" 'AMQP\0\0\11\1') == 010000* ]] || return 1
  [[ -f $STACK_DIR/rabbitmq/born ]] || : >"$STACK_DIR/rabbitmq/born"
}

# --- NATS ------------------------------------------------------------------------------------

nats_prepare() { mkdir -p "$STACK_DIR/nats"; }

nats_launch() {
  spawn nats "$NATS_SERVER" -a 127.0.0.1 -p "${PORT[nats]}" -js -sd "$STACK_DIR/nats" \
    --name happening
}

nats_answers() { [[ $(ask 127.0.0.1 "${PORT[nats]}" '') == 494e464f* ]]; } # INFO
