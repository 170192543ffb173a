//! <https://dcb.events/examples/event-sourced-aggregate>: if one entity is boundary enough, it is a
//! stream, and its length identifies what was read. The last test has the same aggregate with a tag
//! and a guard instead of the stream.

use super::*;

#[derive(Default)]
struct Course {
    capacity: usize,
    subscriptions: usize,
    /// Number of events when it was loaded.
    version: u64,
    /// New events since.
    recorded: Vec<NewEvent<'static>>,
}

impl Course {
    fn define(capacity: usize) -> Course {
        let mut course = Course::default();
        course.record("CourseDefined", capacity);
        course
    }

    fn change_capacity(&mut self, capacity: usize) -> Result<(), Refusal> {
        if capacity == self.capacity {
            return Err("capacity is the same");
        }
        if capacity < self.subscriptions {
            return Err("course has more subscriptions than that");
        }
        self.record("CourseCapacityChanged", capacity);
        Ok(())
    }

    fn subscribe(&mut self, student: usize) -> Result<(), Refusal> {
        if self.subscriptions == self.capacity {
            return Err("course is fully booked");
        }
        self.record("StudentSubscribedToCourse", student);
        Ok(())
    }

    fn record(&mut self, event_type: &'static str, number: usize) {
        self.recorded.push(NewEvent::bincode(event_type, &number).unwrap());
        self.apply(event_type, number);
    }

    fn apply(&mut self, event_type: &str, number: usize) {
        match event_type {
            "StudentSubscribedToCourse" => self.subscriptions += 1,
            _ => self.capacity = number,
        }
    }

    fn replay(events: impl IntoIterator<Item = Event>) -> Course {
        events.into_iter().fold(Course::default(), |mut course, event| {
            course.apply(event.event_type(), event.decode().unwrap());
            course.version = event.sequence() + 1;
            course
        })
    }
}

fn load(store: &Store, id: &str) -> Course {
    Course::replay(store.read(&stream("course", id)).into_iter().map(Result::unwrap))
}

fn save(store: &Store, id: &str, course: Course) -> Result<(), Error> {
    store.append(&stream("course", id), Expected::Next(course.version), course.recorded).map(drop)
}

/// Loads, changes and saves; again while others have saved in between.
fn change(store: &Store, id: &str, change: impl Fn(&mut Course) -> Result<(), Refusal>) -> Result<(), Refusal> {
    loop {
        let mut course = load(store, id);
        change(&mut course)?;
        match save(store, id, course) {
            Err(Error::Conflict { .. }) => {}
            saved => {
                saved.unwrap();
                return Ok(());
            }
        }
    }
}

#[test]
fn an_aggregate_is_saved_and_loaded() {
    let store = Store::in_memory();
    let mut course = Course::define(10);
    course.change_capacity(15).unwrap();
    save(&store, "c1", course).unwrap();

    change(&store, "c1", |course| course.subscribe(1)).unwrap();
    let course = load(&store, "c1");
    assert_eq!((course.capacity, course.subscriptions, course.version), (15, 1, 3));
}

#[test]
fn an_aggregate_keeps_its_rules() {
    let store = Store::in_memory();
    save(&store, "c1", Course::define(2)).unwrap();
    assert_eq!(change(&store, "c1", |course| course.change_capacity(2)), Err("capacity is the same"));
    change(&store, "c1", |course| course.subscribe(1)).unwrap();
    change(&store, "c1", |course| course.subscribe(2)).unwrap();
    assert_eq!(change(&store, "c1", |course| course.subscribe(3)), Err("course is fully booked"));
    let smaller = change(&store, "c1", |course| course.change_capacity(1));
    assert_eq!(smaller, Err("course has more subscriptions than that"));
}

#[test]
fn a_stale_aggregate_is_not_saved() {
    let store = Store::in_memory();
    save(&store, "c1", Course::define(10)).unwrap();
    let mut stale = load(&store, "c1");
    stale.change_capacity(20).unwrap();
    change(&store, "c1", |course| course.subscribe(1)).unwrap();
    assert!(matches!(save(&store, "c1", stale), Err(Error::Conflict { actual: 2, .. })));
    // Nor one that was rebuilt over an existing one.
    assert!(matches!(save(&store, "c1", Course::define(5)), Err(Error::Conflict { actual: 2, .. })));
}

#[test]
fn of_racing_students_as_many_get_in_as_there_are_seats() {
    let store = Store::in_memory();
    for round in 0..ROUNDS {
        let id = format!("c{round}");
        save(&store, &id, Course::define(3)).unwrap();
        let results = race(8, |student| change(&store, &id, |course| course.subscribe(student)));
        assert_eq!(count(&results, "course is fully booked"), (3, 5));
        let course = load(&store, &id);
        assert_eq!((course.subscriptions, course.version), (3, 4));
    }
}

/// So an application can leave its aggregates as they are and move to tags by changing only its
/// repository.
#[test]
fn the_same_aggregate_is_kept_with_a_tag() {
    let store = Store::in_memory();
    let save = |course: Course, tag: &str, head| {
        let events = course.recorded.into_iter().map(|event| event.tag(tag));
        let transaction = store.transaction().append(&stream("courses", ""), Expected::Any, events);
        transaction.guard(Guard::unchanged(Query::new().tag(tag), head)).commit()
    };
    for round in 0..ROUNDS {
        let tag = format!("course:c{round}");
        let query = Query::new().tag(&tag);
        save(Course::define(3), &tag, None).unwrap();
        let results = race(8, |student| {
            loop {
                let (events, head) = store.query(&query).collect_with_head().unwrap();
                let mut course = Course::replay(events);
                course.subscribe(student)?;
                match save(course, &tag, head) {
                    Err(Error::GuardFailed { .. }) => {}
                    saved => return Ok(saved.unwrap()),
                }
            }
        });
        assert_eq!(count(&results, "course is fully booked"), (3, 5));
        assert_eq!(Course::replay(find(&store, &query)).subscriptions, 3);
    }
}
