//! <https://dcb.events/examples/unique-username>: all events about a name are tagged with it, so
//! that a decision on a name reads exactly those. (An application would normalize the names first,
//! and perhaps tag with a hash of them.)

use super::*;

/// How long a released name stays reserved, so that it is not taken to impersonate its last owner.
const RETENTION: i64 = 3 * DAY;

#[derive(Clone, Copy, PartialEq, Debug)]
enum Name {
    Free,
    Held,
    Released(Timestamp),
}

fn tag(name: &str) -> String {
    format!("username:{name}")
}

fn events_of(name: &str) -> Query {
    Query::new().types(["AccountRegistered", "AccountClosed", "UsernameChanged"]).tag(tag(name))
}

fn state(events: &[Event], name: &str) -> Name {
    let events = events.iter().filter(|event| has_tag(event, &tag(name)));
    events.fold(Name::Free, |_, event| match event.event_type() {
        "AccountRegistered" => Name::Held,
        "UsernameChanged" if event.decode::<String>().unwrap() == name => Name::Held,
        // A late report counts from when it happened.
        _ => Name::Released(event.occurred_at().unwrap_or(event.recorded_at())),
    })
}

fn is_claimed(events: &[Event], name: &str, clock: &Clock) -> bool {
    match state(events, name) {
        Name::Free => false,
        Name::Held => true,
        Name::Released(at) => clock.since(at) <= RETENTION,
    }
}

fn register(store: &Store, clock: &Clock, account: &str, name: &str) -> Result<Committed, Refusal> {
    decide(store, &stream("account", account), &events_of(name), |events| {
        if is_claimed(events, name, clock) {
            return Err("username is claimed");
        }
        Ok(NewEvent::new("AccountRegistered", "").tag(tag(name)))
    })
}

fn close(store: &Store, account: &str, name: &str, at: Option<Timestamp>) {
    let mut event = NewEvent::new("AccountClosed", "").tag(tag(name));
    if let Some(at) = at {
        event = event.occurred_at(at);
    }
    store.append(&stream("account", account), Expected::Exists, [event]).unwrap();
}

fn rename(store: &Store, clock: &Clock, account: &str, old: &str, new: &str) -> Result<Committed, Refusal> {
    // The decision is about two names, so its boundary is both.
    let query = events_of(old).or().types(["AccountRegistered", "AccountClosed", "UsernameChanged"]).tag(tag(new));
    decide(store, &stream("account", account), &query, |events| {
        if state(events, old) != Name::Held {
            return Err("username is not held");
        }
        if is_claimed(events, new, clock) {
            return Err("username is claimed");
        }
        Ok(NewEvent::bincode("UsernameChanged", &new).unwrap().tags([tag(old), tag(new)]))
    })
}

#[test]
fn a_name_is_registered_once() {
    let (store, clock) = (Store::in_memory(), Clock::default());
    register(&store, &clock, "1", "u1").unwrap();
    assert_eq!(register(&store, &clock, "2", "u1"), Err("username is claimed"));
    register(&store, &clock, "2", "u2").unwrap();
}

#[test]
fn the_name_of_a_closed_account_is_free_after_the_retention() {
    let clock = Clock::default();
    let store = clock.store();
    register(&store, &clock, "1", "u1").unwrap();
    clock.pass(DAY);
    close(&store, "1", "u1", None);
    clock.pass(RETENTION);
    assert_eq!(register(&store, &clock, "2", "u1"), Err("username is claimed"));
    clock.pass(1);
    register(&store, &clock, "2", "u1").unwrap();
    assert_eq!(register(&store, &clock, "3", "u1"), Err("username is claimed"));
}

#[test]
fn the_retention_begins_when_the_account_was_closed_not_when_that_was_recorded() {
    let clock = Clock::default();
    let store = clock.store();
    register(&store, &clock, "1", "u1").unwrap();
    let closed = clock.now();
    clock.pass(RETENTION);
    close(&store, "1", "u1", Some(closed));
    assert_eq!(register(&store, &clock, "2", "u1"), Err("username is claimed"));
    clock.pass(1);
    register(&store, &clock, "2", "u1").unwrap();
}

#[test]
fn a_changed_name_gives_up_the_old_one_and_claims_the_new_one() {
    let clock = Clock::default();
    let store = clock.store();
    register(&store, &clock, "1", "u1").unwrap();
    rename(&store, &clock, "1", "u1", "u1changed").unwrap();
    assert_eq!(register(&store, &clock, "2", "u1changed"), Err("username is claimed"));
    assert_eq!(register(&store, &clock, "2", "u1"), Err("username is claimed"));
    assert_eq!(rename(&store, &clock, "1", "u1", "u2"), Err("username is not held"));
    clock.pass(RETENTION + 1);
    register(&store, &clock, "2", "u1").unwrap();
    assert_eq!(rename(&store, &clock, "2", "u1", "u1changed"), Err("username is claimed"));
}

#[test]
fn one_of_racing_accounts_gets_the_name() {
    let (store, clock) = (Store::in_memory(), Clock::default());
    for round in 0..ROUNDS {
        let name = format!("u{round}");
        for number in 4..8 {
            register(&store, &clock, &format!("{round}-{number}"), &format!("{name}-{number}")).unwrap();
        }
        // Half of them are new, the others come from another name.
        let results = race(8, |number| {
            let account = format!("{round}-{number}");
            match number {
                0..4 => register(&store, &clock, &account, &name),
                _ => rename(&store, &clock, &account, &format!("{name}-{number}"), &name),
            }
        });
        assert_eq!(count(&results, "username is claimed"), (1, 7));
        assert_eq!(find(&store, &events_of(&name)).len(), 1);
    }
}
