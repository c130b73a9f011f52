//! Bodies of requests, read within limits, and bodies of answers.

use crate::app::{App, Reserved};
use crate::limits;
use crate::refusal::Refusal;
use axum::body::{Body, Bytes};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Response, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use tokio::time::timeout;

/// All of a body. Its bytes count as memory of the request from now on.
pub(crate) async fn read(app: &Arc<App>, body: Body) -> Result<(Vec<u8>, Reserved), Refusal> {
    let mut reserved = Reserved::none(app);
    let bytes = timeout(app.timeout, collect(body, &mut reserved)).await;
    let slow = || Refusal::new(StatusCode::REQUEST_TIMEOUT, format_args!("no whole body in {:?}", app.timeout));
    Ok((bytes.unwrap_or_else(|_| Err(slow()))?, reserved))
}

async fn collect(mut body: Body, reserved: &mut Reserved) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    let declared = body.size_hint().lower();
    if declared > limits::BODY_BYTES as u64 {
        return Err(too_long(&mut body).await);
    }
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| Refusal::invalid(format_args!("the body cannot be read: {e}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > limits::BODY_BYTES - bytes.len() {
            drop(bytes);
            return Err(too_long(&mut body).await);
        }
        reserved.grow(data.len())?;
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Reads on for a while. If a connection is closed while its client sends, many clients never see the answer.
async fn too_long(body: &mut Body) -> Refusal {
    let drain = async {
        let mut left = limits::DRAINED_BYTES;
        while let Some(Ok(frame)) = body.frame().await {
            left = left.saturating_sub(frame.data_ref().map_or(0, |data| data.len()));
            if left == 0 {
                return;
            }
        }
    };
    let _ = timeout(limits::DRAINING, drain).await;
    let most = limits::BODY_BYTES;
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, format_args!("the body has more than {most} bytes"))
}

/// A reply of JSON, whose memory is returned when it was sent.
pub(crate) fn json(text: String, reserved: Reserved) -> Response<Body> {
    let mut response = Response::new(Body::new(Whole { bytes: Some(text.into()), _reserved: reserved }));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A body that is there from the start.
struct Whole {
    bytes: Option<Bytes>,
    _reserved: Reserved,
}

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.bytes.take().map(|bytes| Ok(Frame::data(bytes))))
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, Bytes::len) as u64)
    }
}
