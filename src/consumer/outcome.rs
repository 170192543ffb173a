//! The result of handling an event.

use std::fmt;

/// What a handler returns for an event. Converted from `()`, which is [`Ack`](Outcome::Ack), and
/// from a `Result<(), E>` or `Result<Outcome, E>`, whose error is [`Retry`](Outcome::Retry).
///
/// ```
/// use annals::Outcome;
/// assert_eq!(Outcome::from(()), Outcome::Ack);
/// assert_eq!(Outcome::from("x".parse::<u8>().map(drop)), Outcome::Retry("invalid digit found in string".into()));
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The event is done.
    Ack,
    /// Try again later, for this reason: see [`Retry`](crate::consumer::Retry).
    Retry(String),
    /// Give up, for this reason: the event becomes a dead letter at once.
    Park(String),
    /// Stop the consumer. This event is not done, and is the first one of its key when the consumer
    /// runs again.
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
