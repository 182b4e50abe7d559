//! Answers that go on: a panic while one is made ends this answer, and nothing else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use dialtone_vocab::Reason;
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

use crate::Error;
use crate::tasks::note_panic;

/// A body whose panic becomes INTERNAL in the trailers, counted under the method's name.
pub(crate) struct Guarded {
    /// None once it has panicked.
    body: Option<Body>,
    method: String,
}

impl Guarded {
    pub(crate) fn body(body: Body, method: String) -> Body {
        Body::new(Self { body: Some(body), method })
    }
}

/// What a caller is told of a panic.
pub(crate) fn defect() -> Status {
    Error::new(Reason::Internal, "a defect of ours; it was counted").into()
}

impl http_body::Body for Guarded {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let this = self.get_mut();
        let Some(body) = this.body.as_mut() else { return Poll::Ready(None) };
        if let Ok(polled) = catch_unwind(AssertUnwindSafe(|| Pin::new(body).poll_frame(cx))) {
            return polled;
        }
        this.body = None;
        note_panic(&this.method);
        let mut trailers = HeaderMap::new();
        Poll::Ready(Some(defect().add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(http_body::Body::size_hint).unwrap_or_default()
    }
}
