//! As much of HTTP/1.1 as a ClickHouse client speaks.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub struct Request {
    /// Parameters of the URL.
    pub params: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Response {
    status: u16,
    headers: String,
    body: Vec<u8>,
    /// After this number of bytes of the body the connection ends.
    cut_at: Option<usize>,
}

impl Response {
    pub fn new(status: u16, body: &str) -> Response {
        Response::with(status, String::new(), body)
    }

    fn with(status: u16, headers: String, body: impl Into<Vec<u8>>) -> Response {
        Response { status, headers, body: body.into(), cut_at: None }
    }

    /// An answer in a binary format.
    pub fn bytes(body: Vec<u8>, cut_at: Option<usize>) -> Response {
        Response { cut_at, ..Response::with(200, String::new(), body) }
    }

    pub fn summary(rows: usize) -> Response {
        let headers = format!("X-ClickHouse-Summary: {{\"written_rows\":\"{rows}\"}}\r\n");
        Response::with(200, headers, "")
    }

    pub fn exception(code: u32, text: &str) -> Response {
        let headers = format!("X-ClickHouse-Exception-Code: {code}\r\n");
        Response::with(500, headers, exception(code, text))
    }

    /// Behind rows that have been answered already, as servers before 25.11 write it.
    pub fn untagged_exception(code: u32, text: &str) -> Response {
        let body = format!(
            "{{\"zone\":\"UTC\"}}\nCode: {code}. DB::Exception: {text}. (TEST) (version 25.3.1.1 (official build))\n"
        );
        Response::with(200, String::new(), body)
    }

    /// Behind what has been answered already, as servers from 25.11 on write it.
    pub fn late_exception(code: u32, text: &str) -> Response {
        const TAG: &str = "rnywyenlaeqynhmu";
        let exception = exception(code, text);
        let len = exception.len();
        let body = format!("\r\n__exception__\r\n{TAG}\r\n{exception}{len} {TAG}\r\n__exception__\r\n");
        Response::with(200, format!("X-ClickHouse-Exception-Tag: {TAG}\r\n"), body)
    }
}

fn exception(code: u32, text: &str) -> String {
    format!("Code: {code}. DB::Exception: {text}. (TEST) (version 26.7.2.1)\n")
}

/// The next request; `buffer` keeps what came behind it. `None`: the connection has ended.
pub async fn read(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<Request> {
    let end = loop {
        match find(buffer, b"\r\n\r\n") {
            Some(end) => break end + 4,
            None => more(stream, buffer).await?,
        }
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).unwrap();
    let mut lines = head.split("\r\n");
    let target = lines.next().unwrap().split(' ').nth(1).unwrap();
    let headers: BTreeMap<String, &str> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let mut body = Vec::new();
    if let Some(len) = headers.get("content-length") {
        body = take(stream, buffer, len.parse().unwrap()).await?;
    } else if headers.contains_key("transfer-encoding") {
        loop {
            let end = loop {
                match find(buffer, b"\r\n") {
                    Some(end) => break end,
                    None => more(stream, buffer).await?,
                }
            };
            let len = usize::from_str_radix(std::str::from_utf8(&buffer[..end]).unwrap(), 16).unwrap();
            buffer.drain(..end + 2);
            let chunk = take(stream, buffer, len + 2).await?;
            if len == 0 {
                break;
            }
            body.extend(&chunk[..len]);
        }
    }
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let params =
        query.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (decoded(k), decoded(v)));
    Some(Request { params: params.collect(), body })
}

/// An error ends the connection; so does an answer that is to be cut.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let Response { status, headers, body, cut_at } = response;
    let mut bytes =
        format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n{headers}\r\n", body.len()).into_bytes();
    bytes.extend(&body[..cut_at.unwrap_or(body.len())]);
    // In one write: a second one would wait for the acknowledgement of the first.
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    if cut_at.is_some() { Err(io::ErrorKind::ConnectionAborted.into()) } else { Ok(()) }
}

fn find(bytes: &[u8], sought: &[u8]) -> Option<usize> {
    bytes.windows(sought.len()).position(|window| window == sought)
}

async fn more(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>) -> Option<()> {
    match stream.read_buf(buffer).await {
        Ok(0) | Err(_) => None,
        Ok(_) => Some(()),
    }
}

async fn take(stream: &mut (impl AsyncRead + Unpin), buffer: &mut Vec<u8>, len: usize) -> Option<Vec<u8>> {
    while buffer.len() < len {
        more(stream, buffer).await?;
    }
    Some(buffer.drain(..len).collect())
}

/// Decodes `application/x-www-form-urlencoded`.
fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [rest.next().unwrap(), rest.next().unwrap()];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).unwrap()
}
