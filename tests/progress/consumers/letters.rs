//! Dead letters: their content, and what can be done with them.

use super::*;
use annals::consumer::Retried;

/// Positions and reasons.
fn letters(store: &Store) -> Vec<(u64, String)> {
    mailer(store).dead_letters().unwrap().into_iter().map(|letter| (letter.position, letter.reason)).collect()
}

fn parked() -> Store {
    let store = filled(6);
    let status = mailer(&store).run(|event: &Event| match event.position() % 2 {
        1 => Outcome::Park(format!("number {}", event.position())),
        _ => Outcome::Ack,
    });
    assert_eq!((status.unwrap().parked, checkpoint(&store)), (3, Some(5)));
    store
}

fn numbers(of: impl IntoIterator<Item = u64>) -> Vec<(u64, String)> {
    of.into_iter().map(|n| (n, format!("number {n}"))).collect()
}

#[test]
fn they_say_what_happened_and_survive() {
    on_all_beds(|bed| {
        let store = bed.open();
        fill(&store, 4);
        let before = Timestamp::now();
        mailer(&store).run(|event: &Event| if event.position() == 1 { Err("ü".repeat(1000)) } else { Ok(()) }).unwrap();
        let mut store = store;
        for _ in 0..2 {
            let [letter] = &mailer(&store).dead_letters().unwrap()[..] else { panic!("one") };
            assert_eq!((letter.position, letter.attempts, letter.reason.clone()), (1, 3, "ü".repeat(512)));
            assert!(letter.time >= before && letter.time <= Timestamp::now());
            assert_eq!(letter.event.as_ref().unwrap().stream(), stream("b-1"));
            assert_eq!(store.consumers().unwrap()[0].dead_letters, 1);
            store.close().unwrap();
            store = bed.open();
        }
    });
}

#[test]
fn they_can_be_tried_again_and_dropped() {
    let store = parked();
    assert_eq!(letters(&store), numbers([1, 3, 5]));
    let mut tried = Vec::new();
    let retried = mailer(&store).retry_dead_letters(|event: &Event| {
        tried.push(event.position());
        match event.position() {
            1 => Ok(()),
            3 => Err("again"),
            _ => panic!("bang"),
        }
    });
    assert_eq!((tried, retried.unwrap()), (vec![1, 3, 5], counted(1, 2)));
    assert_eq!(letters(&store), [(3, "again".into()), (5, "the handler panicked: bang".into())]);
    assert_eq!(mailer(&store).dead_letters().unwrap()[0].attempts, 2);
    let one = mailer(&store).retry_dead_letter(5, |event: &Event| assert_eq!(event.position(), 5));
    assert_eq!(one.unwrap(), counted(1, 0));
    assert_eq!(mailer(&store).retry_dead_letter(5, |_: &Event| ()).unwrap(), counted(0, 0));
    assert!(mailer(&store).drop_dead_letter(3).unwrap());
    assert!(!mailer(&store).drop_dead_letter(3).unwrap());
    assert!(letters(&store).is_empty() && checkpoint(&store) == Some(5));

    let store = parked();
    let stopped = mailer(&store).retry_dead_letters(|event: &Event| match event.position() {
        3 => Outcome::Stop,
        _ => Outcome::Ack,
    });
    assert_eq!((stopped.unwrap(), letters(&store)), (counted(1, 0), numbers([3, 5])));
    assert_eq!(mailer(&store).drop_dead_letters().unwrap(), 2);
}

fn counted(handled: u64, failed: u64) -> Retried {
    let mut retried = Retried::default();
    (retried.handled, retried.failed) = (handled, failed);
    retried
}

/// An event that is handled after all, after a reset, is no longer a dead letter; one that is not
/// seen again stays one.
#[test]
fn a_reset_and_a_success_take_the_letter_away() {
    let store = parked();
    mailer(&store).reset_to(Reset::After(2)).unwrap();
    assert_eq!(letters(&store), numbers([1, 3, 5]));
    mailer(&store).run(|event: &Event| if event.position() == 3 { Ok(()) } else { Err("still") }).unwrap();
    assert_eq!(letters(&store), [(1, "number 1".into()), (4, "still".into()), (5, "still".into())]);
}

#[test]
fn too_many_of_them_end_the_consumer() {
    for workers in [0, 2] {
        let store = filled(30);
        let handler = |_: &Event| Outcome::Park("the other side is gone".into());
        let consumer = mailer(&store).dead_letter_limit(7);
        let ended = match workers {
            0 => consumer.run(handler),
            n => consumer.workers(n).run(handler),
        };
        assert!(matches!(ended, Err(Error::LimitExceeded { limit: 7, .. })), "{ended:?}");
        let count = letters(&store).len() as u64;
        assert!(count <= 7);
        assert_eq!(checkpoint(&store), count.checked_sub(1), "those behind are seen again");
    }
}

#[test]
fn those_of_a_deleted_edition_go() {
    let store = Store::in_memory();
    append(&store, "a-1@x", "T");
    append(&store, "a-1", "T");
    let consumer = mailer(&store).query(Query::new().edition("x"));
    consumer.run(|_: &Event| Outcome::Park("no".into())).unwrap();
    store.editions().delete("x", None).unwrap();
    let shown: Vec<_> = mailer(&store).dead_letters().unwrap().iter().map(|of| of.event.is_some()).collect();
    assert_eq!(shown.first(), Some(&false));
    let retried = mailer(&store).retry_dead_letters(|_: &Event| ()).unwrap();
    assert_eq!(retried.gone, 1);
    assert!(letters(&store).is_empty());
}

/// With room for two only, parked events make room as soon as they are stored.
#[test]
fn parked_events_make_room() {
    let store = filled(50);
    let consumer = mailer(&store).window(1).checkpoint_every(1000, LATE * 10);
    let status = consumer.workers(2).run(|_: &Event| Outcome::Park("no".into()));
    assert_eq!(status.unwrap().parked, 50);
    let consumer = mailer(&store).window(1).checkpoint_every(1000, LATE * 10);
    mailer(&store).reset_to(Reset::Start).unwrap();
    assert_eq!(consumer.run(|_: &Event| Outcome::Park("no".into())).unwrap().parked, 50);
}
