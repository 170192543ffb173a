#!/usr/bin/env bash
# An import, and a writer to a store of small segments, that are killed at any moment, again and again: what they have acknowledged is there, whole commits only, in order.
# kill9.sh [ROUNDS [LINES [MILLISECONDS]]]: small imports that are killed early make for many rounds.
. "$(dirname "$0")/common.sh"
rounds=${1:-50}
need awk
build annals-cli annals-campaign

lines=${2:-200000} most=${3:-400} batch=7
awk -v lines=$lines 'BEGIN { for (n = 0; n < lines; n++) printf "{\"stream\":\"s-%d\",\"type\":\"T\",\"data\":{\"n\":%d}}\n", n % 13, n }' > "$place/input"
stored=0 killed=0 torn=0 rolled=0
for ((round = 1; round <= rounds; round++)); do
    # A child that is killed before it is the import leaves the log of the round before.
    : > "$place/log"
    "$annals" import "$place/store" "$place/input" --acknowledge --batch $batch --skip $stored > "$place/log" 2> "$place/errors" &
    child=$!
    sleep "$(printf '0.%03d' $((RANDOM % most)))"
    if kill -9 $child 2> /dev/null; then killed=$((killed + 1)); fi
    wait $child 2> /dev/null || true
    child=
    # If the last line is cut off, its number is a smaller one, and has been passed as well.
    acknowledged=$(awk '/^acknowledged [0-9]+$/ { last = $2 } END { print last + 0 }' "$place/log")
    # Killed before there was a store: then nothing can have been acknowledged.
    if ! compgen -G "$place/store/*.seg" > /dev/null; then
        [ "$acknowledged" -eq 0 ] || fail "round $round: $acknowledged acknowledged, and there is no store"
        continue
    fi
    # Verify may see a torn tail, but no damage; opening cuts it.
    "$annals" verify "$place/store" > "$place/verified" 2>&1 || fail "round $round: $(cat "$place/verified")"
    if grep -q torn "$place/verified"; then torn=$((torn + 1)); fi
    found=$("$annals" export "$place/store" 2> "$place/errors" | awk -F'"n":' '{ split($2, n, "}"); if (n[1] != NR - 1) { print "event " NR - 1 " is " $0; exit } } END { print NR }' | tail -1) \
        || fail "round $round: no export: $(cat "$place/errors")"
    case $found in *[!0-9]*) fail "round $round: $found" ;; esac
    [ "$found" -ge "$acknowledged" ] || fail "round $round: $acknowledged acknowledged, $found there"
    [ "$found" -ge "$stored" ] || fail "round $round: $stored were there, $found are"
    [ $(((found - stored) % batch)) -eq 0 ] || [ "$found" -eq $lines ] || fail "round $round: $found is not the end of a commit"
    stored=$found
    if [ "$stored" -eq $lines ]; then rm -rf "$place/store"; stored=0; fi

    # A store of small segments, which dies while it rolls, too.
    rm -rf "$place/small"
    : > "$place/log"
    "$workload" write "$place/small" $((4096 << RANDOM % 6)) 30 > "$place/log" 2> "$place/errors" &
    child=$!
    sleep "$(printf '0.%03d' $((RANDOM % most)))"
    if kill -9 $child 2> /dev/null; then killed=$((killed + 1)); fi
    wait $child 2> /dev/null || true
    child=
    if [ ! -d "$place/small" ]; then continue; fi
    head -n "$(wc -l < "$place/log")" "$place/log" > "$place/whole"
    "$workload" check "$place/small" "$place/whole" > "$place/checked" 2>&1 || fail "round $round: $(cat "$place/checked")"
    if compgen -G "$place/small/*2.seg" > /dev/null; then rolled=$((rolled + 1)); fi
done
echo "$name: $rounds rounds of both kinds, $killed killed at work, $rolled of them behind a roll, $torn torn tails: all that was acknowledged is there, whole commits only"
