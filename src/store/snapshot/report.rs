//! A snapshot as a reader sees it, and why one is not used.

use crate::codec;
use crate::error::Result;
use crate::format::snapshot_file::{Codec, Retention, SnapshotHeader};
use crate::format::state_file::Unfit;
use crate::snapshots::Unusable;
use crate::stream::StreamId;
use crate::time::Timestamp;
use serde::de::DeserializeOwned;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// The state of an aggregate after one of its events. Read from
/// [`Snapshots`](crate::snapshot::Snapshots).
///
/// Its checksums were verified on the bytes that it holds, and the stream has the event that it
/// names.
#[derive(Clone)]
pub struct Snapshot {
    pub(crate) stream: StreamId,
    pub(crate) head: SnapshotHeader,
    /// The whole file.
    pub(crate) file: Vec<u8>,
    pub(crate) state: Range<usize>,
}

impl Snapshot {
    /// The stream.
    pub fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The sequence of the last event that the state includes.
    pub fn sequence(&self) -> u64 {
        self.head.sequence
    }

    /// The position of that event.
    pub fn position(&self) -> u64 {
        self.head.position
    }

    /// When that event was recorded.
    pub fn recorded_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.head.recorded_at)
    }

    /// When the snapshot was put, by the clock of the store.
    pub fn created_at(&self) -> Timestamp {
        Timestamp::from_nanos(self.head.created_at)
    }

    /// How long it is kept.
    pub fn retention(&self) -> Retention {
        self.head.retention
    }

    /// The fingerprint of the schema of the state: see
    /// [`Snapshots::fingerprint`](crate::snapshot::Snapshots::fingerprint).
    pub fn fingerprint(&self) -> u64 {
        self.head.fingerprint
    }

    /// The encoding of the state.
    pub fn codec(&self) -> Codec {
        self.head.codec
    }

    /// The bytes of the state.
    pub fn bytes(&self) -> &[u8] {
        &self.file[self.state.clone()]
    }

    /// Decodes the state according to [`Snapshot::codec`].
    ///
    /// # Errors
    ///
    /// [`Error::Codec`](crate::Error::Codec) if the bytes are not such a value, or raw.
    pub fn decode<S: DeserializeOwned>(&self) -> Result<S> {
        codec::decode_state(self.codec(), self.bytes())
    }
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("stream", &self.stream)
            .field("sequence", &self.head.sequence)
            .field("bytes", &self.state.len())
            .finish_non_exhaustive()
    }
}

/// The header of a snapshot file. The state has not been read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotInfo {
    /// The stream.
    pub stream: StreamId,
    /// The sequence of the last event that the state includes.
    pub sequence: u64,
    /// The position of that event.
    pub position: u64,
    /// When that event was recorded.
    pub recorded_at: Timestamp,
    /// When the snapshot was put.
    pub created_at: Timestamp,
    /// How long it is kept.
    pub retention: Retention,
    /// The fingerprint of the schema of the state.
    pub fingerprint: u64,
    /// The encoding of the state.
    pub codec: Codec,
    /// Length of the state in bytes.
    pub bytes: u64,
    /// The path of its file.
    pub path: PathBuf,
}

impl SnapshotInfo {
    pub(crate) fn new(stream: StreamId, head: &SnapshotHeader, path: PathBuf) -> Self {
        SnapshotInfo {
            stream,
            sequence: head.sequence,
            position: head.position,
            recorded_at: Timestamp::from_nanos(head.recorded_at),
            created_at: Timestamp::from_nanos(head.created_at),
            retention: head.retention,
            fingerprint: head.fingerprint,
            codec: head.codec,
            bytes: head.state_len,
            path,
        }
    }
}

/// Why a snapshot is not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SnapshotFault {
    /// It is torn, or its bytes have changed.
    Damaged,
    /// The file cannot be read.
    Unreadable,
    /// A newer version of the format wrote it.
    NewerFormat,
    /// It was put with another [fingerprint](crate::snapshot::Snapshots::fingerprint).
    OtherFingerprint,
    /// The stream does not have the event that it names: the snapshot belongs to another store or
    /// stream, to events that were lost in a power cut, or to a deleted edition.
    NotOfStream,
    /// It is not a state of the requested type.
    Undecodable,
}

impl SnapshotFault {
    /// `None` if the file has just been removed, which is not worth reporting.
    pub(crate) fn of(unusable: &Unusable) -> Option<Self> {
        match unusable {
            Unusable::Gone => None,
            Unusable::Unreadable => Some(SnapshotFault::Unreadable),
            Unusable::Unfit(Unfit::Damaged) => Some(SnapshotFault::Damaged),
            Unusable::Unfit(Unfit::Newer) => Some(SnapshotFault::NewerFormat),
        }
    }
}

impl fmt::Display for SnapshotFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SnapshotFault::Damaged => "torn or changed",
            SnapshotFault::Unreadable => "it cannot be read",
            SnapshotFault::NewerFormat => "a newer version of Annals wrote it",
            SnapshotFault::OtherFingerprint => "it has another fingerprint",
            SnapshotFault::NotOfStream => "the stream does not have the event that it names",
            SnapshotFault::Undecodable => "its state is of another type",
        })
    }
}

/// How many snapshots were not used since the store was opened, by reason. A snapshot that is met
/// twice counts twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct SkippedSnapshots {
    /// [`SnapshotFault::Damaged`].
    pub damaged: u64,
    /// [`SnapshotFault::Unreadable`].
    pub unreadable: u64,
    /// [`SnapshotFault::NewerFormat`].
    pub newer_format: u64,
    /// [`SnapshotFault::OtherFingerprint`].
    pub other_fingerprint: u64,
    /// [`SnapshotFault::NotOfStream`].
    pub not_of_stream: u64,
    /// [`SnapshotFault::Undecodable`].
    pub undecodable: u64,
    /// States that [`Load`](crate::snapshot::Load) did not put, because the codec does not return
    /// them unchanged.
    pub unfaithful: u64,
}

impl SkippedSnapshots {
    pub(crate) fn add(&mut self, fault: SnapshotFault) {
        *match fault {
            SnapshotFault::Damaged => &mut self.damaged,
            SnapshotFault::Unreadable => &mut self.unreadable,
            SnapshotFault::NewerFormat => &mut self.newer_format,
            SnapshotFault::OtherFingerprint => &mut self.other_fingerprint,
            SnapshotFault::NotOfStream => &mut self.not_of_stream,
            SnapshotFault::Undecodable => &mut self.undecodable,
        } += 1;
    }
}

/// The result of reading all snapshots of a store.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SnapshotReport {
    /// Number of files read.
    pub files: u64,
    /// Number of bytes in these files.
    pub bytes: u64,
    /// Number of usable snapshots.
    pub usable: u64,
    /// Snapshots that are not usable, and why. No event is lost with them.
    pub unusable: Vec<(PathBuf, SnapshotFault)>,
}

/// The result of comparing the snapshots of a stream with a replay.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SnapshotCheck {
    /// Number of snapshots compared.
    pub compared: u64,
    /// Sequences of those that differ from the replay.
    pub mismatched: Vec<u64>,
    /// Sequences of those that are never used, and why.
    pub unusable: Vec<(u64, SnapshotFault)>,
}
