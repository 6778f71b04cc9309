//! A dead letter as a line of a JSON Lines file.
//!
//! - One JSON object: `receivedAt` (RFC 3339, to the millisecond), `route`, `topic`, `payload`, `code`, `message`.
//! - A payload that is not UTF-8 is base64, and the line says `"encoding":"base64"`; for a topic that is not UTF-8 it says
//!   `"topicEncoding":"base64"`.
//! - Who reads a line passes over fields it does not know.

use std::borrow::Cow;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::core::dead_letter::DeadLetter;
use crate::dead_letter::StoredDeadLetter;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    received_at: String,
    route: i32,
    topic: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic_encoding: Option<&'static str>,
    payload: Cow<'a, str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    encoding: Option<&'static str>,
    code: &'static str,
    message: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    received_at: String,
    #[serde(default)]
    route: serde_json::Value,
    #[serde(borrow)]
    topic: Cow<'a, str>,
    topic_encoding: Option<String>,
    #[serde(borrow)]
    payload: Cow<'a, str>,
    encoding: Option<String>,
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// Appends a line to `out`.
pub fn write(out: &mut Vec<u8>, dead_letter: &DeadLetter) -> serde_json::Result<()> {
    let received_at = jiff::Timestamp::try_from(dead_letter.received_at).unwrap_or_default();
    let (topic, topic_encoding) = text(&dead_letter.topic);
    let (payload, encoding) = text(&dead_letter.payload);
    let line = Written {
        received_at: received_at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string(),
        route: dead_letter.route_number(),
        topic,
        topic_encoding,
        payload,
        encoding,
        code: dead_letter.reason.code.as_str(),
        message: &dead_letter.reason.message,
    };
    serde_json::to_writer(&mut *out, &line)?;
    out.push(b'\n');
    Ok(())
}

/// Reads a line. The error says what is wrong with it.
pub fn read(line: &[u8]) -> Result<StoredDeadLetter, String> {
    let read: Read = serde_json::from_slice(line).map_err(|error| match error.classify() {
        serde_json::error::Category::Data => format!("is not a dead letter: {error}"),
        _ => format!("is not JSON: {error}"),
    })?;
    let received_at: jiff::Timestamp =
        read.received_at.parse().map_err(|_| format!("receivedAt is not a time: {:?}", read.received_at))?;
    Ok(StoredDeadLetter {
        received_at: SystemTime::from(received_at),
        route: read.route.as_u64().and_then(|route| usize::try_from(route).ok()),
        topic: bytes(read.topic, read.topic_encoding.as_deref(), "topic")?,
        payload: bytes(read.payload, read.encoding.as_deref(), "payload")?,
        lost: StoredDeadLetter::lost(&read.code, &read.message),
    })
}

fn text(bytes: &[u8]) -> (Cow<'_, str>, Option<&'static str>) {
    match std::str::from_utf8(bytes) {
        Ok(text) => (text.into(), None),
        Err(_) => (STANDARD.encode(bytes).into(), Some("base64")),
    }
}

fn bytes(text: Cow<'_, str>, encoding: Option<&str>, what: &str) -> Result<Vec<u8>, String> {
    match encoding {
        None => Ok(text.into_owned().into_bytes()),
        Some("base64") => STANDARD.decode(text.as_bytes()).map_err(|error| format!("{what}: {error}")),
        Some(other) => Err(format!("{what} has the encoding {other:?}, which is not known")),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::core::reason::{Code, Reason};

    fn dead_letter(topic: &[u8], payload: &[u8], code: Code) -> DeadLetter {
        DeadLetter {
            received_at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_730_000_000_123),
            route: None,
            topic: topic.to_vec(),
            payload: payload.to_vec(),
            reason: Reason::new(code, "why \"so\"\n"),
        }
    }

    #[test]
    fn a_line_says_everything() {
        let mut out = Vec::new();
        write(&mut out, &dead_letter(b"a/\xff", b"{\n}", Code::NoRoute)).unwrap();
        assert_eq!(out.iter().position(|b| *b == b'\n'), Some(out.len() - 1));
        let line: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(
            line,
            serde_json::json!({
                "receivedAt": "2024-10-27T03:33:20.123Z", "route": -1, "topic": "YS//", "topicEncoding": "base64",
                "payload": "{\n}", "code": "NO_ROUTE", "message": "why \"so\"\n",
            })
        );
    }

    #[test]
    fn dead_letters_survive_a_round_trip() {
        let every_byte: Vec<u8> = (0..=255).collect();
        for topic in [&b"a/b"[..], "é/\u{10ffff}".as_bytes(), b"\xff", b"", &every_byte] {
            for payload in
                [&b""[..], b"{}", b"\"\\\n\r\x00\x7f", "\u{2028}é".as_bytes(), b"\xed\xa0\x80", &every_byte]
            {
                let written = dead_letter(topic, payload, Code::JsonInvalid);
                let mut out = Vec::new();
                write(&mut out, &written).unwrap();
                let kept = read(&out[..out.len() - 1]).unwrap();
                assert_eq!(
                    (kept.received_at, &kept.topic, &kept.payload),
                    (written.received_at, &written.topic, &written.payload)
                );
                assert_eq!(kept.lost, None);
            }
        }
    }

    #[test]
    fn a_payload_that_was_never_kept_is_distinguished() {
        let mut out = Vec::new();
        write(&mut out, &dead_letter(b"a", b"", Code::PacketTooLarge)).unwrap();
        assert_eq!(read(&out).unwrap().lost, Some(Reason::new(Code::PacketTooLarge, "why \"so\"\n")));
    }

    #[test]
    fn a_line_that_is_not_a_dead_letter_is_an_error() {
        let wrong = |line: &str| read(line.as_bytes()).unwrap_err();
        assert!(wrong("{\"receivedAt\":\"2024").starts_with("is not JSON"));
        assert!(wrong("{}").contains("receivedAt"));
        assert!(wrong(r#"{"receivedAt":"soon","topic":"a","payload":""}"#).contains("soon"));
        let at = r#"{"receivedAt":"2024-10-27T03:33:20Z","#;
        assert!(wrong(&format!(r#"{at}"topic":"a"}}"#)).contains("payload"));
        assert!(
            wrong(&format!(r#"{at}"topic":"a","payload":"%","encoding":"base64"}}"#)).contains("payload")
        );
        assert!(wrong(&format!(r#"{at}"topic":"a","payload":"","encoding":"hex"}}"#)).contains("hex"));
    }
}
