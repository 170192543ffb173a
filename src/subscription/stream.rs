//! Subscriptions for async code: the same, as a stream. Any runtime will do.

use super::{Delivery, Subscription};
use crate::error::Result;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A [`Subscription`] as a [`Stream`].
///
/// Reading the log is done by the task that polls, and blocks for as long as that takes
/// (microseconds, unless the disk has to be asked). Dropping it at any time is safe; what it has
/// come to, [`Subscription::checkpoint`] tells.
#[derive(Debug)]
pub struct SubscriptionStream {
    subscription: Subscription,
}

impl Subscription {
    /// The same, for async code.
    pub fn into_stream(self) -> SubscriptionStream {
        SubscriptionStream { subscription: self }
    }
}

impl SubscriptionStream {
    /// The subscription: how far it has come, and what stops it.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// The subscription, to be read by a thread.
    pub fn into_inner(self) -> Subscription {
        self.subscription
    }
}

impl Stream for SubscriptionStream {
    type Item = Result<Delivery>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let subscription = &mut self.subscription;
        loop {
            match subscription.try_next().transpose() {
                Some(next) => return Poll::Ready(Some(next)),
                None if subscription.is_ended() => return Poll::Ready(None),
                None if subscription.prepare(context.waker().clone()) => return Poll::Pending,
                None => {}
            }
        }
    }
}

impl FusedStream for SubscriptionStream {
    fn is_terminated(&self) -> bool {
        self.subscription.is_ended()
    }
}
