//! <https://dcb.events/examples/invoice-number>: invoices have numbers without a gap. The newest
//! invoice determines the next number, so it is the only one that is read.

use super::*;

fn invoices() -> Query {
    Query::new().event_type("InvoiceCreated")
}

fn number_of(event: &Event) -> u64 {
    event.decode::<u64>().unwrap()
}

fn create(store: &Store) -> u64 {
    loop {
        // One event, but a guard over all invoices: its position is the head of the store, after
        // which there must be none.
        let (newest, head) = store.query(&invoices()).backwards().limit(1).collect_with_head().unwrap();
        let number = newest.first().map_or(1, |event| number_of(event) + 1);
        let event = NewEvent::bincode("InvoiceCreated", &number).unwrap().tag(format!("invoice:{number}"));
        let invoice = stream("invoice", &number.to_string());
        let transaction = store.transaction().append(&invoice, Expected::Any, [event]);
        match transaction.guard(Guard::unchanged(invoices(), head)).commit() {
            Err(Error::GuardFailed { .. }) => {}
            committed => {
                committed.unwrap();
                return number;
            }
        }
    }
}

fn pay(store: &Store, number: u64) {
    let invoice = stream("invoice", &number.to_string());
    store.append(&invoice, Expected::Any, [NewEvent::new("InvoicePaid", "")]).unwrap();
}

#[test]
fn numbers_begin_with_one_and_leave_no_gap() {
    let store = Store::in_memory();
    assert_eq!(create(&store), 1);
    assert_eq!(create(&store), 2);
    // Other events do not count.
    pay(&store, 1);
    assert_eq!(create(&store), 3);
}

#[test]
fn a_number_is_not_given_out_twice() {
    let store = Store::in_memory();
    let (_, head) = store.query(&invoices()).backwards().limit(1).collect_with_head().unwrap();
    assert_eq!(head, None);
    create(&store);
    let late =
        store.transaction().append(&stream("invoice", "1"), Expected::Any, [NewEvent::new("InvoiceCreated", "")]);
    let late = late.guard(Guard::unchanged(invoices(), head)).commit();
    assert!(matches!(late, Err(Error::GuardFailed { position: 0, .. })), "{late:?}");
}

#[test]
fn numbers_of_racing_threads_leave_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = Options::new().segment_size(4096).open(dir.path()).unwrap();
    let given = race(4, |_| {
        let numbers: Vec<_> = (0..25).map(|_| create(&store)).collect();
        // Other events between the invoices make the head differ from the newest invoice.
        numbers.iter().for_each(|&number| pay(&store, number));
        numbers
    });
    let mut given = given.concat();
    given.sort_unstable();
    let all: Vec<u64> = (1..=100).collect();
    assert_eq!(given, all);
    // They are in the log in this order, too, and still are after a reopen.
    store.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(find(&store, &invoices()).iter().map(number_of).collect::<Vec<_>>(), all);
    assert_eq!(create(&store), 101);
}
