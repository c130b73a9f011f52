//! Answers that are errors.

use axum::body::Body;
use axum::http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use pythia_runtime::Error;
use pythia_runtime::engine::Refused;
use pythia_task::ErrorKind;
use pythia_text::Line;
use serde_json::{Value, json};
use std::fmt::Display;

/// An error as a client sees it: a status and one line.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, message: impl Display) -> Self {
        Self { status, message: Line(message).to_string() }
    }

    /// The request is wrong: 400.
    pub(crate) fn invalid(message: impl Display) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// A field of the request is wrong: 400.
    pub(crate) fn field(name: &str, problem: impl Display) -> Self {
        Self::invalid(format_args!("{name}: {problem}"))
    }

    /// Later there may be room: 429.
    pub(crate) fn busy(message: impl Display) -> Self {
        Self::new(StatusCode::TOO_MANY_REQUESTS, message)
    }

    /// Not the client's fault: 500.
    pub(crate) fn internal(message: impl Display) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// The server is ending: 503.
    pub(crate) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "the server is stopping")
    }

    fn kind(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "unavailable_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// `{"error": {"code", "message", "type"}}`.
    pub(crate) fn body(&self) -> Value {
        json!({ "error": { "code": self.status.as_u16(), "message": self.message, "type": self.kind() } })
    }
}

impl From<Refused> for Refusal {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Invalid(error) => error.into(),
            Refused::Busy { .. } => Self::busy(refused),
            Refused::Stopping => Self::stopping(),
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::Usage | ErrorKind::Data => Self::invalid(error),
            ErrorKind::Cancelled => Self::stopping(),
            ErrorKind::Io => Self::internal(error),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body().to_string()));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        match self.status {
            StatusCode::TOO_MANY_REQUESTS => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("1"))),
            StatusCode::UNAUTHORIZED => drop(headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
            // What is left of the body would be taken for the next request.
            StatusCode::PAYLOAD_TOO_LARGE | StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE => {
                drop(headers.insert(CONNECTION, HeaderValue::from_static("close")));
            }
            _ => {}
        }
        response
    }
}
