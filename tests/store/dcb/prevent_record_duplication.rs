//! <https://dcb.events/examples/prevent-record-duplication>: a client that did not get the result
//! of its request sends it again, with the same token, and it must not count twice.
//!
//! There are two ways. A token as a *tag* is checked in the whole store, and a repeat is refused.
//! As the *idempotency key* of a commit it is checked in the streams that the commit writes to, and
//! a repeat returns what the first one has stored.

use super::*;

fn place(store: &Store, order: &str, token: &str) -> Result<Committed, Refusal> {
    let tag = format!("token:{token}");
    let event = NewEvent::new("OrderPlaced", "").tag(&*tag);
    let transaction = store.transaction().append(&stream("order", order), Expected::NoStream, [event]);
    // Nothing need be read: the guard is the decision, and if it does not hold, deciding again
    // would not help.
    let unused = Guard::absent(Query::new().event_type("OrderPlaced").tag(tag));
    match transaction.guard(unused).commit() {
        Err(Error::GuardFailed { .. }) => Err("order was placed already"),
        committed => Ok(committed.unwrap()),
    }
}

/// The same with an idempotency key. All orders of a customer go to one stream: the key would not
/// be found in that of another order.
fn place_keyed(store: &Store, customer: &str, order: &str, token: &str) -> Committed {
    let event = NewEvent::new("OrderPlaced", "").tag(format!("order:{order}"));
    let transaction = store.transaction().append(&stream("customer", customer), Expected::Any, [event]);
    transaction.idempotency_key(token).commit().unwrap()
}

#[test]
fn a_token_is_used_once() {
    let store = Store::in_memory();
    place(&store, "o12345", "11111").unwrap();
    assert_eq!(place(&store, "o54321", "11111"), Err("order was placed already"));
    place(&store, "o54321", "22222").unwrap();
    assert_eq!(store.len(), 2);
}

#[test]
fn a_repeat_with_a_key_is_told_what_the_first_one_has_stored() {
    let store = Store::in_memory();
    let first = place_keyed(&store, "7", "o12345", "11111");
    let other = place_keyed(&store, "7", "o54321", "22222");
    let again = place_keyed(&store, "7", "o12345", "11111");
    assert!(!first.duplicate && !other.duplicate && again.duplicate);
    assert_eq!((again.positions, again.recorded_at), (first.positions, first.recorded_at));
    // Another stream does not have it.
    assert!(!place_keyed(&store, "8", "o12345", "11111").duplicate);
    assert_eq!(store.len(), 3);
}

#[test]
fn one_of_racing_repeats_is_stored() {
    let dir = tempfile::tempdir().unwrap();
    for (store, rounds) in [(Store::in_memory(), ROUNDS), (Store::open(dir.path()).unwrap(), 20)] {
        for round in 0..rounds {
            let token = format!("{round}");
            let results = race(8, |number| place(&store, &format!("{round}-{number}"), &token));
            assert_eq!(count(&results, "order was placed already"), (1, 7));
        }
        assert_eq!(store.len(), rounds);
    }
}

#[test]
fn one_of_racing_repeats_with_a_key_is_stored_and_all_are_told_of_it() {
    let store = Store::in_memory();
    for round in 0..ROUNDS {
        let results = race(8, |_| place_keyed(&store, "7", &round.to_string(), &format!("token {round}")));
        assert_eq!(results.iter().filter(|committed| !committed.duplicate).count(), 1);
        assert!(results.iter().all(|committed| committed.positions == (round..round + 1)));
    }
}
