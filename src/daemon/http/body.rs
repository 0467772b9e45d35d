//! Bodies: of requests, short and in time; of answers, wiped once they're sent.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Buf;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use zeroize::Zeroizing;

use crate::wire::{Code, MAX_REQUEST, Refusal};

/// The body of an answer, all of it.
pub struct Body(Option<Text>);

/// Bytes on their way out. They may hold a token.
pub struct Text {
    bytes: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl Body {
    /// One of these bytes.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self(Some(Text {
            bytes: Zeroizing::new(bytes),
            sent: 0,
        }))
    }

    /// What of it isn't sent.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], Buf::chunk)
    }
}

impl Buf for Text {
    fn remaining(&self) -> usize {
        self.bytes.len() - self.sent
    }
    fn chunk(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }
    fn advance(&mut self, count: usize) {
        self.sent += count;
    }
}

impl http_body::Body for Body {
    type Data = Text;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Text>, Infallible>>> {
        Poll::Ready(self.0.take().map(|text| Ok(Frame::data(text))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(u64::try_from(self.bytes().len()).unwrap_or(u64::MAX))
    }
}

/// The whole body of a request, which may take so long to arrive.
pub async fn read(body: Incoming, patience: Duration) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    if body.size_hint().lower() > u64::try_from(MAX_REQUEST).unwrap_or(u64::MAX) {
        return Err(too_long());
    }
    let mut body = pin!(body);
    let mut read = Zeroizing::new(Vec::new());
    let all = async {
        while let Some(frame) = poll_fn(|context| body.as_mut().poll_frame(context)).await {
            let frame = frame.map_err(|_| cut_off())?;
            let Ok(data) = frame.into_data() else {
                continue;
            };
            if read.len() + data.len() > MAX_REQUEST {
                return Err(too_long());
            }
            read.extend_from_slice(&data);
        }
        Ok(())
    };
    tokio::time::timeout(patience, all)
        .await
        .unwrap_or_else(|_| Err(late()))?;
    Ok(read)
}

fn too_long() -> Refusal {
    Refusal::new(
        Code::RequestTooLarge,
        format!("The request's body has more than {MAX_REQUEST} bytes."),
        "Send one short JSON object, such as {\"lifespan\":600}, or no body.",
    )
}

fn cut_off() -> Refusal {
    Refusal::new(
        Code::MalformedRequest,
        "The request's body ended early.",
        "Send as many bytes as Content-Length says.",
    )
}

fn late() -> Refusal {
    Refusal::new(
        Code::Timeout,
        "The request's body did not arrive in time.",
        "Send a request with its body at once.",
    )
}
