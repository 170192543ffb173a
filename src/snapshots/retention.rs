//! Retention: which snapshots of a stream are removed when a new one has been put.

use crate::format::snapshot_file::Retention;

/// Returns the sequences of those to remove, given all of them, in any order, and the one that has
/// just been put. Neither that one nor the newest is ever removed.
///
/// | | removed when |
/// |---|---|
/// | transient | there is a newer one |
/// | default | there are more than `kept` newer default ones, the newest of all not counted |
/// | persist | never |
pub(super) fn superseded(snapshots: &[(u64, Retention)], put: u64, kept: usize) -> Vec<u64> {
    let Some(newest) = snapshots.iter().map(|&(sequence, _)| sequence).max() else { return Vec::new() };
    let older = |which: Retention| {
        let older = snapshots.iter().filter(move |&&(sequence, retention)| sequence < newest && retention == which);
        older.map(|&(sequence, _)| sequence)
    };
    let mut default: Vec<u64> = older(Retention::Default).collect();
    default.sort_unstable_by(|a, b| b.cmp(a));
    let going = older(Retention::Transient).chain(default.into_iter().skip(kept));
    going.filter(|&sequence| sequence != put).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Snapshots as `D3 T4 P5`: default, transient, persist, each with its sequence.
    fn parse(text: &str) -> Vec<(u64, Retention)> {
        let one = |word: &str| {
            let retention = match &word[..1] {
                "D" => Retention::Default,
                "T" => Retention::Transient,
                _ => Retention::Persist,
            };
            (word[1..].parse().unwrap(), retention)
        };
        text.split_whitespace().map(one).collect()
    }

    #[test]
    fn the_table() {
        let cases: [(&str, u64, usize, &[u64]); 15] = [
            ("", 0, 1, &[]),
            ("D1", 1, 1, &[]),
            ("D1", 1, 0, &[]),
            ("D1 D2", 2, 1, &[]),
            ("D1 D2 D3", 3, 1, &[1]),
            ("D1 D2 D3", 3, 0, &[1, 2]),
            ("D1 D2 D3 D4", 4, 2, &[1]),
            ("T1", 1, 1, &[]),
            ("T1 T2", 2, 1, &[1]),
            ("T1 D2", 2, 1, &[1]),
            ("D1 T2 P3", 3, 1, &[2]),
            ("P1 P2 P3 D4 D5 D6", 6, 1, &[4]),
            // Put below a newer one: it is kept until the next one is put.
            ("D5 D9 D3", 3, 1, &[]),
            ("T3 D9", 3, 1, &[]),
            ("D1 D2 P9", 2, 1, &[1]),
        ];
        for (there, put, kept, goes) in cases {
            let mut found = superseded(&parse(there), put, kept);
            found.sort_unstable();
            assert_eq!(found, goes, "{there}, {put} put, {kept} kept");
        }
    }

    #[test]
    fn the_newest_persistent_ones_and_the_kept_stay_whatever_there_is() {
        let all = [Retention::Default, Retention::Transient, Retention::Persist];
        for n in 0..3usize.pow(5) {
            let there: Vec<_> = (0..5u32).map(|i| (u64::from(i), all[n / 3usize.pow(i) % 3])).collect();
            for (put, kept) in (0..5).flat_map(|put| (0..3).map(move |kept| (put, kept))) {
                let goes = superseded(&there, put, kept);
                assert!(!goes.contains(&4) && !goes.contains(&put));
                assert!(there.iter().all(|(s, r)| *r != Retention::Persist || !goes.contains(s)));
                let left = |s: &&(u64, Retention)| s.1 == Retention::Default && s.0 < 4 && !goes.contains(&s.0);
                let had = there.iter().filter(|s| s.1 == Retention::Default && s.0 < 4).count();
                assert!(there.iter().filter(left).count() >= had.min(kept));
            }
        }
    }
}
