#!/usr/bin/env bash
# See that the programs which some tests drive are here. Where apt-get may be used without asking (root, or sudo that needs no
# password) the missing ones are installed; elsewhere one line per program says so, and the tests that need it skip.
#
#   SYSTEM=0  never install
#   STRICT=1  a program still missing at the end is an error (CI)
set -u
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin

# program, Debian package, what it is for
tools='
gcc gcc,libc6-dev stand-in driver libraries
git git tests of the tree itself
fsfreeze util-linux a child in uninterruptible sleep
losetup mount a child in uninterruptible sleep
mkfs.ext4 e2fsprogs a child in uninterruptible sleep
ip iproute2 network namespaces
ps procps looking at the agent from outside
timeout coreutils limits on what tests start
'

missing() {
  while read -r program package why; do
    [ -z "$program" ] || command -v "$program" >/dev/null 2>&1 || echo "$program $package $why"
  done <<<"$tools"
}

as_root() {
  if [ "$(id -u)" = 0 ]; then echo env; elif sudo -n true 2>/dev/null; then echo 'sudo -n env'; fi
}

lacking=$(missing)
if [ -n "$lacking" ] && [ "${SYSTEM:-1}" != 0 ] && command -v apt-get >/dev/null 2>&1; then
  become=$(as_root)
  if [ -n "$become" ]; then
    packages=$(awk '{ print $2 }' <<<"$lacking" | tr "," "\n" | sort -u | tr "\n" " ")
    echo "tools: apt-get install $packages" >&2
    log=$(mktemp)
    # shellcheck disable=SC2086  # words on purpose: a command and a list
    { $become apt-get update -q && $become DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $packages; } >"$log" 2>&1 </dev/null ||
      { echo "tools: apt-get failed:" >&2; tail -n 5 "$log" >&2; }
    rm -f "$log"
    lacking=$(missing)
  fi
fi
[ -n "$lacking" ] || exit 0
while read -r program package why; do
  echo "tools: no $program ($why): apt-get install $package" >&2
done <<<"$lacking"
[ "${STRICT:-0}" = 0 ]
