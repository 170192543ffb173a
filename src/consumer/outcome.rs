//! What a handler says of an event.

use std::fmt;

/// What a handler says of an event that it was given. Made of `()`, which is [`Ack`](Outcome::Ack),
/// and of a `Result<(), E>` or `Result<Outcome, E>`, whose error is [`Retry`](Outcome::Retry).
///
/// ```
/// use annals::Outcome;
/// assert_eq!(Outcome::from(()), Outcome::Ack);
/// assert_eq!(Outcome::from("x".parse::<u8>().map(drop)), Outcome::Retry("invalid digit found in string".into()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done.
    Ack,
    /// Not now, and why: it is to be tried again after a while, see
    /// [`Retry`](crate::consumer::Retry).
    Retry(String),
    /// Never, and why: it goes to the dead letters at once.
    Park(String),
    /// The consumer is to stop. This event is not done, and will be the first one of its key when
    /// the consumer runs again.
    Stop,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Ack
    }
}

impl<E: fmt::Display> From<Result<(), E>> for Outcome {
    fn from(result: Result<(), E>) -> Self {
        result.map_or_else(|error| Outcome::Retry(error.to_string()), Outcome::from)
    }
}

impl<E: fmt::Display> From<Result<Outcome, E>> for Outcome {
    fn from(result: Result<Outcome, E>) -> Self {
        result.unwrap_or_else(|error| Outcome::Retry(error.to_string()))
    }
}
