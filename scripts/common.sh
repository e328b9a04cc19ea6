# shellcheck shell=bash
# Words, probes and ports: what every other script needs. Sourced by ./dev, never run by itself.

if [[ -t 2 && -z ${NO_COLOR:-} && ${TERM:-dumb} != dumb ]]; then
  BOLD=$'\e[1m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
  BOLD='' GREEN='' RED='' PLAIN=''
fi

# All talk goes to stderr; stdout is kept for what programs read.
say() { printf '%s\n' "$*" >&2; }
good() { printf '%s%s%s\n' "$GREEN" "$*" "$PLAIN" >&2; }
die() {
  printf '%sdev: %s%s\n' "$RED" "$*" "$PLAIN" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# Seconds with one decimal between two values of $EPOCHREALTIME.
elapsed() {
  local from=${1//[!0-9]/} to=${2//[!0-9]/} tenths
  tenths=$(((to - from) / 100000))
  printf '%d.%d' $((tenths / 10)) $((tenths % 10))
}

# port_taken PORT: somebody listens on it, on any address of this machine.
port_taken() {
  local wanted listening
  printf -v wanted '%04X' "$1"
  listening=$(awk '$4 == "0A" { n = split($2, at, ":"); print at[n] }' \
    /proc/net/tcp /proc/net/tcp6 2>/dev/null) || true
  [[ $'\n'$listening$'\n' == *$'\n'$wanted$'\n'* ]]
}

# free_port: prints one that nobody listens on. Below the range from which the kernel takes the
# ports of outgoing connections, so that none of those sits on it when a daemon is restarted.
free_port() {
  local port
  for _ in {1..1000}; do
    port=$((20000 + (RANDOM * 32768 + RANDOM) % 12000))
    port_taken "$port" || { printf '%d' "$port"; return 0; }
  done
  return 1
}

# ask HOST PORT GREETING: sends the greeting (printf escapes), prints the first bytes of the
# answer as hex. Bounded, because a daemon that hangs accepts and then says nothing.
ask() {
  # shellcheck disable=SC2016 # the inner shell expands these
  LC_ALL=C timeout 3 bash -c '
    exec 3<>"/dev/tcp/$0/$1" || exit 1
    printf "$2" >&3
    head -c 7 <&3 | od -An -tx1 | tr -d " \n"' "$@" 2>/dev/null
}

# connects URL: something accepts connections where the URL points. A URL without a host and a
# port (a Unix socket, several hosts) cannot be probed from a shell and counts as answering.
connects() {
  local url=$1 rest host port
  rest=${url#*://}
  [[ $rest != "$url" ]] || return 0
  rest=${rest%%[/?#]*}
  rest=${rest##*@}
  [[ -n $rest && $rest != *,* ]] || return 0
  if [[ $rest =~ ^\[(.*)\](:([0-9]+))?$ ]]; then
    host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]}
  elif [[ $rest =~ ^([^:]+)(:([0-9]+))?$ ]]; then
    host=${BASH_REMATCH[1]} port=${BASH_REMATCH[3]}
  else
    return 1
  fi
  if [[ -z $port ]]; then
    case $url in
      postgres*) port=5432 ;;
      redis*) port=6379 ;;
      amqps*) port=5671 ;;
      amqp*) port=5672 ;;
      *) port=4222 ;;
    esac
  fi
  # shellcheck disable=SC2016 # the inner shell expands these
  timeout 3 bash -c 'exec 3<>"/dev/tcp/$0/$1"' "$host" "$port" 2>/dev/null
}
