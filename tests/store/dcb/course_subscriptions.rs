//! <https://dcb.events/examples/course-subscriptions>: a course has a number of seats, and a
//! student attends a number of courses. A subscription is checked against both rules, so it belongs
//! to two entities, and neither of them alone can decide on it.

use super::*;

const MAX_COURSES: usize = 5;

fn course_tag(course: &str) -> String {
    format!("course:{course}")
}

fn student_tag(student: &str) -> String {
    format!("student:{student}")
}

fn courses_events(course: &str) -> Query {
    Query::new().types(["CourseDefined", "CourseCapacityChanged", "StudentSubscribedToCourse"]).tag(course_tag(course))
}

/// The capacity of the course that these events are of, if there is one.
fn capacity(events: &[Event]) -> Option<usize> {
    let mut defining = events.iter().rev().filter(|e| e.event_type() != "StudentSubscribedToCourse");
    defining.next().map(|event| event.decode().unwrap())
}

fn define(store: &Store, course: &str, capacity: usize) -> Result<Committed, Refusal> {
    let query = Query::new().event_type("CourseDefined").tag(course_tag(course));
    decide(store, &stream("course", course), &query, |events| {
        if !events.is_empty() {
            return Err("course exists already");
        }
        Ok(NewEvent::bincode("CourseDefined", &capacity).unwrap().tag(course_tag(course)))
    })
}

fn change_capacity(store: &Store, course: &str, new: usize) -> Result<Committed, Refusal> {
    // Subscriptions are not part of it: students may come while the capacity is changed.
    let query = Query::new().types(["CourseDefined", "CourseCapacityChanged"]).tag(course_tag(course));
    decide(store, &stream("course", course), &query, |events| match capacity(events) {
        None => Err("course does not exist"),
        Some(old) if old == new => Err("capacity is the same"),
        Some(_) => Ok(NewEvent::bincode("CourseCapacityChanged", &new).unwrap().tag(course_tag(course))),
    })
}

/// Everything that a subscription depends on.
fn boundary(student: &str, course: &str) -> Query {
    courses_events(course).or().event_type("StudentSubscribedToCourse").tag(student_tag(student))
}

fn subscribe(store: &Store, student: &str, course: &str) -> Result<Committed, Refusal> {
    let (of_student, of_course) = (student_tag(student), course_tag(course));
    decide(store, &stream("course", course), &boundary(student, course), |events| {
        let (in_course, elsewhere): (Vec<_>, Vec<_>) = events.iter().cloned().partition(|e| has_tag(e, &of_course));
        let capacity = capacity(&in_course).ok_or("course does not exist")?;
        let subscriptions = || in_course.iter().filter(|e| e.event_type() == "StudentSubscribedToCourse");
        if subscriptions().count() >= capacity {
            return Err("course is fully booked");
        }
        if subscriptions().any(|e| has_tag(e, &of_student)) {
            return Err("student is subscribed already");
        }
        if elsewhere.len() >= MAX_COURSES {
            return Err("student has enough courses");
        }
        Ok(NewEvent::new("StudentSubscribedToCourse", "").tags([of_student.clone(), of_course.clone()]))
    })
}

#[test]
fn a_course_is_defined_once() {
    let store = Store::in_memory();
    define(&store, "c1", 10).unwrap();
    assert_eq!(define(&store, "c1", 15), Err("course exists already"));
    define(&store, "c2", 15).unwrap();
}

#[test]
fn a_capacity_is_changed_to_another_one() {
    let store = Store::in_memory();
    assert_eq!(change_capacity(&store, "c0", 15), Err("course does not exist"));
    define(&store, "c1", 12).unwrap();
    change_capacity(&store, "c1", 15).unwrap();
    assert_eq!(change_capacity(&store, "c1", 15), Err("capacity is the same"));
    change_capacity(&store, "c1", 12).unwrap();
}

#[test]
fn nobody_subscribes_to_a_course_that_does_not_exist() {
    assert_eq!(subscribe(&Store::in_memory(), "s1", "c0"), Err("course does not exist"));
}

#[test]
fn a_full_course_takes_nobody_until_it_has_grown() {
    let store = Store::in_memory();
    define(&store, "c1", 3).unwrap();
    for student in ["s1", "s2", "s3"] {
        subscribe(&store, student, "c1").unwrap();
    }
    assert_eq!(subscribe(&store, "s4", "c1"), Err("course is fully booked"));
    change_capacity(&store, "c1", 4).unwrap();
    subscribe(&store, "s4", "c1").unwrap();
    assert_eq!(subscribe(&store, "s5", "c1"), Err("course is fully booked"));
}

#[test]
fn a_student_subscribes_to_a_course_once() {
    let store = Store::in_memory();
    define(&store, "c1", 10).unwrap();
    subscribe(&store, "s1", "c1").unwrap();
    assert_eq!(subscribe(&store, "s1", "c1"), Err("student is subscribed already"));
}

#[test]
fn a_student_has_a_limited_number_of_courses() {
    let store = Store::in_memory();
    let courses = ["c1", "c2", "c3", "c4", "c5", "c6"];
    for course in courses {
        define(&store, course, 10).unwrap();
    }
    for course in &courses[..MAX_COURSES] {
        subscribe(&store, "s1", course).unwrap();
    }
    assert_eq!(subscribe(&store, "s1", "c6"), Err("student has enough courses"));
    subscribe(&store, "s2", "c6").unwrap();
}

/// The boundary is as narrow as the rules: events of other courses and other students do not make a
/// decision stale.
#[test]
fn a_decision_is_stale_only_if_something_came_that_it_depends_on() {
    let store = Store::in_memory();
    define(&store, "c1", 10).unwrap();
    define(&store, "c2", 10).unwrap();
    let (query, head) = (boundary("s1", "c1"), store.head());
    let try_it = || {
        let event = NewEvent::new("StudentSubscribedToCourse", "").tags([student_tag("s1"), course_tag("c1")]);
        let transaction = store.transaction().append(&stream("course", "c1"), Expected::Any, [event]);
        transaction.guard(Guard::unchanged(query.clone(), head).named("seats")).commit()
    };

    subscribe(&store, "s2", "c2").unwrap();
    change_capacity(&store, "c2", 20).unwrap();
    let committed = try_it().unwrap();
    // Now its own event is in the way.
    let Err(Error::GuardFailed { guard, position }) = try_it() else { panic!() };
    assert_eq!((&*guard, position), ("seats", committed.positions.start));
}

#[test]
fn of_racing_students_as_many_get_in_as_there_are_seats() {
    let dir = tempfile::tempdir().unwrap();
    for (store, rounds) in [(Store::in_memory(), ROUNDS), (Store::open(dir.path()).unwrap(), 20)] {
        for round in 0..rounds {
            let course = format!("c{round}");
            define(&store, &course, 3).unwrap();
            let results = race(8, |number| subscribe(&store, &format!("s{round}-{number}"), &course));
            assert_eq!(count(&results, "course is fully booked"), (3, 5));
            assert_eq!(find(&store, &courses_events(&course)).len(), 1 + 3);
        }
    }
}

#[test]
fn a_student_who_races_with_himself_gets_no_more_courses() {
    let store = Store::in_memory();
    let course = |number| format!("c{number}");
    for number in 0..8 {
        define(&store, &course(number), usize::MAX).unwrap();
    }
    for round in 0..ROUNDS {
        let student = format!("s{round}");
        let results = race(8, |number| subscribe(&store, &student, &course(number)));
        assert_eq!(count(&results, "student has enough courses"), (MAX_COURSES, 3));
    }
}
