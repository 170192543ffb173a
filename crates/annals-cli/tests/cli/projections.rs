use super::*;
use annals::{Event, Projection, Result};

struct Count(&'static str, u32);

impl Projection for Count {
    type State = u64;
    fn name(&self) -> &str {
        self.0
    }
    fn version(&self) -> u32 {
        self.1
    }
    fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
        *count += 1;
        Ok(())
    }
}

#[test]
fn list_tells_how_far_they_are() {
    let place = small();
    assert_eq!(place.run("projections", &[]).code, 2);
    let list = |rest: &[&str]| annals(["projections", "list", place.store.to_str().unwrap()].iter().chain(rest));
    assert_eq!(list(&[]).ok(), "");
    let store = place.open();
    for (name, version) in [("totals", 2), ("totals", 1), ("a\tb", 1)] {
        store.projection(Count(name, version)).catch_up().unwrap().stop().unwrap();
    }
    store.append(&stream("order-1"), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    store.close().unwrap();
    let heads: Vec<String> =
        list(&[]).ok().lines().map(|line| line.split('\t').take(6).collect::<Vec<_>>().join(" ")).collect();
    assert!(heads[0].ends_with(" 1 2 1 yes 1") && !heads[0].contains('\t'), "{heads:?}");
    assert_eq!(heads[1..], ["totals 1 2 1 yes 1", "totals 2 2 1 yes 1"]);
    let first = json(list(&["--json"]).ok().lines().nth(1).unwrap());
    assert_eq!((&first["position"], &first["lag"], &first["complete"]), (&2.into(), &1.into(), &true.into()));
    assert_eq!((&first["name"], &first["codec"]), (&"totals".into(), &"json".into()));

    // A damaged state is named, but is not a failure: it will be rebuilt.
    fs::write(first["file"].as_str().unwrap(), b"torn").unwrap();
    let run = list(&[]);
    assert_eq!((run.code, lines(&run.stdout).len()), (0, 2));
    assert!(run.stderr.contains("torn or changed"), "{}", run.stderr);
}
