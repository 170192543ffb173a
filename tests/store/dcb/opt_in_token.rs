//! <https://dcb.events/examples/opt-in-token>: whoever signs up confirms the address with a
//! one-time password that was sent there. The password is a tag of the event, so no table of
//! pending passwords is needed. (Readers of the store must not learn valid passwords: an
//! application would tag with a hash.)

use super::*;

const VALID: i64 = 60 * MINUTE;

fn tags(email: &str, otp: &str) -> [String; 2] {
    [format!("email:{email}"), format!("otp:{otp}")]
}

fn initiate(store: &Store, email: &str, otp: &str, name: &str) {
    let event = NewEvent::bincode("SignUpInitiated", &name).unwrap().tags(tags(email, otp));
    store.append(&stream("signup", email), Expected::Any, [event]).unwrap();
}

fn confirm(store: &Store, clock: &Clock, email: &str, otp: &str) -> Result<Committed, Refusal> {
    // An event has both tags or does not match: the password of another person is useless.
    let query = Query::new().types(["SignUpInitiated", "SignUpConfirmed"]).tags(tags(email, otp));
    decide(store, &stream("signup", email), &query, |events| {
        let is_confirmation = |event: &&Event| event.event_type() == "SignUpConfirmed";
        let initiated = events.iter().rfind(|event| !is_confirmation(event)).ok_or("no pending sign-up")?;
        if events.last().is_some_and(|event| is_confirmation(&event)) {
            return Err("password was used already");
        }
        if clock.since(initiated.recorded_at()) > VALID {
            return Err("password has expired");
        }
        let name: String = initiated.decode().unwrap();
        Ok(NewEvent::bincode("SignUpConfirmed", &name).unwrap().tags(tags(email, otp)))
    })
}

#[test]
fn a_sign_up_is_confirmed_with_its_password() {
    let clock = Clock::default();
    let store = clock.store();
    initiate(&store, "john@example.com", "444444", "John");
    clock.pass(VALID);
    confirm(&store, &clock, "john@example.com", "444444").unwrap();
    let confirmed = find(&store, &Query::new().event_type("SignUpConfirmed").tag("email:john@example.com"));
    assert_eq!(confirmed[0].decode::<String>().unwrap(), "John");
}

#[test]
fn a_wrong_password_confirms_nothing() {
    let (store, clock) = (Store::in_memory(), Clock::default());
    assert_eq!(confirm(&store, &clock, "john@example.com", "000000"), Err("no pending sign-up"));
    initiate(&store, "john@example.com", "111111", "John");
    assert_eq!(confirm(&store, &clock, "john@example.com", "000000"), Err("no pending sign-up"));
    assert_eq!(confirm(&store, &clock, "jane@example.com", "111111"), Err("no pending sign-up"));
}

#[test]
fn a_password_is_used_once() {
    let clock = Clock::default();
    let store = clock.store();
    initiate(&store, "john@example.com", "222222", "John");
    confirm(&store, &clock, "john@example.com", "222222").unwrap();
    assert_eq!(confirm(&store, &clock, "john@example.com", "222222"), Err("password was used already"));
}

#[test]
fn a_password_expires_and_a_new_one_takes_its_place() {
    let clock = Clock::default();
    let store = clock.store();
    initiate(&store, "john@example.com", "333333", "John");
    clock.pass(VALID + 1);
    assert_eq!(confirm(&store, &clock, "john@example.com", "333333"), Err("password has expired"));
    initiate(&store, "john@example.com", "555555", "John");
    confirm(&store, &clock, "john@example.com", "555555").unwrap();
}

#[test]
fn a_password_that_is_used_on_several_threads_at_once_confirms_once() {
    let clock = Clock::default();
    let store = clock.store();
    for round in 0..ROUNDS {
        let otp = format!("{round:06}");
        initiate(&store, "john@example.com", &otp, "John");
        let results = race(4, |_| confirm(&store, &clock, "john@example.com", &otp));
        assert_eq!(count(&results, "password was used already"), (1, 3));
    }
    assert_eq!(find(&store, &Query::new().event_type("SignUpConfirmed")).len() as u64, ROUNDS);
}
