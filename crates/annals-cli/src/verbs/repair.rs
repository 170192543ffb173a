//! `annals repair`: restores a store in place.

use crate::failure::{Failure, Result};
use crate::losses::{self, Bad, Lost};
use crate::output::Out;
use annals::offline::{Action, Repair};
use serde::Serialize;
use std::path::PathBuf;

/// Repair a damaged store in place; without --yes, only show what would be done
///
/// Replaced files are kept in quarantine/. Copy the directory first anyway.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Confirm
    #[arg(long)]
    yes: bool,
    /// Give up the lost events and entries that this report of `salvage` names
    #[arg(long, value_name = "REPORT")]
    accept_loss: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    done: bool,
    actions: Vec<String>,
    losses: Vec<Lost>,
    lost_entries: Vec<Bad>,
    /// Bytes that the disk does not return.
    unreadable: Vec<Bad>,
    accepted: bool,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let mut repair = Repair::new();
        if let Some(report) = &self.accept_loss {
            repair = losses::accept(repair, report)?;
        }
        let planned = repair.plan(&self.store)?;
        // An interrupted repair hides losses: they appear after it is finished.
        let interrupted = planned.actions == [Action::Finish];
        let refused = !interrupted && !planned.accepted;
        let plan = if self.yes && !refused { repair.run(&self.store)? } else { planned };
        let done = self.yes && !refused;
        let report = Report {
            done,
            actions: plan.actions.iter().map(Action::to_string).collect(),
            losses: plan.losses.iter().map(Lost::of).collect(),
            lost_entries: plan.lost_entries.iter().map(Bad::of).collect(),
            unreadable: plan.unreadable.iter().map(Bad::of).collect(),
            accepted: plan.accepted,
        };
        let mut parts: Vec<(&str, String)> = Vec::new();
        let what = if done { "done" } else { "to do" };
        parts.extend(lines(&plan.actions).into_iter().map(|line| (what, line)));
        parts.extend(plan.unreadable.iter().map(|hole| ("unreadable", hole.to_string())));
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

/// Returns the actions as lines. Three or more consecutive files that are rebuilt for the same
/// reason share one line.
fn lines(actions: &[Action]) -> Vec<String> {
    let reason = |action: &Action| match action {
        Action::Rewrite { why, .. } => Some(why.clone()),
        Action::RebuildIndex { .. } => Some(String::new()),
        _ => None,
    };
    let same = |a: &Action, b: &Action| {
        std::mem::discriminant(a) == std::mem::discriminant(b) && reason(a).is_some() && reason(a) == reason(b)
    };
    let mut lines = Vec::new();
    for run in actions.chunk_by(same) {
        let path = |action: &Action| match action {
            Action::Rewrite { path, .. } | Action::RebuildIndex { path } => path.clone(),
            _ => PathBuf::new(),
        };
        let (first, last) = (&run[0], &run[run.len() - 1]);
        let (from, to) = (path(first), path(last));
        let to = to.file_name().unwrap_or_default().to_string_lossy();
        match (run.len(), first) {
            (1 | 2, _) => lines.extend(run.iter().map(Action::to_string)),
            (count, Action::Rewrite { why, .. }) => {
                lines.push(format!("rebuild {count} files, {} to {to}: {why}", from.display()));
            }
            (count, _) => lines.push(format!("rebuild {count} indexes, {} to {to}", from.display())),
        }
    }
    lines
}
