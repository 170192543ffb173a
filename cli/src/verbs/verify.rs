//! `annals verify`: reads the whole store and says what is wrong with it.

use crate::failure::{Failure, Result};
use crate::output::Out;
use crate::progress::Progress;
use annals::salvage;
use serde::Serialize;
use std::path::PathBuf;

/// Read the whole store and say what is wrong with it; changes nothing
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Report {
    sound: bool,
    segments: u64,
    events: u64,
    streams: u64,
    bytes: u64,
    damage: Vec<Damage>,
    torn: Option<Damage>,
    notices: Vec<String>,
    not_covered: Vec<String>,
}

#[derive(Serialize)]
struct Damage {
    file: String,
    /// From the first bad byte to the first good one.
    from_byte: u64,
    to_byte: u64,
    /// `None` where there is no end that is known.
    from_position: u64,
    to_position: Option<u64>,
    why: String,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let progress = Progress::unknown("verifying");
        let found = salvage::verify(&self.store)?;
        drop(progress);
        let mut parts = vec![
            ("segments", found.segments.to_string()),
            ("events", found.events.to_string()),
            ("streams", found.streams.to_string()),
            ("bytes", found.bytes.to_string()),
        ];
        parts.extend(found.damage.iter().map(|damage| ("damage", damage.to_string())));
        parts.extend(found.torn.iter().map(|torn| ("torn tail", torn.to_string())));
        parts.extend(found.notices.iter().map(|notice| ("notice", notice.clone())));
        parts.extend(found.not_covered.iter().map(|name| ("not covered", name.clone())));
        let sound = found.is_sound();
        let verdict = if sound { "sound" } else { "damaged: keep a copy of the directory" };
        parts.push(("verdict", verdict.to_owned()));

        let report = Report {
            sound,
            segments: found.segments,
            events: found.events,
            streams: found.streams,
            bytes: found.bytes,
            damage: found.damage.iter().map(Damage::of).collect(),
            torn: found.torn.as_ref().map(Damage::of),
            notices: found.notices.clone(),
            not_covered: found.not_covered.clone(),
        };
        let told = out.facts(&report, &parts).and_then(|()| out.flush());
        // The code tells of damage even to those who did not wait for the text.
        if sound { told } else { Err(Failure::damage_shown()) }
    }
}

impl Damage {
    fn of(damage: &annals::Damage) -> Self {
        Damage {
            file: damage.path.to_string_lossy().into_owned(),
            from_byte: damage.bytes.start,
            to_byte: damage.bytes.end,
            from_position: damage.positions.start,
            to_position: (damage.positions.end != u64::MAX).then_some(damage.positions.end),
            why: damage.why.clone(),
        }
    }
}
