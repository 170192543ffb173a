//! Its snapshots.

use crate::contract::{Retention, Snapshot, SnapshotStore};
use crate::{Error, Store, StreamId, Timestamp};

impl From<crate::Snapshot> for Snapshot {
    fn from(found: crate::Snapshot) -> Self {
        Snapshot { sequence: found.sequence(), retention: found.retention().into(), state: found.bytes().to_vec() }
    }
}

impl From<crate::Retention> for Retention {
    fn from(retention: crate::Retention) -> Self {
        match retention {
            crate::Retention::Default => Retention::Default,
            crate::Retention::Transient => Retention::Transient,
            crate::Retention::Persist => Retention::Persist,
        }
    }
}

impl From<Retention> for crate::Retention {
    fn from(retention: Retention) -> Self {
        match retention {
            Retention::Default => crate::Retention::Default,
            Retention::Transient => crate::Retention::Transient,
            Retention::Persist => crate::Retention::Persist,
        }
    }
}

impl SnapshotStore for Store {
    fn put_snapshot(&self, stream: &StreamId, sequence: u64, retention: Retention, state: &[u8]) -> Result<(), Error> {
        self.snapshots().retention(retention.into()).put_bytes(stream, sequence, state)
    }

    fn latest_snapshot(&self, stream: &StreamId) -> Result<Option<Snapshot>, Error> {
        Ok(self.snapshots().latest(stream)?.map(Snapshot::from))
    }

    fn snapshot_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>, Error> {
        Ok(self.snapshots().at(stream, sequence)?.map(Snapshot::from))
    }

    fn snapshot_at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>, Error> {
        Ok(self.snapshots().at_time(stream, time)?.map(Snapshot::from))
    }

    fn snapshots_of(&self, stream: &StreamId) -> Result<Vec<(u64, Retention)>, Error> {
        let listed = self.snapshots().list(stream)?;
        Ok(listed.into_iter().map(|info| (info.sequence, info.retention.into())).collect())
    }

    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64, Error> {
        self.snapshots().delete(stream)
    }
}
