//! Closes the gaps in sequences that the export of a store with lost events has.

use annals::StreamId;
use std::collections::HashMap;

/// The sequences in the lines, and the stored ones.
#[derive(Default)]
pub struct Gaps {
    streams: HashMap<StreamId, Numbers>,
    /// Number of events that are stored with a different sequence.
    pub moved: u64,
}

#[derive(Default)]
struct Numbers {
    /// Of the first event after each gap: the sequence in its line, and the stored one.
    runs: Vec<(u64, u64)>,
    /// The sequence after the one in the last line.
    given: u64,
}

impl Gaps {
    /// Returns the sequence for an event whose line has the sequence `given`, in a stream that
    /// continues at `next`. `None` if `given` is too low: below `next` in the first line of the
    /// stream, or not after the line before in a later one.
    pub fn close(&mut self, stream: &StreamId, given: u64, next: u64) -> Option<u64> {
        let numbers = self.streams.entry(stream.clone()).or_default();
        let first = numbers.runs.is_empty();
        if given < if first { next } else { numbers.given } {
            return None;
        }
        if first || given > numbers.given {
            numbers.runs.push((given, next));
        }
        numbers.given = given + 1;
        self.moved += u64::from(given != next);
        Some(next)
    }

    /// Returns the sequence at which a stream of a named edition diverges. Its first line has the
    /// sequence `given`, and the main stream continues at `next`.
    pub fn diverge(&mut self, stream: &StreamId, main: &StreamId, given: u64, next: u64) -> u64 {
        let runs = self.streams.get(main).map_or(&[][..], |numbers| &numbers.runs);
        let before = runs.partition_point(|&(first, _)| first < given);
        let below = match before.checked_sub(1).map(|run| runs[run]) {
            Some((first, stored)) => stored + (given - first),
            None => given,
        };
        let end = runs.get(before).map_or(next, |&(_, stored)| stored);
        let stored = below.min(end);
        self.streams.insert(stream.clone(), Numbers { runs: vec![(given, stored)], given: given + 1 });
        self.moved += u64::from(given != stored);
        stored
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editions_diverge_after_the_events_that_are_left() {
        let mut gaps = Gaps::default();
        let main: StreamId = "order-1".parse().unwrap();
        let named = main.in_edition("x").unwrap();
        // 0, 1 and 4 are lost.
        let stored: Vec<_> = [2, 3, 5, 6].into_iter().zip(0..).map(|(given, n)| gaps.close(&main, given, n)).collect();
        assert_eq!(stored, [Some(0), Some(1), Some(2), Some(3)]);
        assert_eq!(gaps.close(&main, 6, 4), None);
        for (given, expected) in [(0, 0), (1, 0), (2, 0), (3, 1), (4, 2), (5, 2), (6, 3), (7, 4), (9, 4)] {
            assert_eq!(gaps.diverge(&named, &main, given, 4), expected, "{given}");
            assert_eq!(gaps.close(&named, given + 2, expected + 1), Some(expected + 1));
        }
    }
}
