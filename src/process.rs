//! Process identity. A handle that `fork` copies into another process must not touch the files of
//! the process that opened it.

use std::fmt;
use std::io;

/// The process in which a value was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Process(u32);

/// The inner error of a call from another process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OtherProcess {
    /// The process that opened the file or directory.
    pub opener: u32,
}

impl Process {
    pub(crate) fn this() -> Self {
        Process(std::process::id())
    }

    pub(crate) fn is_this(self) -> bool {
        self == Self::this()
    }

    pub(crate) fn check(self) -> Result<(), OtherProcess> {
        if self.is_this() { Ok(()) } else { Err(OtherProcess { opener: self.0 }) }
    }
}

impl From<OtherProcess> for io::Error {
    fn from(other: OtherProcess) -> Self {
        io::Error::other(other)
    }
}

impl fmt::Display for OtherProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it was opened by process {}, and a forked process must open the store itself", self.opener)
    }
}

impl std::error::Error for OtherProcess {}
