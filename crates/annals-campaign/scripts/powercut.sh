#!/usr/bin/env bash
# Power cuts of a real file system: ext4 on a loop device, shut down by FS_IOC_SHUTDOWN while a store is written to, mounted again, and looked at.
# The log of what was acknowledged is copied *before* the cut: what is acknowledged after it has begun proves nothing.
# powercut.sh [ROUNDS]
. "$(dirname "$0")/common.sh"
rounds=${1:-20}
[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
need mkfs.ext4
need losetup
need python3
mkdir "$place/disk"
truncate -s 96M "$place/image"
mkfs.ext4 -q -F "$place/image" 2> "$place/errors" || skip "no ext4 can be made: $(cat "$place/errors")"
mount -o loop "$place/image" "$place/disk" 2> "$place/errors" || skip "no loop device can be mounted here: $(cat "$place/errors")"
mounted=$place/disk
build annals-campaign

# Never the file system that the script itself stands on.
shut_down() {
    python3 - "$place/disk" "$1" << 'PYTHON'
import fcntl, os, struct, sys
path, flags = sys.argv[1], int(sys.argv[2])
if not os.path.ismount(path):
    sys.exit("not a mount point: " + path)
opened = os.open(path, os.O_RDONLY)
fcntl.ioctl(opened, 0x8004587D, struct.pack("I", flags))
PYTHON
}

for ((round = 1; round <= rounds; round++)); do
    # 0: the file system is frozen first, so that all is written; 1: only the journal is; 2: nothing is.
    flags=$((round % 3 == 0 ? 0 : round % 3))
    rm -rf "$place/disk/store"
    "$workload" write "$place/disk/store" $((4096 << RANDOM % 7)) 30 > "$place/log" 2> "$place/errors" &
    child=$!
    sleep "0.$((RANDOM % 900 + 100))"
    cp "$place/log" "$place/log.before"
    shut_down $flags 2> "$place/cut" || skip "this kernel does not shut a file system down: $(tail -1 "$place/cut")"
    kill -9 $child 2> /dev/null || true
    wait $child 2> /dev/null || true
    child=
    umount "$mounted"
    mount -o loop "$place/image" "$place/disk"
    acknowledged=$(grep -c acknowledged "$place/log.before" || true)
    if [ ! -d "$place/disk/store" ]; then
        [ "$acknowledged" -eq 0 ] || fail "round $round, flags $flags: $acknowledged commits were acknowledged, and there is no store"
        continue
    fi
    # The writer may have been told of refusals behind the copy; those prove nothing either.
    "$workload" check "$place/disk/store" "$place/log.before" > "$place/checked" 2>&1 || fail "round $round, flags $flags: $(cat "$place/checked")"
    echo "$name: round $round, flags $flags: $(cat "$place/checked")"
done
echo "$name: $rounds power cuts, nothing acknowledged is lost"
