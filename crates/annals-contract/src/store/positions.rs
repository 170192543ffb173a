//! Positions of handlers in its streams.

use crate::PositionStore;
use annals::{Error, Store, StreamId};
use std::collections::BTreeMap;

impl PositionStore for Store {
    type Error = Error;

    fn position(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>, Error> {
        self.positions().get(handler, stream)
    }

    fn put_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Error> {
        self.positions().put(handler, stream, sequence).map(drop)
    }

    fn reset_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Error> {
        self.positions().reset(handler, stream, sequence)
    }

    fn delete_position(&self, handler: &str, stream: &StreamId) -> Result<(), Error> {
        self.positions().delete(handler, stream).map(drop)
    }

    fn positions_of(&self, handler: &str) -> Result<BTreeMap<StreamId, u64>, Error> {
        let listed = self.positions().list(handler)?;
        Ok(listed.into_iter().map(|of| (of.stream, of.sequence)).collect())
    }
}
