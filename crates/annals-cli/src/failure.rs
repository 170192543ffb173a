//! Failures: what a verb prints when it fails, and the exit code.

use crate::interruption;
use crate::output::{note, one_line};
use annals::Error;
use std::fmt::Display;
use std::io;
use std::process::ExitCode;

pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Exit codes, which scripts rely on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Ok = 0,
    Failed = 1,
    Usage = 2,
    Damaged = 3,
    Lost = 4,
    Locked = 5,
    Conflict = 6,
    NewerFormat = 7,
}

/// What to do about damage.
const DAMAGED: &str = "keep a copy of the directory; `annals verify` shows all of the damage, and `annals salvage` \
    copies what is intact; both change nothing";

/// Why a verb ends early.
#[derive(Debug)]
pub struct Failure {
    exit: Exit,
    /// `None` if the verb has printed everything already.
    message: Option<String>,
    hint: Option<String>,
    /// The signal that asked the process to end, which then ends as the signal would have ended it.
    signal: Option<i32>,
}

impl Failure {
    fn new(exit: Exit, message: impl Display) -> Self {
        Failure { message: Some(message.to_string()), ..Self::silent(exit) }
    }

    fn silent(exit: Exit) -> Self {
        Failure { exit, message: None, hint: None, signal: None }
    }

    /// The end of a verb after a signal asked for it.
    pub fn interrupted(signal: i32) -> Self {
        Failure { signal: Some(signal), ..Self::failed("interrupted") }
    }

    pub fn failed(message: impl Display) -> Self {
        Self::new(Exit::Failed, message)
    }

    pub fn usage(message: impl Display) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Damage that is already in the output.
    pub fn damage_shown() -> Self {
        Self::silent(Exit::Damaged)
    }

    /// Gaps that were reported when they were read.
    pub fn gaps_told() -> Self {
        Self::damage_shown().hint(DAMAGED)
    }

    /// Loss that is already in the output.
    pub fn loss_shown() -> Self {
        Self::silent(Exit::Lost)
    }

    /// A failed write to the output. A reader that closes a pipe has read enough, which is no
    /// failure.
    pub fn output(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::silent(Exit::Ok),
            _ => Self::failed(format_args!("output: {error}")),
        }
    }

    /// Puts the place of the failure before the message.
    pub fn at(mut self, place: impl Display) -> Self {
        self.message = self.message.map(|message| format!("{place}: {message}"));
        self
    }

    pub fn hint(mut self, hint: impl Display) -> Self {
        self.hint = Some(hint.to_string());
        self
    }

    /// Adds to the hint, if there is one.
    pub fn and_hint(self, more: impl Display) -> Self {
        match self.hint.clone() {
            Some(hint) => self.hint(format_args!("{hint}; {more}")),
            None => self.hint(more),
        }
    }

    /// Prints the failure on stderr, and returns the exit code.
    pub fn tell(self) -> ExitCode {
        if let Some(message) = &self.message {
            note("annals: error: ", &one_line(message));
        }
        if let Some(hint) = &self.hint {
            note("hint: ", &one_line(hint));
        }
        self.signal.into_iter().for_each(interruption::end);
        ExitCode::from(self.exit as u8)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let (exit, hint) = match &error {
            Error::Locked { .. } => {
                (Exit::Locked, "wait until it is closed there; a lock is released when its process ends")
            }
            Error::Conflict { .. } => (Exit::Conflict, "read the stream again, and decide again"),
            Error::ConsumerRunning { .. } => (Exit::Conflict, "stop it first"),
            Error::CheckpointConflict { .. } => (Exit::Conflict, "read the checkpoint again, and decide again"),
            Error::PositionAhead { .. } | Error::Diverged { .. } => (
                Exit::Failed,
                "`annals consumers reset` and `annals positions reset` set where to continue; events after the point \
                    where the histories diverge were not seen",
            ),
            Error::Damaged(_) => (Exit::Damaged, DAMAGED),
            Error::UnsupportedFormat { .. } => {
                (Exit::NewerFormat, "use a newer version of annals; nothing was changed")
            }
            Error::Unfinished { what: "repair", .. } => (Exit::Damaged, "`annals repair --yes` finishes it"),
            Error::Unfinished { .. } => (Exit::Damaged, "remove the directory, and salvage again"),
            Error::NotAStore { .. } => (Exit::Failed, "`annals import` and `annals append` create a store"),
            _ => (Exit::Failed, ""),
        };
        let failure = Failure::new(exit, &error);
        if hint.is_empty() { failure } else { failure.hint(hint) }
    }
}
