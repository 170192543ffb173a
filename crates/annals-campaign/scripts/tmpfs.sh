#!/usr/bin/env bash
# A small tmpfs that is full, has room, and is full again: what was refused never comes back, and the store goes on when there is room.
# tmpfs.sh [ROUNDS]
. "$(dirname "$0")/common.sh"
rounds=${1:-10}
[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
mkdir "$place/disk"
mount -t tmpfs -o size=3M annals "$place/disk" 2> "$place/errors" || skip "no tmpfs can be mounted here: $(cat "$place/errors")"
mounted=$place/disk
build annals-campaign

for ((round = 1; round <= rounds; round++)); do
    rm -rf "$place/disk/store"
    head -c $((400000 + RANDOM * 40)) /dev/zero > "$place/disk/ballast"
    "$workload" write "$place/disk/store" $((4096 << RANDOM % 7)) 6 > "$place/log" 2> "$place/errors" &
    child=$!
    for _ in $(seq 300); do grep -q refused "$place/log" && break; sleep 0.02; done
    grep -q refused "$place/log" || fail "round $round: the disk was never full"
    before=$(grep -c acknowledged "$place/log")
    sleep 0.2
    rm "$place/disk/ballast"
    for _ in $(seq 200); do [ "$(grep -c acknowledged "$place/log")" -gt "$before" ] && break; sleep 0.02; done
    [ "$(grep -c acknowledged "$place/log")" -gt "$before" ] || fail "round $round: there is room, and the store does not go on: $(tail -1 "$place/log") $(cat "$place/errors")"
    if ((RANDOM % 2)); then kill -9 $child 2> /dev/null || true; wait $child 2> /dev/null || true; else wait $child || fail "round $round: $(cat "$place/errors")"; fi
    child=
    # Opening and closing need some bytes, too: what is asked is whether all is there.
    cp -r "$place/disk/store" "$place/copy"
    "$workload" check "$place/copy" "$place/log" > "$place/checked" 2>&1 || fail "round $round: $(cat "$place/checked")"
    echo "$name: round $round: $(cat "$place/checked")"
    rm -rf "$place/copy"
done
echo "$name: $rounds rounds, nothing lost, nothing that was refused has come back"
