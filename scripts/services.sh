# shellcheck shell=bash
# A stack is one private set of PostgreSQL, Redis, RabbitMQ and NATS on loopback, with its own
# ports, data and logs under .dev/<stack>/. This file decides what has to be started, stopped or
# reported; daemons.sh knows how.

SERVICES=(postgres redis rabbitmq nats)
declare -A URL_NAME=(
  [postgres]=DATABASE_URL [redis]=REDIS_URL [rabbitmq]=RABBITMQ_URL [nats]=NATS_URL
)
# RabbitMQ has three: its own, one for the node, one for the node's name service.
declare -A PORTS_OF=(
  [postgres]=postgres [redis]=redis [rabbitmq]='rabbitmq dist epmd' [nats]=nats
)
declare -A PORT MARK
START_DEADLINE=${START_DEADLINE:-120} # seconds; a busy machine may need them, an idle one does not
STOP_DEADLINE=${STOP_DEADLINE:-30}

# --- Opening a stack --------------------------------------------------------------------------

# look_at STACK: sets what the other functions work on, changes nothing.
look_at() {
  STACK=$1 STACK_DIR=$ROOT/.dev/$1
  [[ $STACK =~ ^[a-z][a-z0-9-]{0,15}$ ]] ||
    die "'$STACK' is no name for a stack: lower-case letters, digits and -, at most 16"
  PORT=()
  [[ $(home_of "$ROOT") != "$ROOT" ]] || read_ports
  place_postgres
  mark_daemons "$STACK_DIR"
}

# home_of TREE: the path that the stack in that tree was started under, if any.
home_of() { cat "$1/.dev/$STACK/home" 2>/dev/null || true; }

read_ports() {
  local key value
  [[ -r $STACK_DIR/ports ]] || return 0
  while IFS='=' read -r key value; do
    [[ $value =~ ^[0-9]{4,5}$ ]] && PORT[$key]=$value
  done <"$STACK_DIR/ports"
}

# hold STACK: look_at, and nobody else starts or stops it until this shell ends.
hold() {
  look_at "$1"
  { mkdir -p "$ROOT/.dev" && exec 9>"$STACK_DIR.lock"; } 2>/dev/null ||
    die "cannot write $ROOT/.dev: run this as the owner of the tree"
  flock -w 300 9 || die "another ./dev has held the $STACK services for five minutes"
  { mkdir -p "$STACK_DIR" && chmod 755 "$ROOT/.dev" "$STACK_DIR"; } 2>/dev/null ||
    die "cannot write $STACK_DIR: run this as the owner of the tree"
  adopt
  look_at "$1"
}

# adopt: a tree can be copied or moved with its .dev in it. The copy starts from nothing, since
# the daemons and data it speaks of belong to the original; a moved tree keeps its data, but what
# still runs with the old path has to go.
adopt() {
  local was
  was=$(home_of "$ROOT")
  [[ -n $was ]] || end_orphans
  if [[ -n $was && $was != "$ROOT" && $(home_of "$was") == "$was" ]]; then
    say "this tree is a copy of $was: its $STACK services start from empty data"
    rm -rf "$STACK_DIR"
    mkdir -p "$STACK_DIR"
  elif [[ -n $was && $was != "$ROOT" ]]; then
    read_ports
    [[ $PG_DATA != "$STACK_DIR"/* ]] || PG_DATA=$was/.dev/$STACK/postgres/data
    mark_daemons "$was/.dev/$STACK"
    stop_daemons "${SERVICES[@]}" epmd
  fi
  printf '%s\n' "$ROOT" >"$STACK_DIR/home"
}

# --- URLs -------------------------------------------------------------------------------------

private_url() {
  local port=${PORT[$1]:-}
  [[ -n $port ]] || return 1
  case $1 in
    postgres) printf 'postgres://happening@127.0.0.1:%d/happening' "$port" ;;
    redis) printf 'redis://127.0.0.1:%d' "$port" ;;
    rabbitmq) printf 'amqp://happening:happening@127.0.0.1:%d/%%2f' "$port" ;;
    nats) printf 'nats://127.0.0.1:%d' "$port" ;;
  esac
}

# given SERVICE: the caller named one to use. Our own URL, exported by an earlier
# `eval "$(./dev services status)"`, is not somebody else's service.
given() {
  local name=${URL_NAME[$1]}
  [[ -n ${!name:-} && ${!name} != "$(private_url "$1" || true)" ]]
}

url_of() {
  local name=${URL_NAME[$1]}
  if given "$1"; then printf '%s' "${!name}"; else private_url "$1"; fi
}

# export_stack STACK: the URLs for what we run next.
export_stack() {
  local service
  look_at "$1"
  for service in "${SERVICES[@]}"; do
    export "${URL_NAME[$service]}=$(url_of "$service")"
  done
}

# --- Start ------------------------------------------------------------------------------------

# start_services STACK: returns when every service answers, or ends with one line. Runs in a
# subshell of its caller, so that the lock goes with it.
start_services() {
  local service wanted=() extra=()
  look_at "$1"
  for service in "${SERVICES[@]}"; do
    if given "$service"; then
      connects "$(url_of "$service")" ||
        die "${URL_NAME[$service]} is set, but nothing answers there:" \
          "unset it to use a private $service"
      say "$service: yours, from ${URL_NAME[$service]}"
    else
      wanted+=("$service")
    fi
  done
  # curl is for the examples that `run` prints: nice to have, no reason to stop without it.
  ((EUID != 0)) || ! have apt-get || extra=(curl)
  ensure_installed "${wanted[@]}" "${extra[@]}" toolchain
  hold "$1"
  ((${#wanted[@]} == 0)) || start_daemons "${wanted[@]}"
}

start_daemons() {
  local down=() failed=() service round
  [[ " $* " != *' rabbitmq '* ]] || revive_epmd
  for round in 1 2 3; do
    down=()
    for service in "$@"; do is_up "$service" || down+=("$service"); done
    ((${#down[@]} > 0)) || { say "the $STACK services run"; return 0; }
    choose_ports "${down[@]}"
    start_together "${down[@]}" && return 0
    # Somebody else may have taken a port in between: only then is another round of use.
    ports_lost "${failed[@]}" || break
  done
  explain "${failed[0]}"
}

# is_up SERVICE: our own daemon runs and answers.
is_up() { [[ -n ${PORT[$1]:-} ]] && pid_of "$1" >/dev/null && "$1_answers"; }

# choose_ports SERVICE...: a port once chosen stays, unless somebody else sits on it now.
choose_ports() {
  local service key
  for service in "$@"; do
    pid_of "$service" >/dev/null && continue
    for key in ${PORTS_OF[$service]}; do
      [[ $key == epmd ]] && pid_of epmd >/dev/null && continue
      [[ -n ${PORT[$key]:-} ]] && ! port_taken "${PORT[$key]}" && continue
      PORT[$key]=$(unused_port) || die "no free port between 20000 and 32000"
    done
  done
  for key in "${!PORT[@]}"; do printf '%s=%s\n' "$key" "${PORT[$key]}"; done |
    sort >"$STACK_DIR/ports.new"
  mv "$STACK_DIR/ports.new" "$STACK_DIR/ports"
  mark_daemons "$STACK_DIR"
}

# unused_port: free, and not promised to another of our daemons.
unused_port() {
  local port
  for _ in {1..100}; do
    port=$(free_port) || return 1
    [[ " ${PORT[*]} " == *" $port "* ]] || { printf '%d' "$port"; return 0; }
  done
  return 1
}

ports_lost() {
  local service key
  for service in "$@"; do
    pid_of "$service" >/dev/null && continue
    for key in ${PORTS_OF[$service]}; do
      [[ $key != epmd ]] || ! pid_of epmd >/dev/null || continue
      ! port_taken "${PORT[$key]}" || return 0
    done
  done
  return 1
}

# start_together SERVICE...: all at once; sets `failed`.
start_together() {
  local service
  local -A job=()
  failed=()
  for service in "$@"; do
    start_daemon "$service" &
    job[$service]=$!
  done
  for service in "$@"; do wait "${job[$service]}" || failed+=("$service"); done
  place_postgres # it may just have found its place
  mark_daemons "$STACK_DIR"
  ((${#failed[@]} == 0))
}

start_daemon() {
  local service=$1 child='' began=$EPOCHREALTIME
  child=$(pid_of "$service") || { "${service}_prepare" && "${service}_launch"; } || return 1
  until "${service}_answers"; do
    # A new server has no database of ours, and somebody may have dropped it to start afresh.
    [[ $service != postgres ]] || ! ask_postgres 'create database happening' || continue
    kill -0 "$child" 2>/dev/null || return 1
    ((${EPOCHREALTIME%.*} - ${began%.*} < START_DEADLINE)) || return 1
    sleep 0.05
  done
  good "$service: ready on 127.0.0.1:${PORT[$service]} after $(elapsed "$began" "$EPOCHREALTIME") s"
}

# explain SERVICE: one line that says why it is not there.
explain() {
  local service=$1 log=$STACK_DIR/$1.log pid last
  if pid=$(pid_of "$service"); then
    die "$service (pid $pid) runs, but does not answer on port ${PORT[$service]}:" \
      "./dev services stop $STACK, then start again (log: $log)"
  fi
  last=$(grep -v '^[[:space:]]*$' "$log" 2>/dev/null | tail -n 1) || true
  die "$service did not start: ${last:-no word from it} (log: $log)"
}

# --- Status -----------------------------------------------------------------------------------

# status_services STACK: NAME=value for what answers on stdout, what is down on stderr.
status_services() {
  local service down=0
  find_programs
  look_at "$1"
  for service in "${SERVICES[@]}"; do
    if given "$service" && connects "$(url_of "$service")"; then
      :
    elif ! given "$service" && installed "$service" && is_up "$service"; then
      :
    else
      down=1
      if given "$service"; then
        say "$service is down: nothing answers where ${URL_NAME[$service]} points"
      else
        say "$service is down: ./dev services start $STACK"
      fi
      continue
    fi
    printf '%s=%q\n' "${URL_NAME[$service]}" "$(url_of "$service")"
  done
  return "$down"
}

# --- Stop -------------------------------------------------------------------------------------

stop_services() {
  find_programs
  look_at "$1"
  [[ -d $STACK_DIR ]] || { say "the $STACK services were never started"; return 0; }
  hold "$1"
  stop_daemons "${SERVICES[@]}"
  stop_daemons epmd # after the node that is registered with it
  say "the $STACK services are stopped; their data is kept in .dev/$STACK"
}

# stop_daemons NAME...: asks all, waits for all, and ends by force what outlives the deadline.
stop_daemons() {
  local name pid signal waited=0
  local -A left=()
  for name in "$@"; do
    pid=$(pid_of "$name") || continue
    left[$name]=$pid
    # INT lets PostgreSQL end the sessions of others; TERM would wait for them.
    if [[ $name == postgres ]]; then signal=INT; else signal=TERM; fi
    kill "-$signal" "$pid" 2>/dev/null || true
    kill -CONT "$pid" 2>/dev/null || true # a paused one cannot stop
  done
  while ((${#left[@]} > 0)); do
    for name in "${!left[@]}"; do
      pid_of "$name" >/dev/null || unset "left[$name]"
    done
    if ((++waited > STOP_DEADLINE * 20)); then
      for name in "${!left[@]}"; do
        say "$name (pid ${left[$name]}) does not stop: killed"
        kill -KILL "${left[$name]}" 2>/dev/null || true
      done
      return 0
    fi
    ((${#left[@]} == 0)) || sleep 0.05
  done
}
