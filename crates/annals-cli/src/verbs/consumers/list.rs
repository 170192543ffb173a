//! `annals consumers list`: all consumers.

use super::{fault, position};
use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, cell, number, text};
use serde::Serialize;
use std::path::PathBuf;

/// List the consumers that have stored something: the position up to which everything is done, the
/// number of events after it, and the number of dead letters
///
/// `behind` is the number of events that a consumer has not reached: 0 if it had caught up when it
/// ended, and no event has been appended since. The store does not know which of these events match
/// the query of the consumer.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Row {
    consumer: String,
    position: Option<u64>,
    behind: u64,
    dead_letters: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let columns = [text("consumer"), number("position"), number("behind"), number("dead letters")];
        let mut list = List::new(out, columns);
        for info in store.consumers()? {
            let (position, fault) = (position(&info), fault(&info));
            let row =
                Row { consumer: info.name, position, behind: info.behind, dead_letters: info.dead_letters, fault };
            list.add(&row, |row| {
                vec![row.consumer.clone(), cell(row.position), row.behind.to_string(), row.dead_letters.to_string()]
            })?;
        }
        list.end()
    }
}
