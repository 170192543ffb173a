//! `annals editions list`: the named editions, and their own events.

use super::by_domain;
use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, number, text};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// List the named editions, with the number of their own events, in total and in each domain
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Edition {
    edition: String,
    events: u64,
    domains: BTreeMap<String, u64>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let mut list = List::new(out, [text("edition"), number("events"), text("domains")]);
        for info in store.editions().list()? {
            let edition = Edition { edition: info.name, events: info.events, domains: info.domains };
            list.add(&edition, |e| vec![e.edition.clone(), e.events.to_string(), by_domain(&e.domains)])?;
        }
        list.end()
    }
}
