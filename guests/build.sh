#!/usr/bin/env bash
# Builds what the test guests boot from: a kernel and two initramfs images, out of packages of the distribution, without root.
#
#   guests/build.sh [CACHE_DIR]      default: ${XDG_CACHE_HOME:-$HOME/.cache}/fabric/guests
#
# Prints one line on stdout:  kernel=PATH initrd=PATH initrd_stress=PATH     (talk goes to stderr)
# Exit 0: the files are there. Exit 1: something is missing; the message says what, and what to do.
#
# A result is keyed by the content of everything that goes into it and appears by one rename, so a killed or a concurrent
# run leaves nothing half done. The kernel is kept apart: once fetched, no network and no package manager is needed.
#   FABRIC_GUEST_REFRESH=1     fetch the distribution's newest kernel again
#   FABRIC_GUEST_SOURCE_KERNEL=FILE FABRIC_GUEST_SOURCE_MODULES=DIR    use this kernel and this lib/modules/VERSION instead
set -euo pipefail
export LC_ALL=C
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cache=${1:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/fabric/guests}

say() { printf 'guests: %s\n' "$*" >&2; }
fail() { say "$1"; shift; for line in "$@"; do say "  $line"; done; exit 1; }

case $cache in
  *[,\ ]*) fail "the cache directory '$cache' holds a comma or a space, which QEMU's options cannot carry." "Give another: guests/build.sh DIR" ;;
esac
mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || fail "cannot write to '$cache'." "Give another directory: guests/build.sh DIR"
cache=$(cd "$cache" && pwd)

# Everything below belongs to one run at a time; the lock ends with the process.
exec 9>"$cache/.lock"
flock -w 600 9 || fail "another guests/build.sh has held $cache/.lock for ten minutes." "Look for it with: fuser $cache/.lock"

work=
cleanup() { [ -z "$work" ] || rm -rf "$work"; }
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
work=$(mktemp -d "$cache/.work.XXXXXX")

# --- the tools -------------------------------------------------------------------------------------------------------
missing=()
for tool in gcc:gcc cpio:cpio gzip:gzip sha256sum:coreutils; do
  command -v "${tool%%:*}" >/dev/null || missing+=("${tool##*:}")
done
busybox=$(command -v busybox || true)
# The guest has no shared libraries: a dynamically linked busybox is of no use.
if [ -z "$busybox" ] || ldd "$busybox" >/dev/null 2>&1; then
  busybox=
  [ -x /bin/busybox ] && ! ldd /bin/busybox >/dev/null 2>&1 && busybox=/bin/busybox
fi
[ -n "$busybox" ] || missing+=(busybox-static)
printf 'int main(void){return 0;}' >"$work/probe.c"
if command -v gcc >/dev/null && ! gcc -static -pthread -o "$work/probe" "$work/probe.c" 2>/dev/null; then
  missing+=(libc6-dev)
fi
[ ${#missing[@]} -eq 0 ] || fail "missing: ${missing[*]}." "Run: deploy/install-prerequisites.sh" "or, as root: apt-get install ${missing[*]}"
stress=$(command -v stress-ng || true)

# --- the kernel ------------------------------------------------------------------------------------------------------
kernel_package() {
  local meta image
  for meta in linux-image-cloud-amd64 linux-image-virtual linux-image-amd64 linux-image-generic; do
    image=$(apt-cache depends "$meta" 2>/dev/null | awk '/Depends: linux-image-[0-9]/{print $2; exit}')
    [ -z "$image" ] || { printf '%s\n' "$image"; return; }
  done
}

fetch_kernel() {
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    fail "this system has no apt-get and dpkg to fetch a guest kernel with." \
      "Give one: FABRIC_GUEST_SOURCE_KERNEL=/boot/vmlinuz-VERSION FABRIC_GUEST_SOURCE_MODULES=/lib/modules/VERSION guests/build.sh"
  local image version modules
  image=$(kernel_package)
  [ -n "$image" ] || fail "apt knows no kernel package: its lists are empty or old." "Run, as root: apt-get update"
  version=${image#linux-image-}
  version=${version#unsigned-}
  modules=$(apt-cache show "linux-modules-$version" >/dev/null 2>&1 && echo "linux-modules-$version" || true)
  say "fetching $image${modules:+ and $modules}"
  mkdir "$work/deb" "$work/tree"
  # The download's own privilege drop needs a world-readable directory; as root in a private one it only warns.
  # shellcheck disable=SC2086
  (cd "$work/deb" && apt-get download -q $image $modules >"$work/apt.log" 2>&1 </dev/null) || {
    sed 's/^/guests:   /' "$work/apt.log" >&2
    fail "cannot download $image." "Is there a network? Are the lists fresh? As root: apt-get update"
  }
  for package in "$work"/deb/*.deb; do dpkg -x "$package" "$work/tree"; done
  collect_kernel "$work/tree/boot/vmlinuz-$version" "$(modules_of "$work/tree" "$version")" "$version"
}

modules_of() { for d in "$1/lib/modules/$2" "$1/usr/lib/modules/$2"; do [ ! -d "$d" ] || { printf '%s\n' "$d"; return; }; done; }

unpacked() { # FILE: the module's content, whatever it was compressed with
  case $1 in
    *.zst) zstd -dcq "$1" ;;
    *.xz) xz -dc "$1" ;;
    *.gz) gzip -dc "$1" ;;
    *) cat "$1" ;;
  esac
}

# Copies NAME and, before it, what it depends on (the module says so itself) to OUT; appends the order to OUT/GROUP.list.
collect_module() { # MODULES OUT GROUP NAME
  local file need dependency
  grep -qx "$4" "$2/$3.list" 2>/dev/null && return
  file=$(find "$1/kernel" \( -name "$4.ko*" -o -name "${4//_/-}.ko*" \) 2>/dev/null | head -n1)
  [ -n "$file" ] || return 0 # built into the kernel
  unpacked "$file" >"$2/$4.ko" || fail "cannot unpack $file." "Install zstd and xz-utils"
  need=$(tr '\0' '\n' <"$2/$4.ko" | sed -n 's/^depends=//p' | head -n1)
  for dependency in ${need//,/ }; do collect_module "$1" "$2" "$3" "${dependency//-/_}"; done
  printf '%s\n' "$4" >>"$2/$3.list"
}

collect_kernel() { # VMLINUZ MODULES NAME
  [ -r "$1" ] || fail "cannot read the kernel $1." "On some systems /boot is for root only: copy the file, or let apt fetch a kernel"
  [ -d "$2" ] || fail "the kernel's modules are not at '$2'."
  local out="$work/kernel" group
  mkdir -p "$out/mod"
  for group in virtio_pci virtio_balloon virtio_blk virtio_net; do collect_module "$2" "$out/mod" "$group" "$group"; done
  for group in virtio_pci virtio_balloon virtio_blk virtio_net; do
    [ -f "$out/mod/$group.list" ] || grep -q "/$group\.ko" "$2/modules.builtin" ||
      fail "this kernel has no $group, neither as a module nor built in." "Use a distribution kernel for virtual machines"
  done
  cp "$1" "$out/vmlinuz"
  rm -rf "$cache/kernel-$3"
  mv "$out" "$cache/kernel-$3"
}

if [ -n "${FABRIC_GUEST_SOURCE_KERNEL:-}" ]; then
  name=own-$(sha256sum "$FABRIC_GUEST_SOURCE_KERNEL" | cut -c1-16)
  [ -d "$cache/kernel-$name" ] || collect_kernel "$FABRIC_GUEST_SOURCE_KERNEL" "${FABRIC_GUEST_SOURCE_MODULES:?give the directory lib/modules/VERSION of that kernel}" "$name"
  kernel="$cache/kernel-$name"
else
  newest() { find "$cache" -maxdepth 1 -type d -name 'kernel-*' ! -name 'kernel-own-*' | sort -V | tail -n1; }
  kernel=$(newest)
  if [ -z "$kernel" ] || [ -n "${FABRIC_GUEST_REFRESH:-}" ]; then
    fetch_kernel
    kernel=$(newest)
  fi
fi

# --- the images ------------------------------------------------------------------------------------------------------
key=$({ cat "$here/build.sh" "$here/init" "$here"/src/*; sha256sum "$busybox" ${stress:+"$stress"} "$kernel"/vmlinuz "$kernel"/mod/* | cut -d' ' -f1; } |
  sha256sum | cut -c1-24)
out="$cache/$key"

pack() { # DIRECTORY FILE: same content, same bytes
  (cd "$1" && find . -exec touch -hd @0 {} + && find . -print0 | sort -z | cpio --null --quiet --reproducible -R 0:0 -o -H newc) | gzip -1n >"$2"
}

if [ ! -f "$out/initrd.gz" ]; then
  say "building the initramfs"
  root="$work/root"
  mkdir -p "$root"/{bin,proc,sys,dev,tmp,mod,usr/bin} "$work/result"
  cp "$busybox" "$root/bin/busybox"
  ln -s busybox "$root/bin/sh"
  cp "$kernel"/mod/* "$root/mod/" 2>/dev/null || true
  install -m 0755 "$here/init" "$root/init"
  gcc -O2 -Wall -Wextra -static -pthread -o "$root/bin/fabric-guest" "$here"/src/*.c ||
    fail "the guest program does not compile." "The messages are above; the sources are in guests/src"
  strip "$root/bin/fabric-guest" 2>/dev/null || true
  pack "$root" "$work/result/initrd.gz"
  if [ -n "$stress" ]; then
    # stress-ng brings some 30 MB of libraries: an image of its own, so that other guests stay small and boot fast.
    cp -L "$stress" "$root/usr/bin/stress-ng"
    ldd "$stress" | grep -o '/[^ ]*' | sort -u | while read -r library; do
      mkdir -p "$root$(dirname "$library")"
      cp -L "$library" "$root$library"
    done
    pack "$root" "$work/result/initrd-stress.gz"
  else
    say "stress-ng is not installed: no image for the stress-ng workload (deploy/install-prerequisites.sh brings it)"
  fi
  cp "$kernel/vmlinuz" "$work/result/vmlinuz"
  chmod -R a+rX "$work/result"
  rm -rf "$out"
  mv "$work/result" "$out"
  # Older results are removed a week after their last use, never while a guest may still be booting from them.
  find "$cache" -maxdepth 1 -type d -regextype posix-extended -regex '.*/[0-9a-f]{24}' ! -path "$out" -mtime +7 -exec rm -rf {} + || true
fi
touch "$out"
line="kernel=$out/vmlinuz initrd=$out/initrd.gz"
[ ! -f "$out/initrd-stress.gz" ] || line+=" initrd_stress=$out/initrd-stress.gz"
printf '%s\n' "$line"
