//! Its snapshots.

use crate::{Snapshot, SnapshotStore};
use annals::snapshot::Retention;
use annals::{Error, Store, StreamId, Timestamp};

impl From<annals::snapshot::Snapshot> for Snapshot {
    fn from(found: annals::snapshot::Snapshot) -> Self {
        Snapshot { sequence: found.sequence(), retention: found.retention(), state: found.bytes().to_vec() }
    }
}

impl SnapshotStore for Store {
    fn put_snapshot(&self, stream: &StreamId, sequence: u64, retention: Retention, state: &[u8]) -> Result<(), Error> {
        self.snapshots().retention(retention).put_bytes(stream, sequence, state)
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
        Ok(listed.into_iter().map(|info| (info.sequence, info.retention)).collect())
    }

    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64, Error> {
        self.snapshots().delete(stream)
    }
}
