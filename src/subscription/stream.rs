//! Subscriptions as streams for async code, on any runtime.

use super::{Delivery, Subscription};
use crate::error::Result;
use futures_core::Stream;
use futures_core::stream::FusedStream;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A [`Subscription`] as a [`Stream`].
///
/// The task that polls reads the log, and blocks for as long as that takes (microseconds, unless
/// the disk must be read). It may be dropped at any time; [`Subscription::checkpoint`] returns its
/// progress.
#[derive(Debug)]
pub struct SubscriptionStream {
    subscription: Subscription,
}

impl Subscription {
    /// Turns the subscription into a stream for async code.
    pub fn into_stream(self) -> SubscriptionStream {
        SubscriptionStream { subscription: self }
    }
}

impl SubscriptionStream {
    /// Returns the subscription: its checkpoint, and what stops it.
    pub fn subscription(&self) -> &Subscription {
        &self.subscription
    }

    /// Returns the subscription, to be read by a thread.
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
