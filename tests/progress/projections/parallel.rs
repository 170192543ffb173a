//! Several threads compute the same state as one.

use super::*;

#[test]
fn the_same_as_one_thread() {
    on(vec![Bed::memory(), Bed::directory().tiny()], |bed| {
        let store = bed.open();
        for n in 0..3000u64 {
            let name = stream(&format!("{}-{}", ["order", "stock"][n as usize % 2], n * n % 97));
            let data = n.to_string();
            store.append(&name, Expected::Any, [NewEvent::new("T", &data)]).unwrap();
        }
        let one = store.projection(ByStream).catch_up().unwrap().state().unwrap();
        assert!(one.len() > 40);
        assert!(store.projections().delete("by-stream", 1).unwrap());
        for threads in [1, 2, 3, 8] {
            let model = store.projection(ByStream).parallel(threads).live().unwrap();
            assert_eq!(model.state().unwrap(), one, "{threads} threads");
            assert_eq!(model.position(), Some(2999));
            model.rebuild().unwrap();
            assert_eq!(model.state().unwrap(), one, "{threads} threads, rebuilt");
            model.stop().unwrap();
            assert!(store.projections().delete("by-stream", 1).unwrap());
        }
    });
}

/// In a named edition, the events of the main one and those of its own are of one stream.
#[test]
fn in_a_named_edition() {
    struct Edition;
    impl Projection for Edition {
        type State = BTreeMap<String, (u64, u64)>;
        fn name(&self) -> &str {
            "edition"
        }
        fn version(&self) -> u32 {
            1
        }
        fn query(&self) -> Query {
            Query::new().edition("x")
        }
        fn apply(&self, streams: &mut Self::State, event: &Event) -> Result<()> {
            ByStream.apply(streams, event)
        }
    }
    impl PerStream for Edition {
        fn merge(&self, into: &mut Self::State, part: Self::State) {
            ByStream.merge(into, part);
        }
    }
    let store = Store::in_memory();
    for n in 0..50 {
        let name = stream(&format!("order-{n}"));
        store.append(&name, Expected::Any, texts(["a", "b"])).unwrap();
        store.append(&name.in_edition("x").unwrap(), Expected::Any, texts(["c"])).unwrap();
    }
    let model = store.projection(Edition).parallel(4).catch_up().unwrap();
    let state = model.state().unwrap();
    assert!(state.len() == 50 && state.values().all(|(count, _)| *count == 3), "{state:?}");
}

/// Events that come while several threads work are applied after them.
#[test]
fn writers_go_on_meanwhile() {
    let store = filled(&Bed::memory(), 5000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| append_all(&store, 5000..6000));
        let model = store.projection(ByStream).parallel(2).live().unwrap();
        for _ in 0..5 {
            model.rebuild().unwrap();
        }
        let last = writer.join().unwrap();
        assert!(model.wait_for(last, LATE).unwrap());
        assert_eq!(model.state().unwrap(), expected(&store, &Query::new(), Some(last)).streams);
    });
}
