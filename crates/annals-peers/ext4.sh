#!/usr/bin/env bash
# Runs a command with a directory on an ext4 with a journal, which is made in an image file for it and is gone afterwards. The directory becomes the last argument.
# ext4.sh COMMAND …      for instance: ext4.sh ./run.py full --results ext4.jsonl --dir
# SIZE (24G) is how large the file system is; the image grows as it is filled. TMPDIR is where the image stands.
set -euo pipefail

skip() { echo "ext4: skipped: $*"; exit 0; }

[ $# -gt 0 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
[ "$(id -u)" -eq 0 ] || skip "mounting needs root"
for needed in mkfs.ext4 losetup mount; do
    command -v "$needed" > /dev/null || skip "$needed is not installed"
done

place=$(mktemp -d "${TMPDIR:-/tmp}/annals-ext4.XXXXXX")
device=
cleanup() {
    if mountpoint -q "$place/disk"; then umount "$place/disk" || umount -l "$place/disk"; fi
    if [ -n "$device" ]; then losetup -d "$device" || true; fi
    rm -rf --one-file-system "$place"
}
trap cleanup EXIT

mkdir "$place/disk"
truncate -s "${SIZE:-24G}" "$place/image"
# Nothing is left to be initialised later, beside what is measured.
mkfs.ext4 -q -F -O has_journal -E lazy_itable_init=0,lazy_journal_init=0 "$place/image" 2> "$place/errors" \
    || skip "no ext4 can be made: $(cat "$place/errors")"
# Directly, if the disk below can: otherwise pages would be cached twice.
device=$(losetup --find --show --direct-io=on "$place/image" 2> "$place/errors" || losetup --find --show "$place/image" 2>> "$place/errors") \
    || skip "there is no loop device: $(cat "$place/errors")"
mount "$device" "$place/disk" 2> "$place/errors" || skip "it cannot be mounted: $(cat "$place/errors")"
"$@" "$place/disk"
