use annals::*;
#[test]
fn smoke() {
    let dir = tempfile::tempdir().unwrap();
    let s = Options::new().segment_size(1 << 20).open(dir.path()).unwrap();
    let id = StreamId::new("order", "1").unwrap();
    for i in 0..200u64 {
        let d = vec![b'x'; 300];
        s.append(&id, Expected::Next(i * 10), (0..10).map(|_| NewEvent::new("T", &d))).unwrap();
    }
    let big: Vec<_> = (0..2000).map(|i| NewEvent::with_data("Big", vec![i as u8; 1000])).collect();
    let other = StreamId::new("big", "1").unwrap();
    s.append(&other, Expected::NoStream, big).unwrap();
    s.append(&other, Expected::Any, [NewEvent::with_data("Huge", vec![7; 3 << 20])]).unwrap();
    s.append(&id, Expected::Any, [NewEvent::new("T", "last")]).unwrap();
    let check = |s: &Store| {
        let all: Vec<_> = s.read_all().into_iter().map(|e| e.unwrap()).collect();
        assert_eq!(all.len(), 4002);
        for (i, e) in all.iter().enumerate() {
            assert_eq!(e.position(), i as u64);
        }
        let mut back: Vec<_> = s.read_all().backwards().into_iter().map(|e| e.unwrap().position()).collect();
        back.reverse();
        assert_eq!(back, (0..4002).collect::<Vec<_>>());
        for from in [0, 1, 1999, 2000, 2001, 3500, 3999, 4000, 4001, 4002, 5000] {
            let n = s.read_all().from(from).into_iter().map(|e| e.unwrap()).count() as u64;
            assert_eq!(n, 4002u64.saturating_sub(from));
        }
        assert_eq!(s.read(&id).into_iter().filter(|e| e.as_ref().unwrap().event_type() == "T").count(), 2001);
        assert_eq!(
            s.read(&other).from(1000).to(1005).into_iter().map(|e| e.unwrap().data()[0]).collect::<Vec<_>>(),
            [232, 233, 234, 235, 236]
        );
    };
    check(&s);
    println!("{:?} {:?}", s.open_report(), s.stats().unwrap());
    assert!(matches!(Store::open(dir.path()), Err(Error::Locked { .. })));
    drop(s);
    let s = Store::open(dir.path()).unwrap();
    println!("{:?}", s.open_report());
    assert!(s.open_report().clean);
    check(&s);
    s.close().unwrap();
    let s = Options::new().open_read_only(dir.path()).unwrap();
    check(&s);
}
