//! Queries and their answers: an answer is read chunk by chunk, or up to a limit.
//!
//! ClickHouse answers 200 before it has all rows. An exception that comes afterwards stands at the end of the body: behind
//! a marker with the tag of `X-ClickHouse-Exception-Tag` from 25.11 on, and before that as its text alone. Source: ClickHouse,
//! `src/Server/HTTP/WriteBufferFromHTTPServerResponse.cpp`.

use std::mem;

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;
use hyper::body::Incoming;

use crate::clickhouse::client::{RequestBody, RequestLogin, Server};
use crate::clickhouse::error_class::{
    ErrorClass, exception_code, quoted, refuses_login, rejected, unanswered_query,
};
use crate::clickhouse::insert_answer::{MAX_BODY, RequestError, read_up_to};
use crate::core::error::{Error, Result};

/// Bytes of an answer that is read as one: the description of a table of 10,000 columns has about 2 MB.
pub const MAX_ANSWER: usize = 16 << 20;

/// A query and its parameters for the URL.
pub struct Query<'a> {
    pub sql: &'a str,
    pub params: &'a [(&'a str, &'a str)],
}

/// The body of an answer that began with 200.
pub struct Answer {
    url: String,
    incoming: Incoming,
    status: StatusCode,
    /// The bytes that begin an exception; `None`: a server before 25.11.
    marker: Option<Vec<u8>>,
    /// The last bytes that came: a marker may begin in them.
    held: Vec<u8>,
}

impl Query<'_> {
    /// Sends it. An answer with another status is an error.
    pub async fn send(&self, server: &Server) -> Result<Answer> {
        self.answered(server, "", || RequestBody::text(self.sql)).await
    }

    /// Sends it with rows of its own: a file of this name in a form.
    pub async fn send_with(&self, server: &Server, name: &str, content: Bytes) -> Result<Answer> {
        self.answered(server, self.sql, || RequestBody::form(name, content.clone())).await
    }

    /// All of the answer, of at most `max` bytes.
    pub async fn read(&self, server: &Server, max: usize) -> Result<Vec<u8>> {
        self.send(server).await?.read(max).await
    }

    async fn answered(&self, server: &Server, sql: &str, body: impl Fn() -> RequestBody) -> Result<Answer> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(Some(("query", sql)).filter(|(_, sql)| !sql.is_empty()));
        let query = query.extend_pairs(self.params).finish();
        let login = server.http.login().await?;
        let mut response = post(server, &query, &login, &body).await?;
        if is_login_refused(&response)
            && let Some(login) = server.http.login_after(&login).await?
        {
            response = post(server, &query, &login, &body).await?;
        }
        Answer::begin(&server.url, response).await
    }
}

async fn post(
    server: &Server,
    query: &str,
    login: &RequestLogin,
    body: &impl Fn() -> RequestBody,
) -> Result<http::Response<Incoming>> {
    let response = match server.http.post(query, login, body(), false).await {
        // Servers and balancers end connections that were idle; a query may be made twice.
        Err(error) if error.class() == ErrorClass::KeptConnectionEnded => {
            server.http.post(query, login, body(), true).await
        }
        response => response,
    };
    response.map_err(|error| unanswered_query(&server.url, error))
}

fn is_login_refused(response: &http::Response<Incoming>) -> bool {
    let exception = response.headers().get("x-clickhouse-exception-code");
    refuses_login(exception.and_then(|code| code.to_str().ok()?.parse().ok()), response.status())
}

impl Answer {
    async fn begin(url: &str, response: http::Response<Incoming>) -> Result<Answer> {
        let (parts, mut incoming) = response.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        let exception = header("x-clickhouse-exception-code").and_then(|code| code.parse().ok());
        let status = parts.status;
        if status != StatusCode::OK || exception.is_some() {
            let (body, _) =
                read_up_to(MAX_BODY, &mut incoming).await.map_err(|error| unanswered_query(url, error))?;
            let text = String::from_utf8_lossy(&body);
            let text = text.trim();
            return Err(match exception.or_else(|| exception_code(text)) {
                Some(code) => rejected(code, text, status).error,
                None => answered(url, format!("it answered {status}{}", quoted(text))),
            });
        }
        let marker =
            header("x-clickhouse-exception-tag").map(|tag| format!("\r\n__exception__\r\n{tag}\r\n").into());
        Ok(Answer { url: url.into(), incoming, status, marker, held: Vec::new() })
    }

    /// The next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let Some(frame) = self.incoming.frame().await else {
                return Ok(Some(mem::take(&mut self.held)).filter(|rest| !rest.is_empty()));
            };
            let frame = frame.map_err(|error| unanswered_query(&self.url, RequestError::Body(error)))?;
            let Some(data) = frame.data_ref() else { continue };
            let mut bytes = mem::take(&mut self.held);
            bytes.extend_from_slice(data);
            self.check(&bytes).await?;
            let held = self.marker.as_ref().map_or(0, |marker| marker.len() - 1).min(bytes.len());
            self.held = bytes.split_off(bytes.len() - held);
            if !bytes.is_empty() {
                return Ok(Some(bytes));
            }
        }
    }

    /// All bytes. More than `max` are an error.
    pub async fn read(mut self, max: usize) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(bytes) = self.next().await? {
            if bytes.len() > max - body.len() {
                let message =
                    format!("its answer to a query is longer than {max} bytes, which is more than is read");
                return Err(answered(&self.url, message));
            }
            body.extend_from_slice(&bytes);
        }
        Ok(body)
    }

    /// Fails where an exception stands in these bytes.
    async fn check(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(at) = exception_at(bytes, self.marker.as_deref()) else { return Ok(()) };
        let mut text = bytes[at..][..(bytes.len() - at).min(MAX_BODY)].to_vec();
        let room = MAX_BODY - text.len();
        if let Ok((more, _)) = read_up_to(room, &mut self.incoming).await {
            text.extend(more);
        }
        let text = String::from_utf8_lossy(&text);
        // Its length and the marker again follow it.
        let text = text.split("\r\n__exception__").next().unwrap_or_default().trim();
        let text =
            text.rsplit_once('\n').filter(|_| self.marker.is_some()).map_or(text, |(text, _)| text.trim());
        Err(match exception_code(text) {
            Some(code) => rejected(code, text, self.status).error,
            None => answered(&self.url, format!("it answered {} and broke off{}", self.status, quoted(text))),
        })
    }
}

/// Where the text of an exception begins.
fn exception_at(bytes: &[u8], marker: Option<&[u8]>) -> Option<usize> {
    match marker {
        Some(marker) => memchr::memmem::find(bytes, marker).map(|at| at + marker.len()),
        // Data seldom ends like this.
        None if bytes.ends_with(b"))\n") => {
            let at = memchr::memmem::rfind(bytes, b"Code: ")?;
            memchr::memmem::find(&bytes[at..], b"DB::").map(|_| at)
        }
        None => None,
    }
}

fn answered(url: &str, message: String) -> Error {
    Error::ClickHouseAnswer { url: url.into(), message }
}
