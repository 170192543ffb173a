//! Notes on stderr about what an export leaves out: its absence is otherwise noticed too late.

use crate::output::note;
use annals::Store;
use std::ops::Range;

/// Prints what an export of `positions` has left out. It has `events` events, and lacks `upstreams`
/// tracked upstreams.
pub fn tell(store: &Store, positions: Range<u64>, events: u64, upstreams: usize) {
    let mut unread = Vec::new();
    let mut told = |what: &'static str, count: annals::Result<u64>| {
        count.unwrap_or_else(|_| {
            unread.push(what);
            0
        })
    };
    let lost = told("losses", lost(store, &positions));
    let keys = told("idempotency keys", store.idempotency_keys());
    let handlers = told("handlers", store.positions().handlers().map(|handlers| handlers.len() as u64));
    let consumers = told("consumers", store.checkpoints().list().map(|checkpoints| checkpoints.len() as u64));
    let letters = told("dead letters", dead_letters(store));
    let holes = positions.end.saturating_sub(positions.start).saturating_sub(events + lost);
    let counted = [
        (keys, "idempotency key", "idempotency keys"),
        (upstreams as u64, "upstream that is tracked", "upstreams that are tracked"),
        (holes, "position without an event (later ones move up)", "positions without an event (later ones move up)"),
        (handlers, "handler with its positions", "handlers with their positions"),
        (consumers, "checkpoint of a consumer", "checkpoints of consumers"),
        (letters, "dead letter", "dead letters"),
    ];
    let counted = counted.iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<String> =
        counted.map(|(count, one, more)| format!("{count} {}", if *count == 1 { one } else { more })).collect();
    if !parts.is_empty() {
        let text = format!("not exported: {}", parts.join(", "));
        note("annals: note: ", &text);
    }
    if lost > 0 {
        let text = format!("{lost} positions are lost: import refuses streams with gaps, except with --renumber");
        note("annals: note: ", &text);
    }
    if !unread.is_empty() {
        let text = format!("these parts of the store cannot be read: {}", unread.join(", "));
        note("annals: note: ", &text);
    }
}

fn lost(store: &Store, positions: &Range<u64>) -> annals::Result<u64> {
    let overlap = |lost: Range<u64>| lost.end.min(positions.end).saturating_sub(lost.start.max(positions.start));
    Ok(store.losses()?.into_iter().map(overlap).sum())
}

fn dead_letters(store: &Store) -> annals::Result<u64> {
    let mut letters = 0;
    for checkpoint in store.checkpoints().list()? {
        letters += store.consumer(&checkpoint.name).dead_letters()?.len() as u64;
    }
    Ok(letters)
}
