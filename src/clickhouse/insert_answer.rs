//! The answer to an INSERT, and whether it confirms the rows.
//!
//! Rows are confirmed only by an answer that ClickHouse alone gives: status 200, one of its own headers, no exception in
//! headers or body, an empty body, and no fewer rows in `X-ClickHouse-Summary` than were sent, where it is sent. A login page,
//! an empty 200 of a proxy or a body that begins with `Code: 241` are not: the INSERT may be in or not, and is made again
//! under the same token.
//!
//! Source of the headers: ClickHouse, `src/Server/HTTPHandler.cpp`. `X-ClickHouse-Query-Id` came with 20.x,
//! `X-ClickHouse-Summary` with 18.x, `X-ClickHouse-Exception-Code` with 20.x, `X-ClickHouse-Exception-Tag` with 25.11.

use std::error::Error as _;
use std::io;

use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy;

use crate::clickhouse::error_class::{
    ErrorClass, Failure, TIMEOUT_EXCEEDED, exception_code, hyper_error, quoted, refuses_login, rejected,
    unanswered,
};
use crate::core::error::Error;

/// Bytes of an error's body that are read.
pub(super) const MAX_BODY: usize = 64 << 10;

#[derive(Debug)]
pub struct InsertAnswer {
    status: StatusCode,
    /// `X-ClickHouse-Exception-Code`.
    exception: Option<u32>,
    /// One of the headers that only ClickHouse sends.
    is_clickhouse: bool,
    /// `written_rows` of `X-ClickHouse-Summary`.
    written_rows: Option<u64>,
    body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug)]
pub enum RequestError {
    Http {
        error: legacy::Error,
        /// The connection had carried an answer before.
        is_kept: bool,
    },
    Body(hyper::Error),
    TimedOut,
    /// The password cannot be had: nothing was sent.
    Credentials(Error),
}

impl InsertAnswer {
    pub async fn read(response: http::Response<Incoming>) -> Result<InsertAnswer, RequestError> {
        let (parts, mut incoming) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let mut answer = InsertAnswer {
            status: parts.status,
            exception: header("x-clickhouse-exception-code").and_then(|code| code.parse().ok()),
            is_clickhouse: parts.headers.keys().any(|name| name.as_str().starts_with("x-clickhouse-")),
            written_rows: header("x-clickhouse-summary").and_then(written_rows),
            body: Vec::new(),
        };
        // The connection is closed with the rest of it.
        (answer.body, _) = read_up_to(MAX_BODY, &mut incoming).await?;
        Ok(answer)
    }

    /// Rows that were written, those of views included, as far as it says. The number is the same for
    /// an INSERT whose token is recognised.
    pub fn written_rows(&self) -> Option<u64> {
        self.written_rows
    }

    /// Whether ClickHouse did not take the user or the password.
    pub fn refuses_login(&self) -> bool {
        let text = String::from_utf8_lossy(&self.body);
        let code = self.exception.or_else(|| exception_code(&text));
        refuses_login(code, self.status)
    }

    /// `Ok`: ClickHouse has the rows.
    pub fn confirms(&self, url: &str, rows: u64) -> Result<(), Failure> {
        let text = String::from_utf8_lossy(&self.body);
        let text = match text.find("Code: ") {
            // An exception after the status stands behind a marker in the body.
            Some(at) if self.is_clickhouse => text[at..].trim(),
            _ => text.trim(),
        };
        let code = self.exception.or_else(|| exception_code(text));
        // A 200 that is not ClickHouse's may quote an exception; only ClickHouse says that rows are at fault.
        if let Some(code) = code
            && (self.is_clickhouse || self.status != StatusCode::OK)
        {
            let mut failure = rejected(code, text, self.status);
            if code == TIMEOUT_EXCEEDED && self.written_rows.is_some_and(|written| written > 0) {
                // The time may have passed after the rows were in: seen in 19 of 150 INSERTs at ClickHouse 26.7.
                failure.class = ErrorClass::Retry;
            }
            return Err(failure);
        }
        match self.status {
            StatusCode::OK => self.check_confirmation(url, text, rows),
            status => {
                let class = match status {
                    // A proxy that refuses a request may pass smaller ones.
                    StatusCode::PAYLOAD_TOO_LARGE
                    | StatusCode::URI_TOO_LONG
                    | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => ErrorClass::TooLarge,
                    _ => ErrorClass::Retry,
                };
                let message = format!("it answered {status}{}", quoted(text));
                Err(Failure { error: Error::ClickHouseAnswer { url: url.into(), message }, class })
            }
        }
    }

    fn check_confirmation(&self, url: &str, text: &str, rows: u64) -> Result<(), Failure> {
        let doubt = if !self.is_clickhouse {
            "without any header of ClickHouse's: something else answered in its place"
        } else if !text.is_empty() {
            "with a body, which an INSERT has not"
        } else if self.written_rows.is_some_and(|written| written > 0 && written < rows) {
            "for fewer rows than were sent"
        } else {
            return Ok(());
        };
        let message = format!("it answered {} {doubt}{}", self.status, quoted(text));
        let error = Error::ClickHouseAnswer { url: url.into(), message };
        Err(Failure { error, class: ErrorClass::Unconfirmed })
    }
}

/// Reads a body to its end, or its first `max` bytes; `true`: there is more.
pub(super) async fn read_up_to(max: usize, incoming: &mut Incoming) -> Result<(Vec<u8>, bool), RequestError> {
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(RequestError::Body)?;
        let Some(data) = frame.data_ref() else { continue };
        let room = max - body.len();
        body.extend_from_slice(&data[..data.len().min(room)]);
        if data.len() > room {
            return Ok((body, true));
        }
    }
    Ok((body, false))
}

impl RequestError {
    pub fn failure(self, url: &str) -> Failure {
        let class = self.class();
        let error = match self {
            RequestError::Http { error, .. } => unanswered(url, &error),
            RequestError::Body(error) => unanswered(url, &error),
            RequestError::TimedOut => {
                Error::ClickHouseUnreachable { url: url.into(), message: "no answer in time".into() }
            }
            RequestError::Credentials(error) => error,
        };
        Failure { error, class }
    }

    pub fn class(&self) -> ErrorClass {
        match self {
            RequestError::Http { error, is_kept: true } if is_before_answer(error) => {
                ErrorClass::KeptConnectionEnded
            }
            RequestError::Http { error, .. } if error.is_connect() => ErrorClass::NotSent,
            RequestError::Http { .. } | RequestError::Body(_) => ErrorClass::Retry,
            RequestError::TimedOut => ErrorClass::TimedOut,
            RequestError::Credentials(_) => ErrorClass::RetrySlowly,
        }
    }
}

/// Whether a connection ended in order or was reset, and no byte of an answer came.
fn is_before_answer(error: &legacy::Error) -> bool {
    let Some(error) = hyper_error(error) else { return false };
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return true;
    }
    let kind = error.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected};
    matches!(kind, Some(BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected))
}

/// `{"read_rows":"0",…,"written_rows":"5000",…}`
fn written_rows(summary: &str) -> Option<u64> {
    let summary: serde_json::Value = serde_json::from_str(summary).ok()?;
    summary.get("written_rows")?.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, is_clickhouse: bool, body: &str) -> InsertAnswer {
        InsertAnswer {
            status: StatusCode::from_u16(status).unwrap(),
            exception: None,
            is_clickhouse,
            written_rows: None,
            body: body.into(),
        }
    }

    fn class(answer: &InsertAnswer) -> Option<ErrorClass> {
        answer.confirms("http://x", 5).err().map(|failure| failure.class)
    }

    #[test]
    fn only_clickhouse_confirms() {
        assert_eq!(class(&answer(200, true, "")), None);
        assert_eq!(class(&InsertAnswer { written_rows: Some(5), ..answer(200, true, "") }), None);
        // Rows of views count as well; a token that was recognised may count nothing.
        assert_eq!(class(&InsertAnswer { written_rows: Some(10), ..answer(200, true, "") }), None);
        assert_eq!(class(&InsertAnswer { written_rows: Some(0), ..answer(200, true, "") }), None);
        let unconfirmed = Some(ErrorClass::Unconfirmed);
        assert_eq!(class(&InsertAnswer { written_rows: Some(4), ..answer(200, true, "") }), unconfirmed);
        assert_eq!(class(&answer(200, false, "")), unconfirmed);
        assert_eq!(class(&answer(200, false, "<html>Please log in</html>")), unconfirmed);
        assert_eq!(class(&answer(200, false, "Code: 241. DB::Exception: Memory limit")), unconfirmed);
        assert_eq!(class(&answer(200, false, "Code: 469. DB::Exception: Constraint")), unconfirmed);
        assert_eq!(class(&answer(200, true, "Ok.")), unconfirmed);
        assert_eq!(class(&answer(204, true, "")), Some(ErrorClass::Retry));
        assert_eq!(class(&answer(302, false, "")), Some(ErrorClass::Retry));
    }

    #[test]
    fn an_exception_is_one_whatever_the_status() {
        let exception = "Code: 469. DB::Exception: Constraint `c` is violated. (VIOLATED_CONSTRAINT)";
        assert_eq!(class(&answer(200, true, exception)), Some(ErrorClass::Refused));
        assert_eq!(class(&answer(500, false, exception)), Some(ErrorClass::Refused));
        let late = format!(
            "\r\n__exception__\r\naepndgjucdaeiupk\r\n{exception}\n120 aepndgjucdaeiupk\r\n__exception__"
        );
        assert_eq!(class(&answer(200, true, &late)), Some(ErrorClass::Refused));
        let header = InsertAnswer { exception: Some(241), ..answer(200, true, "") };
        assert_eq!(class(&header), Some(ErrorClass::MaybeTooLarge));
    }

    #[test]
    fn rows_that_were_written_before_the_time_was_over_may_be_in() {
        let timed_out = |written_rows| {
            let text = "Code: 159. DB::Exception: Timeout exceeded: elapsed 15 ms, maximum: 1 ms. (TIMEOUT_EXCEEDED)";
            let answer = InsertAnswer { written_rows, ..answer(408, true, text) };
            answer.confirms("http://x", 1).unwrap_err()
        };
        for (written_rows, class, may_be_in) in [
            (None, ErrorClass::MaybeTooLarge, false),
            (Some(0), ErrorClass::MaybeTooLarge, false),
            (Some(1), ErrorClass::Retry, true),
        ] {
            let failure = timed_out(written_rows);
            assert_eq!((failure.class, failure.may_be_in()), (class, may_be_in), "{written_rows:?}");
        }
    }

    #[test]
    fn a_request_too_large_for_a_proxy_is_too_large() {
        for status in [413, 414, 431] {
            assert_eq!(class(&answer(status, false, "<html>")), Some(ErrorClass::TooLarge));
        }
    }

    #[test]
    fn the_text_says_what_answered() {
        let failure =
            answer(429, false, "<html>\n<title>Slow down</title>").confirms("http://x", 1).unwrap_err();
        assert_eq!(
            failure.error.to_string(),
            "ClickHouse at http://x: it answered 429 Too Many Requests: <html> <title>Slow down</title>"
        );
        let long = answer(502, false, &"x".repeat(100_000)).confirms("http://x", 1).unwrap_err();
        assert!(long.error.to_string().len() < 300);
    }
}
