# shellcheck shell=bash
# Finds the programs we need and, where apt is at hand, installs the ones that are missing.

# The packages a service comes from; `toolchain` is what cargo needs to link.
declare -A PACKAGES=(
  [postgres]=postgresql-15
  [redis]=redis-server
  [rabbitmq]=rabbitmq-server
  [nats]=nats-server
  [node]=nodejs
  [chromedriver]=chromium-driver
)

# find_programs: sets the variables below to what is there, to nothing if it is not. A caller
# (a test, an unusual system) may set any of them beforehand.
find_programs() {
  local dir
  if [[ -z ${PG_BIN:-} ]]; then
    PG_BIN=''
    while read -r dir; do
      [[ -x $dir/initdb && -x $dir/postgres && -x $dir/psql ]] && PG_BIN=$dir
    done < <(compgen -G '/usr/lib/postgresql/*/bin' | sort -V)
    [[ -n $PG_BIN ]] || ! have initdb || PG_BIN=$(dirname "$(command -v initdb)")
  fi
  # The rabbitmq-server on the PATH switches to the user rabbitmq; the packaged script does not.
  for dir in /usr/lib/rabbitmq/bin /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin; do
    [[ -x $dir/rabbitmq-server && -x $dir/rabbitmqctl ]] || continue
    RABBITMQ_SERVER=${RABBITMQ_SERVER:-$dir/rabbitmq-server}
    RABBITMQCTL=${RABBITMQCTL:-$dir/rabbitmqctl}
  done
  RABBITMQ_SERVER=${RABBITMQ_SERVER:-}
  RABBITMQCTL=${RABBITMQCTL:-}
  REDIS_SERVER=${REDIS_SERVER:-$(command -v redis-server || true)}
  NATS_SERVER=${NATS_SERVER:-$(command -v nats-server || true)}
  EPMD=$(command -v epmd || true)
  PGBENCH=${PGBENCH:-$(command -v "${PG_BIN:-/nowhere}/pgbench" || command -v pgbench || true)}
}

# installed SERVICE|TOOL
installed() {
  case $1 in
    postgres) [[ -x $PG_BIN/initdb && -x $PG_BIN/postgres && -x $PG_BIN/psql ]] ;;
    redis) [[ -x $REDIS_SERVER ]] ;;
    rabbitmq) [[ -x $RABBITMQ_SERVER && -x $EPMD ]] ;;
    nats) [[ -x $NATS_SERVER ]] ;;
    toolchain) have cc && cc_links ;;
    *) have "$1" ;;
  esac
}

# A compiler without its headers is as good as none.
cc_links() {
  printf '#include <stdio.h>\nint main(void) { return 0; }\n' |
    cc -x c -o /dev/null - >/dev/null 2>&1
}

# missing_packages NEED...: the packages that provide what is not there, on one line.
missing_packages() {
  local need list=()
  for need in "$@"; do
    installed "$need" && continue
    case $need in
      toolchain) list+=(gcc libc6-dev pkg-config) ;;
      *) list+=("${PACKAGES[$need]:-$need}") ;;
    esac
  done
  printf '%s' "${list[*]}"
}

# ensure_installed NEED...: returns when all of it is there, or ends the script with one line.
ensure_installed() {
  local packages
  find_programs
  packages=$(missing_packages "$@")
  [[ -n $packages ]] || return 0

  have apt-get || die "missing: $packages. There is no apt-get here: install them by hand" \
    "(PostgreSQL 15+, Redis 7+, RabbitMQ 3.10+, NATS 2.9+, a C compiler), point" \
    "DATABASE_URL, REDIS_URL, RABBITMQ_URL and NATS_URL at running ones, or: docker compose up"

  # Two calls at once: the second waits here, then looks again and finds it done.
  { mkdir -p "$ROOT/.dev" && exec 8>"$ROOT/.dev/install.lock"; } 2>/dev/null ||
    die "cannot write $ROOT/.dev: run this as the owner of the tree"
  flock -w 900 8 || die "another ./dev has been installing packages for 15 minutes: look at it"
  find_programs
  packages=$(missing_packages "$@")
  [[ -z $packages ]] || install_packages "$packages"
  exec 8>&-

  find_programs
  packages=$(missing_packages "$@")
  [[ -z $packages ]] || die "installed, but still not found: $packages (log: $INSTALL_LOG)"
}

install_packages() {
  local by_hand why names
  read -ra names <<<"$1"
  by_hand="apt-get update && apt-get install -y --no-install-recommends $1"
  INSTALL_LOG=$ROOT/.dev/install.log
  AS_ROOT=()
  if ((EUID != 0)); then
    { have sudo && sudo -n true 2>/dev/null; } || die "missing: $1. Run once as root: $by_hand"
    AS_ROOT=(sudo -n)
  fi
  say "installing $1 (log: .dev/install.log)"
  keep_daemons_stopped
  # The lists may be old or absent: refresh them only if the first try fails.
  apt_install "${names[@]}" >"$INSTALL_LOG" 2>&1 || {
    apt_update
    apt_install "${names[@]}"
  } >>"$INSTALL_LOG" 2>&1 || {
    let_daemons_start
    why=$(grep -m 1 -oE '(Temporary failure|Could not (resolve|connect|get)).*' "$INSTALL_LOG") ||
      why=$(grep '^E: ' "$INSTALL_LOG" | tail -n 1) || why='see .dev/install.log'
    die "could not install $1 ($why). By hand: $by_hand"
  }
  let_daemons_start
  stay_out_of_the_boot "${names[@]}"
}

apt_get() {
  "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 \
    apt-get -q -o DPkg::Lock::Timeout=300 "$@" </dev/null 8>&-
}

apt_install() {
  apt_get install -y --no-install-recommends "$@" && return
  # Ubuntu has other versions of PostgreSQL than Debian 12: take the one it calls its own.
  [[ " $* " == *" postgresql-15 "* ]] || return
  ! apt-cache show postgresql-15 >/dev/null 2>&1 || return
  apt_get install -y --no-install-recommends "${@/#postgresql-15/postgresql}"
}

apt_update() {
  # Somebody else may be reading the lists at this moment, and apt does not wait for that lock.
  for _ in 1 2 3; do
    apt_get update && return
    sleep 3
  done
}

# The packages bring system daemons on the default ports. We only want the programs, so for as
# long as this script runs, and not a moment longer, Debian's policy hook says "do not start".
POLICY=/usr/sbin/policy-rc.d
keep_daemons_stopped() {
  [[ ! -e $POLICY ]] || return 0
  "${AS_ROOT[@]}" tee "$POLICY" >/dev/null <<SCRIPT
#!/bin/sh
# Put here by happening's ./dev while it installs; removes itself if that call was killed.
[ -d /proc/$$ ] && exit 101
rm -f "\$0"
exit 0
SCRIPT
  "${AS_ROOT[@]}" chmod 755 "$POLICY"
}
let_daemons_start() {
  ! grep -qs "happening's ./dev" "$POLICY" || "${AS_ROOT[@]}" rm -f "$POLICY"
}

# Nor shall what we installed for ourselves start with the machine.
stay_out_of_the_boot() {
  [[ -d /run/systemd/system ]] || return 0
  local package
  for package in "$@"; do
    case $package in
      postgresql* | redis-server | rabbitmq-server | nats-server)
        "${AS_ROOT[@]}" systemctl disable --quiet "${package%-15}" >>"$INSTALL_LOG" 2>&1 || true
        ;;
    esac
  done
}

# node_packages FOLDER: what its lock file lists is there. Needs a network the first time only.
node_packages() {
  local folder=$1
  ensure_installed node npm
  cmp -s "$folder/package-lock.json" "$folder/node_modules/.happening-lock" && return
  say "installing the packages of $folder (log: .dev/npm.log)"
  mkdir -p "$ROOT/.dev"
  (cd "$folder" && npm ci --ignore-scripts) >"$ROOT/.dev/npm.log" 2>&1 ||
    die "npm ci failed in $folder ($(grep -m 1 'npm error' "$ROOT/.dev/npm.log" || echo 'see .dev/npm.log'))"
  cp "$folder/package-lock.json" "$folder/node_modules/.happening-lock"
}

# need_cargo: Rust is the one thing we do not install for you.
need_cargo() {
  have cargo || PATH=$PATH:${CARGO_HOME:-$HOME/.cargo}/bin
  have cargo || die "missing: cargo. Install Rust 1.95 or newer from https://rustup.rs:" \
    "curl --proto '=https' -sSf https://sh.rustup.rs | sh -s -- -y"
}
