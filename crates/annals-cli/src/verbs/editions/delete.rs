//! `annals editions delete`: deletes the events that an edition has of its own.

use super::by_domain;
use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::Options;
use serde::Serialize;
use std::path::PathBuf;

/// Delete the events that an edition has of its own
///
/// Its streams then read as those of the main edition again. The bytes stay in the log, but the
/// events cannot be restored. Without --yes, it only says what would be deleted, and fails.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the edition
    name: String,
    /// Only the streams of this domain
    #[arg(long, value_name = "NAME")]
    domain: Option<String>,
    /// Confirm
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Deleted<'a> {
    edition: &'a str,
    domain: Option<&'a str>,
    deleted: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if matches!(&*self.name, "" | "main") {
            return Err(Failure::failed("the main edition cannot be deleted"));
        }
        if !self.yes {
            return Err(self.what_would_go()?);
        }
        let store = opening::to_write(&self.store, Options::new().create(false))?;
        let deleted = store.editions().delete(&self.name, self.domain.as_deref())?;
        store.close()?;
        let deleted = Deleted { edition: &self.name, domain: self.domain.as_deref(), deleted };
        out.facts(&deleted, &[("edition", self.name.clone()), ("deleted", deleted.deleted.to_string())])
    }

    /// Returns the failure that says what would be deleted. Does not open the store for writing.
    fn what_would_go(&self) -> Result<Failure> {
        let editions = opening::to_read(&self.store)?.editions().list()?;
        let domains = editions.into_iter().find(|info| info.name == self.name).map(|info| info.domains);
        let mut domains = domains.unwrap_or_default();
        domains.retain(|domain, _| self.domain.as_ref().is_none_or(|wanted| wanted == domain));
        let events: u64 = domains.values().sum();
        let each = if domains.is_empty() { String::new() } else { format!(" ({})", by_domain(&domains)) };
        let refused = format!("{events} events would be deleted{each}; nothing was changed");
        Ok(Failure::usage(refused).hint("editions are deleted only with --yes"))
    }
}
