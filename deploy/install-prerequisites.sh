#!/usr/bin/env bash
# Installs what Fabric needs on Debian or Ubuntu besides the .NET SDK. Does nothing where all is there.
#
#   deploy/install-prerequisites.sh            install what is missing
#   deploy/install-prerequisites.sh --postgresql
#                                              also the PostgreSQL server's programs, for 'fabric up' with a server of its own (none is set up or started)
#   deploy/install-prerequisites.sh --tests    also what only the tests need: the same programs, and those that make networks
#   deploy/install-prerequisites.sh --check    only say what is missing; exit 1 if something is (may follow --postgresql or --tests)
#
# Exit 0: everything is there. Exit 1: something is missing and could not be installed; the message holds the command that
# an administrator must run. Never asks for a password.
set -euo pipefail
export LC_ALL=C

# program or file : package
wanted=(
  qemu-system-x86_64:qemu-system-x86
  qemu-img:qemu-utils
  gcc:gcc
  /usr/include/stdio.h:libc6-dev
  cpio:cpio
  stress-ng:stress-ng
  zstd:zstd
  xz:xz-utils
  flock:util-linux
  libxxhash.so.0:libxxhash0
  liblz4.so.1:liblz4-1
  libzstd.so.1:libzstd1
  static-busybox:busybox-static
)

case "${1:-}" in
  --postgresql)
    wanted+=(postgres-server:postgresql)
    shift
    ;;
  --tests)
    wanted+=(postgres-server:postgresql ss:iproute2)
    shift
    ;;
esac
case "${1:-}" in
  "" | --check) ;;
  *)
    echo "prerequisites: '$1' is not understood; the head of $0 lists what is" >&2
    exit 1
    ;;
esac

is_there() {
  case $1 in
    /*) [ -e "$1" ] ;;
    lib*) [[ $libraries == *"$1"* ]] ;;
    postgres-server) compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null ;;
    static-busybox) [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 ;;
    *) command -v "$1" >/dev/null ;;
  esac
}

missing=()
look() {
  missing=()
  local item
  # Read whole, once: a grep -q that finds early ends ldconfig by SIGPIPE, which pipefail takes for "not there".
  libraries=$(ldconfig -p 2>/dev/null || /sbin/ldconfig -p 2>/dev/null) || libraries=
  for item in "${wanted[@]}"; do
    is_there "${item%%:*}" || missing+=("${item##*:}")
  done
}

look
[ ${#missing[@]} -gt 0 ] || exit 0
say() { printf 'prerequisites: %s\n' "$*" >&2; }
say "missing: ${missing[*]}"
command="apt-get update && apt-get install -y --no-install-recommends ${missing[*]}"
if [ "${1:-}" = --check ]; then
  say "install with: $command"
  exit 1
fi
if ! command -v apt-get >/dev/null; then
  say "this system has no apt-get: install QEMU (x86), gcc with static libc, busybox (static), cpio, stress-ng, zstd, xz, libxxhash, liblz4 and libzstd (for the tests also the PostgreSQL server and iproute2) with its own tools."
  exit 1
fi
if [ "$(id -u)" = 0 ]; then
  as_root=()
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
  as_root=(sudo -n)
else
  say "you are neither root nor may you use sudo without a password. An administrator must run:"
  say "  $command"
  exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
run() { "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "$@" >>"$log" 2>&1 </dev/null; }
say "installing (this may take some minutes)"
# The lists may be old or absent: try at once, and again after an update. A lock held by another apt is waited for.
wait=(-o DPkg::Lock::Timeout=300)
install() { run apt-get install -y -q --no-install-recommends "${wait[@]}" "$@"; }

# Debian makes and starts a server of its own with the package, unless it is told before: 'fabric up' and the tests start theirs.
no_cluster=/etc/postgresql-common/createcluster.d/fabric.conf
install_all() {
  case " ${missing[*]} " in
    *" postgresql "*)
      install postgresql-common || return 1
      run mkdir -p "${no_cluster%/*}"
      run sh -c 'echo "create_main_cluster = false" >"$0"' "$no_cluster"
      local status=0
      install "${missing[@]}" || status=$?
      run rm -f "$no_cluster"
      return "$status"
      ;;
    *) install "${missing[@]}" ;;
  esac
}
if ! install_all; then
  run apt-get update -q "${wait[@]}" || say "apt-get update failed; going on with the lists that are there"
  install_all || {
    tail -n 15 "$log" >&2
    say "the installation failed (the end of apt's output is above). Run, as root: $command"
    exit 1
  }
fi
look
[ ${#missing[@]} -eq 0 ] || { say "still missing after the installation: ${missing[*]}"; exit 1; }
