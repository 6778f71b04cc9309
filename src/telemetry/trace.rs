//! The stages and INSERTs of a sampled batch; JavaScript makes spans of them.
//!
//! `ingest::router` decides when it opens a batch whether it is sampled, and only then keeps the
//! properties of its messages. `sink::worker` notes each INSERT, and reports the trace when the batch
//! is settled. With a spool many batches are one INSERT: their traces are joined.
//!
//! The contexts of messages are user properties of MQTT 5, `traceparent` and `tracestate`, as the W3C's draft of trace
//! context for MQTT has them; their form is that of <https://www.w3.org/TR/trace-context/>.

use std::collections::HashSet;
use std::time::SystemTime;

use serde::Serialize;

use crate::core::backoff::random;
use crate::core::clock::ReceiveTime;
use crate::core::mqtt_property::Properties;

/// Times are milliseconds since 1970.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    pub table: String,
    pub messages: usize,
    pub rows: usize,
    pub dead_letters: usize,
    /// When its first message came.
    pub began: f64,
    /// When it was sent to the sinks.
    pub sealed: f64,
    /// When it was settled, or its dead letters were sent on.
    pub ended: f64,
    pub inserts: Vec<Insert>,
    pub contexts: Vec<Context>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Insert {
    pub token: String,
    /// The server that answered.
    pub url: String,
    pub rows: usize,
    pub bytes: usize,
    pub attempts: u32,
    pub began: f64,
    pub ended: f64,
    /// Why ClickHouse refused it for good.
    pub refused: Option<String>,
}

/// Where a message comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Context {
    pub trace_id: String,
    pub span_id: String,
    pub flags: u8,
    pub state: Option<String>,
}

/// The number of links that an SDK keeps of a span by default.
const MAX_CONTEXTS: usize = 128;
/// The limit for a batch that is divided.
const MAX_INSERTS: usize = 128;

impl Trace {
    /// For one of `1 / ratio` batches.
    pub fn sample(ratio: f64) -> Option<Box<Trace>> {
        (ratio > 0.0 && random() < ratio).then(Box::default)
    }

    pub fn insert(&mut self, insert: Insert) {
        if self.inserts.len() < MAX_INSERTS {
            self.inserts.push(insert);
        }
    }

    /// Records what is known of a batch before it is inserted: the receive time and the properties of its messages.
    pub fn describe<'a>(
        &mut self,
        first: Option<ReceiveTime>,
        messages: usize,
        rows: usize,
        properties: impl Iterator<Item = Properties<'a>>,
    ) {
        (self.messages, self.rows) = (messages, rows);
        self.began = first.map_or(0.0, |at| millis(at.system));
        self.contexts = contexts(properties);
    }

    /// Goes on as one with another that is in the same INSERT.
    pub fn join(&mut self, other: Trace) {
        self.messages += other.messages;
        self.rows += other.rows;
        self.began = self.began.min(other.began);
        self.sealed = self.sealed.max(other.sealed);
        let room = MAX_CONTEXTS - self.contexts.len();
        self.contexts.extend(other.contexts.into_iter().take(room));
    }

    pub fn finish(&mut self, table: &str, dead_letters: usize) {
        self.table = table.into();
        self.dead_letters = dead_letters;
        self.ended = millis(SystemTime::now());
    }
}

/// The contexts of messages whose sender records its part of the trace, each once: a link to another
/// one leads nowhere.
fn contexts<'a>(messages: impl Iterator<Item = Properties<'a>>) -> Vec<Context> {
    let mut seen = HashSet::new();
    let contexts = messages.filter_map(|properties| {
        let parent = properties.user("traceparent").filter(|parent| seen.insert(*parent))?;
        let context = Context::parse(parent).filter(|context| context.flags & SAMPLED != 0)?;
        Some(Context { state: properties.user("tracestate").map(Into::into), ..context })
    });
    contexts.take(MAX_CONTEXTS).collect()
}

const SAMPLED: u8 = 1;

impl Context {
    fn parse(traceparent: &str) -> Option<Context> {
        let mut parts = traceparent.split('-');
        let mut hex = |len: usize| {
            let part = parts.next()?;
            let is_hex = part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
            is_hex.then_some(part)
        };
        let (version, trace_id, span_id, flags) = (hex(2)?, hex(32)?, hex(16)?, hex(2)?);
        // A later version may have more behind it.
        let is_known = version == "00" && parts.next().is_none() || !matches!(version, "00" | "ff");
        let is_null = |id: &str| id.bytes().all(|b| b == b'0');
        if !is_known || is_null(trace_id) || is_null(span_id) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Context { trace_id: trace_id.into(), span_id: span_id.into(), flags, state: None })
    }
}

pub fn millis(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn only_what_is_a_context_is_one() {
        let parse = |text: &str| Context::parse(text).map(|context| (context.trace_id, context.flags));
        let span = "00f067aa0ba902b7";
        assert_eq!(parse(&format!("00-{TRACE}-{span}-01")), Some((TRACE.into(), 1)));
        assert_eq!(parse(&format!("01-{TRACE}-{span}-03-more")), Some((TRACE.into(), 3)));
        for wrong in [
            "",
            "00",
            &format!("00-{TRACE}-{span}"),
            &format!("00-{TRACE}-{span}-01-more"),
            &format!("ff-{TRACE}-{span}-01"),
            &format!("00-{TRACE}-{span}-1"),
            &format!("00-{}-{span}-01", TRACE.to_uppercase()),
            &format!("00-{}-{span}-01", "0".repeat(32)),
            &format!("00-{TRACE}-{}-01", "0".repeat(16)),
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn contexts_are_few_different_and_recorded() {
        let mut messages: Vec<Vec<u8>> = Vec::new();
        let mut push = |parent: String| {
            let mut properties = Vec::new();
            for (name, value) in [("traceparent", parent.as_str()), ("tracestate", "a=b")] {
                properties.push(0x26);
                for text in [name, value] {
                    properties.extend((text.len() as u16).to_be_bytes());
                    properties.extend(text.as_bytes());
                }
            }
            messages.push(properties);
        };
        for at in 1..=200 {
            push(format!("00-{TRACE}-{at:016x}-00"));
            push("nonsense".into());
            push(format!("00-{TRACE}-{at:016x}-01"));
            push(format!("00-{TRACE}-{at:016x}-01"));
        }
        let contexts = contexts(messages.iter().map(|properties| Properties::checked(properties)));
        let ids: Vec<_> = contexts.iter().map(|context| context.span_id.clone()).collect();
        let expected: Vec<_> = (1..=MAX_CONTEXTS).map(|at| format!("{at:016x}")).collect();
        assert_eq!(ids, expected);
        assert!(contexts.iter().all(|context| context.state.as_deref() == Some("a=b")));
    }

    #[test]
    fn a_ratio_of_nothing_and_of_all() {
        assert!((0..1000).all(|_| Trace::sample(0.0).is_none()));
        assert!((0..1000).all(|_| Trace::sample(1.0).is_some()));
        let sampled = (0..10_000).filter(|_| Trace::sample(0.1).is_some()).count();
        assert!((700..1300).contains(&sampled), "{sampled}");
    }
}
