//! As much of HTTP/1.1 as a ClickHouse client speaks.

use std::collections::BTreeMap;
use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

pub struct Request {
    /// Of the URL.
    pub params: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

pub struct Response {
    status: u16,
    headers: String,
    body: String,
}

impl Response {
    pub fn new(status: u16, body: &str) -> Response {
        Response { status, headers: String::new(), body: body.into() }
    }

    pub fn summary(rows: usize) -> Response {
        let headers = format!("X-ClickHouse-Summary: {{\"written_rows\":\"{rows}\"}}\r\n");
        Response { status: 200, headers, body: String::new() }
    }

    pub fn exception(code: u32, text: &str) -> Response {
        let headers = format!("X-ClickHouse-Exception-Code: {code}\r\n");
        Response { status: 500, headers, body: exception(code, text) }
    }

    /// Behind what has been answered already, as servers from 25.11 on write it.
    pub fn late_exception(code: u32, text: &str) -> Response {
        const TAG: &str = "rnywyenlaeqynhmu";
        let exception = exception(code, text);
        let len = exception.len();
        let body = format!("\r\n__exception__\r\n{TAG}\r\n{exception}{len} {TAG}\r\n__exception__\r\n");
        Response { status: 200, headers: format!("X-ClickHouse-Exception-Tag: {TAG}\r\n"), body }
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

pub async fn write(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let Response { status, headers, body } = response;
    // In one write: a second one would wait for the acknowledgement of the first.
    let text = format!("HTTP/1.1 {status} Answer\r\nContent-Length: {}\r\n{headers}\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await
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

/// Of `application/x-www-form-urlencoded`.
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
