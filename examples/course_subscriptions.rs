//! Rules that no single stream can keep: courses with a number of seats, and students who attend a
//! number of courses.
//!
//! ```text
//! cargo run --example course_subscriptions
//! ```
//!
//! A subscription must fit both its course and its student. If courses were streams that are
//! appended to with `Expected::Next`, nothing would keep a student from taking one course too many
//! on two threads at once; if students were, two of them could take the last seat. So the decision
//! has its own boundary, which is neither:
//!
//! 1. ask a **query** for all events that the decision depends on, whatever their streams;
//! 2. decide;
//! 3. append with a **guard**, which lets the commit succeed only if no event that the query finds
//!    has been added since. Otherwise, begin again.
//!
//! (It is the first example of <https://dcb.events/examples>. The others are in `tests/store/dcb`.)

use annals::{Error, Event, Expected, Guard, NewEvent, Query, Store, StreamId};
use std::thread;

const DEFINED: &str = "CourseDefined";
const CAPACITY_CHANGED: &str = "CourseCapacityChanged";
const SUBSCRIBED: &str = "StudentSubscribedToCourse";

/// Maximum number of courses of a student.
const MAX_COURSES: usize = 5;

/// Why a command has failed.
enum Failure {
    /// A rule forbids it. That is an answer.
    Refused(&'static str),
    /// The store could not do it. That is an error.
    Store(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Store(error)
    }
}

type Result<T, E = Failure> = std::result::Result<T, E>;

/// The three steps. `decision` returns an event, given those that the query has found, or refuses.
fn decide(
    store: &Store,
    stream: &StreamId,
    query: &Query,
    decision: impl Fn(&[Event]) -> Result<NewEvent<'static>>,
) -> Result<()> {
    loop {
        // The head is the position up to which these are all the events that the query finds.
        let (events, head) = store.query(query).collect_with_head()?;
        let event = decision(&events)?;
        let guard = Guard::unchanged(query.clone(), head);
        match store.transaction().append(stream, Expected::Any, [event]).guard(guard).commit() {
            // Another thread was faster, and the decision may be wrong now. Nothing has been
            // stored.
            Err(Error::GuardFailed { .. }) => continue,
            result => return Ok(result.map(drop)?),
        }
    }
}

fn define_course(store: &Store, course: &str, capacity: usize) -> Result<()> {
    let query = Query::new().event_type(DEFINED).tag(course_tag(course));
    decide(store, &StreamId::new("course", course)?, &query, |found| match found {
        [] => Ok(NewEvent::bincode(DEFINED, &capacity)?.tag(course_tag(course))),
        _ => Err(Failure::Refused("this course exists already")),
    })
}

fn change_capacity(store: &Store, course: &str, capacity: usize) -> Result<()> {
    // Subscriptions are not part of the query, so students who come in the meantime do not disturb:
    // the narrower the query, the fewer repetitions.
    let query = Query::new().types([DEFINED, CAPACITY_CHANGED]).tag(course_tag(course));
    decide(store, &StreamId::new("course", course)?, &query, |found| {
        let last = found.last().ok_or(Failure::Refused("there is no such course"))?;
        if last.decode::<usize>()? == capacity {
            return Err(Failure::Refused("it has this capacity already"));
        }
        Ok(NewEvent::bincode(CAPACITY_CHANGED, &capacity)?.tag(course_tag(course)))
    })
}

fn subscribe(store: &Store, student: &str, course: &str) -> Result<()> {
    let (course_tag, student_tag) = (course_tag(course), student_tag(student));
    // Everything about the course, and also the student's subscriptions to others.
    let query = Query::new()
        .types([DEFINED, CAPACITY_CHANGED, SUBSCRIBED])
        .tag(&course_tag)
        .or()
        .event_type(SUBSCRIBED)
        .tag(&student_tag);
    decide(store, &StreamId::new("course", course)?, &query, |found| {
        let (mut capacity, mut taken, mut attended, mut subscribed) = (None, 0, 0, false);
        for event in found {
            if event.event_type() != SUBSCRIBED {
                capacity = Some(event.decode::<usize>()?);
                continue;
            }
            let in_course = event.tags().any(|tag| tag == course_tag);
            let by_student = event.tags().any(|tag| tag == student_tag);
            taken += usize::from(in_course);
            attended += usize::from(by_student);
            subscribed |= in_course && by_student;
        }
        match capacity {
            None => Err(Failure::Refused("there is no such course")),
            Some(_) if subscribed => Err(Failure::Refused("subscribed already")),
            Some(capacity) if taken >= capacity => Err(Failure::Refused("the course is full")),
            Some(_) if attended >= MAX_COURSES => Err(Failure::Refused("the student attends enough courses")),
            // The event has both tags, so that later decisions on either find it.
            Some(_) => Ok(NewEvent::new(SUBSCRIBED, "").tag(course_tag.clone()).tag(student_tag.clone())),
        }
    })
}

fn course_tag(course: &str) -> String {
    format!("course:{course}")
}

fn student_tag(student: &str) -> String {
    format!("student:{student}")
}

fn main() -> Result<(), Error> {
    // `Store::open("a-directory")` returns one that stays.
    let store = Store::in_memory();
    tell("history is given", define_course(&store, "history", 2))?;
    tell("history is given twice", define_course(&store, "history", 9))?;

    // Five students at once for two seats. Chance decides who gets them, but exactly two do.
    thread::scope(|scope| {
        let students = ["ann", "ben", "cem", "dia", "eve"];
        let subscribing = students.map(|name| (name, scope.spawn(|| subscribe(&store, name, "history"))));
        subscribing.into_iter().try_for_each(|(name, thread)| tell(name, thread.join().expect("no panic")))
    })?;

    tell("history gets a seat more", change_capacity(&store, "history", 3))?;
    tell("fay", subscribe(&store, "fay", "history"))?;
    tell("fay again", subscribe(&store, "fay", "history"))?;

    println!("\nWhat the store says of it:");
    for event in store.query(&Query::new().tag(course_tag("history"))) {
        let event = event?;
        println!("{} {} {:?}", event.position(), event.event_type(), event.tags().collect::<Vec<_>>());
    }
    Ok(())
}

/// A refusal is printed like a success; an error of the store ends the program.
fn tell(what: &str, result: Result<()>) -> Result<(), Error> {
    match result {
        Ok(()) => println!("{what}: yes"),
        Err(Failure::Refused(why)) => println!("{what}: no, {why}"),
        Err(Failure::Store(error)) => return Err(error),
    }
    Ok(())
}
