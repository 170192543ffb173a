# Sourced by the scripts: where the programs are, how a script says that it cannot run here, and where it works.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
name=$(basename "$0" .sh)

# No step fails without a word.
trap 'echo "$name: FAILED in line $LINENO" >&2; keep=1' ERR
skip() { echo "$name: skipped: $*"; exit 0; }
fail() { echo "$name: FAILED: $*" >&2; echo "$name: kept: $place" >&2; keep=1; exit 1; }
need() { command -v "$1" > /dev/null || skip "$1 is not installed"; }

# Builds what it is given (packages) and says where the programs are.
build() {
    local target
    for package in "$@"; do (cd "$root" && cargo build --quiet --release -p "$package"); done
    target=$(cd "$root" && cargo metadata --format-version 1 --no-deps | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')
    annals=$target/release/annals
    workload=$target/release/annals-workload
}

place=$(mktemp -d "${TMPDIR:-/tmp}/annals-$name.XXXXXX")
keep=
mounted=
child=
cleanup() {
    if [ -n "$child" ]; then kill -9 "$child" 2> /dev/null || true; wait "$child" 2> /dev/null || true; fi
    if [ -n "$mounted" ]; then umount "$mounted" 2> /dev/null || umount -l "$mounted" || true; fi
    if [ -z "$keep" ]; then rm -rf "$place"; fi
}
trap cleanup EXIT
