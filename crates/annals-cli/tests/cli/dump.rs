use super::*;

#[test]
fn pieces_join_without_a_gap() {
    let place = varied();
    let out = place.run("dump", &["--json"]).ok();
    let (mut file, mut end, mut events) = (String::new(), 0, 0);
    for piece in out.lines().map(json) {
        if piece["segment"] != file.as_str() {
            assert_eq!((&piece["offset"], &piece["kind"]), (&0.into(), &"header".into()));
            file = piece["segment"].as_str().unwrap().to_owned();
            end = 0;
        }
        assert_eq!(piece["offset"], end);
        assert_eq!(piece["verdict"], "ok");
        end += piece["length"].as_u64().unwrap();
        events += if piece["kind"] == "commit" { piece["events"].as_u64().unwrap() } else { 0 };
    }
    assert_eq!(events as usize, place.export().lines().count());
    assert!(out.contains("\"seal\""));
}

#[test]
fn a_line_a_piece() {
    let place = small();
    let out = place.run("dump", &[]).ok();
    let kinds: Vec<&str> = out.lines().map(|line| line.split('\t').nth(3).unwrap()).collect();
    assert_eq!(kinds[..4], ["header", "commit", "commit", "commit"]);
    assert!(out.lines().all(|line| line.split('\t').count() == 9 && line.split('\t').nth(4) == Some("ok")));
}

#[test]
fn bad_pieces_are_shown_and_are_code_3() {
    let place = small();
    place.change(|bytes| {
        let at = bytes.windows(7).position(|window| window == br#"{"n":1}"#).unwrap();
        bytes[at] ^= 0x80;
    });
    let run = place.run("dump", &[]);
    assert_eq!((run.code, run.stderr.as_str()), (3, ""));
    let kinds: Vec<&str> = run.stdout.lines().map(|line| line.split('\t').nth(3).unwrap()).collect();
    assert_eq!(kinds[..4], ["header", "commit", "unreadable", "commit"], "{}", run.stdout);
}
