#!/usr/bin/env bash
# Errors in place of the results of real system calls. What is acknowledged is there afterwards, and what was refused is not. Each round says how many errors were injected: none is a failure of
# the round, as strace says nothing when its filter fits no call.
. "$(dirname "$0")/common.sh"
need strace
strace -qq -e trace=none true 2> /dev/null || skip "processes cannot be traced here"
build annals-campaign

# What is injected, when; and whether the calls of one file only: by its absolute path, which must be there before.
injected=0
round() {
    local what=$1 path=${2:-}
    rm -rf "$place/store"
    "$workload" write "$place/store" 16384 1 > "$place/log.first" || fail "the store is not made"
    # The commits before are those of another log: attempts are counted anew, and a new store is needed where no file is named.
    [ -n "$path" ] || rm -rf "$place/store"
    strace -f -qq -o "$place/trace" ${path:+-P "$place/store/$path"} -e trace="${what%%:*}" -e inject="$what" \
        "$workload" write "$place/store" 16384 3 > "$place/log" 2> "$place/errors" || true
    local times
    times=$(grep -c INJECTED "$place/trace" || true)
    [ "$times" -gt 0 ] || fail "$what $path: no error was injected"
    injected=$((injected + times))
    "$workload" check "$place/store" "$place/log" > "$place/checked" 2>&1 || fail "$what $path: $(cat "$place/checked") $(cat "$place/errors")"
    echo "$name: $what $path: $times injected; $(cat "$place/checked")"
}

round pwrite64:error=ENOSPC:when=20+17
round pwrite64:error=EIO:when=30+50
round pwrite64:error=EFBIG:when=9+11
round pwrite64:error=EINTR:when=5+3
round fdatasync:error=EIO:when=10+40
round fdatasync:error=ENOSPC:when=33+33
round fsync:error=EIO:when=6+5
round ftruncate:error=EIO:when=2+3
round rename,renameat,renameat2:error=EIO:when=2+2
round pwrite64:error=EIO:when=1+2 HEAD
round fdatasync:error=EIO:when=1+1 HEAD
echo "$name: $injected errors injected, nothing lost, nothing that was refused has come back"
