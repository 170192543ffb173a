//! `annals repair`: puts a store in order where it stands.

use crate::failure::{Failure, Result};
use crate::losses::{self, Bad, Lost};
use crate::output::Out;
use annals::salvage::{Action, Repair};
use serde::Serialize;
use std::path::PathBuf;

/// Put a damaged store in order where it stands; without --yes, only say what would be done
///
/// What is replaced is kept in quarantine/. Make a copy of the directory first all the same.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// Give up the events and positions that this report of `salvage` names
    #[arg(long, value_name = "REPORT")]
    accept_loss: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    done: bool,
    actions: Vec<String>,
    losses: Vec<Lost>,
    lost_entries: Vec<Bad>,
    accepted: bool,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let mut repair = Repair::new();
        if let Some(report) = &self.accept_loss {
            repair = losses::accept(repair, report)?;
        }
        let planned = repair.plan(&self.store)?;
        // What is interrupted hides what is lost: that shows when it is finished.
        let interrupted = planned.actions == [Action::Finish];
        let refused = !interrupted && !planned.accepted;
        let plan = if self.yes && !refused { repair.run(&self.store)? } else { planned };
        let done = self.yes && !refused;
        let report = Report {
            done,
            actions: plan.actions.iter().map(Action::to_string).collect(),
            losses: plan.losses.iter().map(Lost::of).collect(),
            lost_entries: plan.lost_entries.iter().map(Bad::of).collect(),
            accepted: plan.accepted,
        };
        let mut parts: Vec<(&str, String)> = Vec::new();
        let what = if done { "done" } else { "to do" };
        parts.extend(report.actions.iter().map(|action| (what, action.clone())));
        let verdict = match () {
            () if refused => match plan.losses.is_empty() {
                false => "events are lost: salvage the store, read the report, and accept it with --accept-loss REPORT",
                true => {
                    "positions are lost: salvage the store, read the report, and accept it with --accept-loss REPORT"
                }
            },
            () if done => "repaired",
            () if report.actions.is_empty() => "nothing to do",
            () if interrupted => "nothing was changed; --yes finishes it",
            () => "nothing was changed; --yes does it",
        };
        parts.push(("verdict", verdict.to_owned()));
        let told = out.facts(&report, &parts).and_then(|()| out.flush());
        if refused { Err(Failure::damage_shown()) } else { told }
    }
}
