//! Errors: what can go wrong, and what to do about it.

use crate::expected::{Expected, ExpectedVersion};
use crate::process::OtherProcess;
use crate::stream::StreamId;
use crate::time::Timestamp;
use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The result of most calls.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what to do about it.
///
/// Errors can be cloned: when a group of commits fails together, each caller gets the same one.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Error {
    /// The stream is not as the writer expected, so nothing of the commit was stored.
    ///
    /// A result to match on: read the stream again, decide again, and retry with what was found.
    Conflict {
        /// The stream.
        stream: StreamId,
        /// The expectation of the writer.
        expected: Expected,
        /// The next sequence of the stream, which is also the number of its events. All of them can
        /// be read.
        actual: u64,
    },
    /// An event matches the query of a guard, so nothing of the commit was stored.
    ///
    /// A result to match on: read again what the decision was based on, decide again, and retry.
    GuardFailed {
        /// The name of the guard, or its number among those of the commit, from 0 on.
        guard: String,
        /// The position of the first event that matches. It can be read.
        position: u64,
    },
    /// The upstream is already tracked up to this position, so nothing of the commit was stored.
    ///
    /// A result to match on: the message was processed before; continue with the next one.
    AlreadyTracked {
        /// The name of the upstream.
        upstream: String,
        /// Its tracked position.
        tracked: u64,
        /// The upstream position that the commit tracks.
        position: u64,
    },
    /// An earlier commit has the same idempotency key in one of these streams, and other content.
    /// Nothing was stored.
    ///
    /// A result to match on: the key was used for two requests, or the request was changed. Repeat
    /// the original request to learn its result, or choose a new key.
    IdempotencyMismatch {
        /// The key.
        key: String,
        /// The positions of the earlier commit.
        positions: Range<u64>,
    },
    /// A checkpoint does not have the version that a commit expects, so it was not moved.
    ///
    /// A result to match on: another consumer works under the same name. Read the checkpoint again,
    /// and continue from there or stop.
    CheckpointConflict {
        /// The name of the checkpoint.
        name: String,
        /// The expectation of the consumer.
        expected: ExpectedVersion,
        /// The actual version; 0 if there is no such checkpoint.
        actual: u64,
    },
    /// A checkpoint, handler position, subscription, external state or guard has a position that
    /// the log has not reached. Nothing was handed out or stored.
    ///
    /// The store was restored from a backup, or is another one; or the number was never that of an
    /// event. If the store is a copy that lags, use one that does not. Otherwise reset the
    /// position: [`Consumer::reset_to`](crate::Consumer::reset_to),
    /// [`Checkpoints::reset`](crate::progress::Checkpoints::reset),
    /// [`Positions::reset`](crate::progress::Positions::reset); rebuild an external state.
    PositionAhead {
        /// What has the position.
        what: String,
        /// The position, or the sequence of a handler in its stream.
        position: u64,
        /// The next position of the log, or the next sequence of the stream.
        end: u64,
    },
    /// A checkpoint, handler position, dead letter or external state is about an event that this
    /// log does not have: another event has its number. Nothing was handed out.
    ///
    /// A backup was restored over the store, which has grown since, or the file of positions is
    /// from another copy. Some events after the point where the two histories diverge were never
    /// seen, and some that were seen no longer exist. Decide where to continue, and reset the
    /// position, as for [`Error::PositionAhead`]; drop a dead letter.
    Diverged {
        /// What has the position.
        what: String,
        /// The position, or the sequence of a handler in its stream.
        position: u64,
        /// When its event was recorded; `None` if the log had no event there at the time.
        recorded_at: Option<Timestamp>,
        /// When the event was recorded that has this number now.
        found: Timestamp,
    },
    /// A consumer of this name is already running in this process. Nothing was changed: stop that
    /// one first, or choose another name.
    ConsumerRunning {
        /// Its name.
        name: String,
    },
    /// The handler of a consumer has failed on an event too often, and the consumer was configured
    /// to [stop](crate::consumer::Poison::Stop) then.
    ///
    /// Its checkpoint is before the event. Correct the handler and run it again, or step over the
    /// event with [`Consumer::reset_to`](crate::Consumer::reset_to).
    HandlerFailed {
        /// The name of the consumer.
        consumer: String,
        /// The position of the event.
        position: u64,
        /// Number of attempts.
        attempts: u64,
        /// The reason of the last failure.
        reason: String,
    },
    /// Input that cannot be stored or found: an empty name, a text form that cannot be parsed, an
    /// empty path. Nothing was stored; correct it. Input that is only too long or too large is
    /// [`Error::LimitExceeded`].
    Invalid {
        /// Which part of the input.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A limit is exceeded: bytes in a name, in an event or in a commit, tags of an event. Nothing
    /// was stored. Shorten or split the input, or raise the limit if [`Options`](crate::Options)
    /// has one.
    LimitExceeded {
        /// What is limited, with its unit: `bytes in the name of a domain`.
        what: &'static str,
        /// The actual number.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Acknowledged bytes have changed or are missing. Nothing was modified.
    ///
    /// Keep a copy of the directory. Run `annals verify` to see all of the damage; restore a
    /// backup, or salvage what is intact.
    Damaged(Box<Damage>),
    /// A file was written by a newer version of the format. Nothing was modified; use a newer
    /// version of Annals.
    UnsupportedFormat {
        /// The file.
        path: PathBuf,
        /// What is not supported.
        found: String,
    },
    /// Another process, or another handle in this one, has the store open. Share the
    /// [`Store`](crate::Store) (it can be cloned), or wait until the owner closes it; the lock ends
    /// with its process.
    Locked {
        /// The directory of the store.
        path: PathBuf,
        /// The owner, if known: `pid 4711 on host` for a process that has it open for writing.
        owner: Option<String>,
    },
    /// LOCK, or the whole directory, was removed or replaced while the store was open. Another
    /// process may open the store now, or new events may never be found, so the store accepts no
    /// more appends (reads continue) and writes nothing more. Acknowledged commits are in the files
    /// that were open then.
    ///
    /// Close the store and make sure that no other process has it open. Then open it again, and
    /// read what is there before you retry.
    LockLost {
        /// The lock file.
        path: PathBuf,
    },
    /// The handle was opened by another process and copied here by `fork`. Nothing was stored: the
    /// other process owns the store, and closing or dropping the handle here leaves the lock and
    /// the files as they are.
    ///
    /// Append in the process that opened the store, or open it in the process that needs it.
    Forked {
        /// The id of the process that opened the store.
        opener: u32,
    },
    /// The directory holds no store, and a file of another program has a name that a store uses.
    /// Nothing was modified.
    ///
    /// Choose another directory, or move the file away to create a store here.
    ForeignFile {
        /// The file.
        path: PathBuf,
    },
    /// A call to the operating system failed. For an append this means that nothing of the commit
    /// was stored: once the cause is gone (for example, the disk has room again), the same store
    /// continues.
    Io {
        /// The operation: `write`, `open` and so on.
        operation: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The system's error.
        source: Arc<io::Error>,
    },
    /// The disk has less free space than [`Options::reserve`](crate::Options::reserve) asks for.
    /// Nothing was stored; make room and retry.
    DiskFull {
        /// The directory of the store.
        path: PathBuf,
        /// Free bytes.
        available: u64,
        /// Bytes that must stay free.
        reserve: u64,
    },
    /// A sync failed, so it is unknown whether the commit survives. It may or may not be there
    /// after a reopen.
    ///
    /// The store accepts no more appends (reads continue). Close it, check the disk, open it again,
    /// and read what is there before you retry.
    DurabilityUnknown {
        /// Which sync failed, and why.
        why: Arc<str>,
    },
    /// A salvage into this directory, or a repair of it, was interrupted. Nothing was modified.
    ///
    /// Remove a directory that was being salvaged into, and salvage again; run an interrupted
    /// repair again, which finishes it.
    Unfinished {
        /// The directory.
        path: PathBuf,
        /// What was interrupted: `salvage` or `repair`.
        what: &'static str,
    },
    /// The `apply` of a projection has returned an error, or panicked, so its state can no longer
    /// be read. No event is lost, and appends continue.
    ///
    /// Correct it, and start the projection again: it continues from its last saved state. Or
    /// [rebuild](crate::projection::ReadModel::rebuild) it.
    ProjectionFailed {
        /// Its name.
        projection: String,
        /// Its version.
        version: u32,
        /// The position of the event that it could not apply.
        position: u64,
        /// The error of `apply`.
        why: String,
    },
    /// The store was opened read-only.
    ReadOnly,
    /// The store has been closed.
    Closed,
    /// There is no store at this path: the directory is missing, or it holds no file of a store.
    NotAStore {
        /// The path.
        path: PathBuf,
    },
    /// A payload could not be encoded or decoded.
    Codec {
        /// The encoding: `json`, `bincode`.
        codec: &'static str,
        /// The error of the codec.
        why: String,
    },
}

/// Damaged bytes, and the positions that they held.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// The file.
    pub path: PathBuf,
    /// The bytes of the file, from the first bad one to the next intact ones (or the end).
    pub bytes: Range<u64>,
    /// The positions that cannot be read, as far as is known; the end may be unknown, and is then
    /// `u64::MAX`.
    pub positions: Range<u64>,
    /// What was found.
    pub why: String,
}

impl Error {
    pub(crate) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Error::Invalid { what, why: why.into() }
    }

    pub(crate) fn limit(what: &'static str, size: usize, limit: usize) -> Self {
        Error::LimitExceeded { what, size, limit }
    }

    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if source.get_ref().is_some_and(|inner| inner.is::<NotOwner>()) {
            return Error::Closed;
        }
        if let Some(OtherProcess { opener }) = source.get_ref().and_then(|inner| inner.downcast_ref()) {
            return Error::Forked { opener: *opener };
        }
        Error::Io { operation, path: path.to_owned(), source: Arc::new(source) }
    }

    /// Returns the error for a failed operation on the directory of a store.
    pub(crate) fn directory(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::no_directory(operation, path, source, "a store is a directory, and this is not one")
    }

    /// Returns the error for a directory; also where the system says of a file that it already
    /// exists, or is not a directory.
    pub(crate) fn no_directory(operation: &'static str, path: &Path, source: io::Error, why: &'static str) -> Self {
        let source = match source.kind() {
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                io::Error::new(io::ErrorKind::NotADirectory, why)
            }
            _ => source,
        };
        Error::io(operation, path, source)
    }

    pub(crate) fn damaged(path: &Path, bytes: Range<u64>, positions: Range<u64>, why: impl Into<String>) -> Self {
        Error::Damaged(Box::new(Damage { path: path.to_owned(), bytes, positions, why: why.into() }))
    }
}

/// The inner error of a call that comes too late: the store has released its lock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotOwner;

impl fmt::Display for NotOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the store is closed, and its lock is released")
    }
}

impl std::error::Error for NotOwner {}

/// Returns whether a call failed because the process, or the system, has too many files open.
#[cfg(unix)]
pub(crate) fn is_out_of_files(error: &io::Error) -> bool {
    let errno = rustix::io::Errno::from_io_error(error);
    errno.is_some_and(|errno| errno == rustix::io::Errno::MFILE || errno == rustix::io::Errno::NFILE)
}

#[cfg(not(unix))]
pub(crate) fn is_out_of_files(_: &io::Error) -> bool {
    false
}

/// Formats a range that is not empty: `position 3`, `positions 3 to 5`, `positions from 3`.
pub(crate) fn numbers(of: &str, Range { start, end }: &Range<u64>) -> String {
    match end - start {
        _ if *end == u64::MAX => format!("{of}s from {start}"),
        1 => format!("{of} {start}"),
        _ => format!("{of}s {start} to {}", end - 1),
    }
}

/// Returns the message of a panic that was caught in the application's code.
pub(crate) fn told_by(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("no message"))
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, bytes) = (self.path.display(), &self.bytes);
        write!(f, "{path}, bytes {} to {}", bytes.start, bytes.end)?;
        if self.positions.start < self.positions.end {
            write!(f, ", {}", numbers("position", &self.positions))?;
        }
        write!(f, ": {}", self.why)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Conflict { stream, expected, actual } => {
                write!(f, "conflict on {stream}: expected {expected}, found next sequence {actual}; nothing was stored")
            }
            Error::GuardFailed { guard, position } => {
                write!(f, "{guard} does not hold: the event at position {position} matches; nothing was stored")
            }
            Error::AlreadyTracked { upstream, tracked, position } => {
                write!(
                    f,
                    "{upstream} is already tracked up to {tracked}, and {position} is not after that; nothing was \
                        stored"
                )
            }
            Error::IdempotencyMismatch { key, positions } => write!(
                f,
                "the idempotency key {key:?} was used for other content, at position {}; nothing was stored",
                positions.start
            ),
            Error::CheckpointConflict { name, expected, actual } => {
                write!(
                    f,
                    "conflict on checkpoint {name}: expected {expected}, found version {actual}; it was not moved"
                )
            }
            Error::PositionAhead { what, position, end } => write!(
                f,
                "{what} is at {position}, and the log has not reached it: the next position is {end}; the store was \
                    restored from a backup, or is another one: reset it, or use a newer copy"
            ),
            Error::Diverged { what, position, recorded_at, found } => {
                write!(f, "{what} is at {position}, and ")?;
                match recorded_at {
                    Some(time) => write!(f, "its event, recorded at {time}, is not in the log: ")?,
                    None => f.write_str("there was no such event at the time: ")?,
                }
                write!(
                    f,
                    "the one there was recorded at {found}; a backup was restored over the store, or the log is \
                        another one: reset it"
                )
            }
            Error::ConsumerRunning { name } => write!(f, "the consumer {name} is already running"),
            Error::HandlerFailed { consumer, position, attempts, reason } => {
                write!(f, "{consumer} failed on the event at position {position}, {attempts} times: {reason}")
            }
            Error::Invalid { what, why } => write!(f, "invalid {what}: {why}"),
            Error::LimitExceeded { what, size, limit } => {
                write!(f, "{size} {what} are over the limit of {limit}")
            }
            Error::Damaged(damage) => write!(f, "damaged: {damage}"),
            Error::UnsupportedFormat { path, found } => {
                let path = path.display();
                write!(f, "{path} needs a newer version of Annals: {found}")
            }
            Error::Locked { path, owner } => {
                let owner = owner.as_deref().unwrap_or("another process");
                write!(f, "{} is locked by {owner}", path.display())
            }
            Error::LockLost { path } => write!(
                f,
                "{} was removed or replaced while the store was open; the store takes no more appends: close it, make \
                    sure \
                 that no other process has it open, and open it again",
                path.display()
            ),
            Error::Forked { opener } => {
                write!(f, "the store was opened by process {opener}, which forked; a handle works only there")
            }
            Error::ForeignFile { path } => {
                write!(
                    f,
                    "{} is not a file of a store, and a store would overwrite it; nothing was changed",
                    path.display()
                )
            }
            Error::Io { operation, path, source } => {
                write!(f, "{operation} {}: {source}", path.display())?;
                match is_out_of_files(source) {
                    true => f.write_str("; close files, or raise the limit of open files (`ulimit -n`), and try again"),
                    false => Ok(()),
                }
            }
            Error::DiskFull { path, available, reserve } => write!(
                f,
                "{}: {available} bytes free on the disk, {reserve} must stay free; nothing was stored",
                path.display()
            ),
            Error::DurabilityUnknown { why } => write!(
                f,
                "a sync failed ({why}): whether the commit is durable is unknown; reopen the store and read before \
                    retrying"
            ),
            Error::Unfinished { path, what } => write!(f, "{}: a {what} was interrupted", path.display()),
            Error::ProjectionFailed { projection, version, position, why } => {
                write!(f, "projection {projection}, version {version}, failed at position {position}: {why}")
            }
            Error::ReadOnly => f.write_str("the store was opened read-only"),
            Error::Closed => f.write_str("the store is closed"),
            Error::NotAStore { path } if path.as_os_str().is_empty() => f.write_str("an empty path is not a store"),
            Error::NotAStore { path } => write!(f, "{} is not a store", path.display()),
            Error::Codec { codec, why } => write!(f, "{codec}: {why}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(&**source),
            _ => None,
        }
    }
}
