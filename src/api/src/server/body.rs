//! Bodies as the door passes them: a request's, which may not stand still, and a response's, which
//! keeps its request in flight until it has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::compress::CompressedBody;
use super::idle::{Activity, InFlight};
use crate::request::BodyStalled;

/// The body of a request; it fails with [`BodyStalled`] when nothing comes for `stall`.
pub(super) struct RequestBody {
    incoming: Incoming,
    activity: Arc<Activity>,
    ended: bool,
    stall: Duration,
    /// Set while a read waits for the peer.
    timer: Option<Pin<Box<Sleep>>>,
}

impl RequestBody {
    pub fn new(incoming: Incoming, in_flight: &InFlight, stall: Duration) -> Self {
        Self {
            incoming,
            activity: in_flight.activity(),
            ended: false,
            stall,
            timer: None,
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended && !http_body::Body::is_end_stream(&self.incoming) {
            self.activity.leave_unread();
        }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(context) {
            this.timer = None;
            this.ended = !matches!(frame, Some(Ok(_)));
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let stall = this.stall;
        let timer = this
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + stall)));
        match timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(Box::new(BodyStalled)))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// The body of a response. While it exists, its request is in flight.
pub(super) struct ResponseBody {
    content: Content,
    _in_flight: Option<InFlight>,
}

pub(super) enum Content {
    Plain(Body),
    Compressed(Box<CompressedBody>),
}

impl ResponseBody {
    pub fn new(content: Content, in_flight: InFlight) -> Self {
        Self {
            content,
            _in_flight: Some(in_flight),
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        match &mut self.get_mut().content {
            Content::Plain(body) => Pin::new(body)
                .poll_frame(context)
                .map(|frame| frame.map(|frame| frame.map_err(Into::into))),
            Content::Compressed(body) => Pin::new(body.as_mut()).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Plain(body) => body.is_end_stream(),
            Content::Compressed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Plain(body) => body.size_hint(),
            Content::Compressed(body) => body.size_hint(),
        }
    }
}
