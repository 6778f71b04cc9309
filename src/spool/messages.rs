//! The messages of a record as bytes: one frame, and in it, little-endian:
//!
//! ```text
//! u32 + bytes  client id
//! u32          number of receive times, then each:  u64 nanoseconds since 1970, u32 messages that came then
//! u32          number of messages, then each:  12 bytes, its [`MessageHeader`]
//! bytes        topic, properties and payload of each
//! bytes        the rows, where a transform changed them: see [`stored_rows`](crate::spool::stored_rows)
//! ```

use std::borrow::Borrow;
use std::io;
use std::time::{Duration, SystemTime};

use bytes::{Buf, Bytes};

use crate::clickhouse::compression;
use crate::config::Compression;
use crate::core::clock::ReceiveTime;
use crate::core::mqtt_property::Properties;
use crate::ingest::raw_messages::{Message, MessageHeader, RawMessages};

/// `rows` is what [`stored_rows`](crate::spool::stored_rows) wrote of them, or nothing. Messages that are given away are dropped
/// before their copy is compressed.
pub fn encode(
    given: impl Borrow<RawMessages>,
    client_id: &str,
    rows: &[u8],
    compression: Compression,
) -> io::Result<Bytes> {
    let messages: &RawMessages = given.borrow();
    let heads = 2 * (8 + 4) + (8 + 4) * messages.receive_times().len();
    let bytes = client_id.len() + messages.bytes() + rows.len();
    let mut out = Vec::with_capacity(compression::HEAD + heads + bytes);
    // For the head of the frame.
    out.resize(compression::HEAD, 0);
    let count = |out: &mut Vec<u8>, count: usize| out.extend((count as u32).to_le_bytes());
    count(&mut out, client_id.len());
    out.extend(client_id.as_bytes());
    count(&mut out, messages.receive_times().len());
    for (at, messages) in messages.receive_times() {
        let since = at.system.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // Enough until the year 2554.
        out.extend((since.as_nanos() as u64).to_le_bytes());
        count(&mut out, *messages as usize);
    }
    count(&mut out, messages.len());
    for message in messages.iter() {
        out.extend(MessageHeader::of(&message).to_bytes());
    }
    for message in messages.iter() {
        out.extend(message.topic);
        out.extend(message.properties.as_bytes());
        out.extend(message.payload);
    }
    out.extend(rows);
    drop(given);
    compression::frame_of(out, compression).map(Bytes::from)
}

/// Appends the messages to others, and returns the client id and the rows. `now` is when this is done: how long ago a message came is
/// read from the system's clock, since other clocks do not outlast a restart. `None`: not what [`encode`] writes; then a
/// part of the messages may have been appended.
pub fn decode(raw: &[u8], now: ReceiveTime, messages: &mut RawMessages) -> Option<(String, Bytes)> {
    let mut rest = Bytes::from(compression::decompress(raw)?);
    let rest = &mut rest;
    let client_id = take(rest.try_get_u32_le().ok()?, rest)?;
    let mut receive_times = Vec::new();
    for _ in 0..rest.try_get_u32_le().ok()? {
        let system = SystemTime::UNIX_EPOCH + Duration::from_nanos(rest.try_get_u64_le().ok()?);
        let ago = now.system.duration_since(system).unwrap_or_default();
        let instant = now.instant.checked_sub(ago).unwrap_or(now.instant);
        receive_times.push((ReceiveTime { instant, system }, rest.try_get_u32_le().ok()?));
    }
    let count = rest.try_get_u32_le().ok()? as usize;
    let headers = take(count.checked_mul(MessageHeader::BYTES)?, rest)?;
    let mut received = receive_times.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count as usize));
    for header in headers.as_chunks().0 {
        let header = MessageHeader::from_bytes(*header);
        let topic = take(header.topic, rest)?;
        let (properties, payload) = (take(header.properties, rest)?, take(header.payload, rest)?);
        messages.push(&Message {
            received: received.next()?,
            topic: &topic,
            payload: &payload,
            qos: header.qos,
            retain: header.retain,
            properties: Properties::checked(&properties),
        });
    }
    Some((String::from_utf8(client_id.into()).ok()?, rest.split_to(rest.len())))
}

fn take(len: impl TryInto<usize>, rest: &mut Bytes) -> Option<Bytes> {
    let len = len.try_into().ok()?;
    (len <= rest.len()).then(|| rest.split_to(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let first = ReceiveTime::read();
        let second = ReceiveTime {
            instant: first.instant + Duration::from_millis(1),
            system: first.system + Duration::from_millis(1),
        };
        let message = |received, topic, payload, properties, qos, retain| Message {
            received,
            topic,
            payload,
            qos,
            retain,
            properties: Properties::checked(properties),
        };
        let sent = [
            message(first, &b"a/b"[..], &b"{}"[..], &b""[..], 0, false),
            message(first, b"a/b", b"\xff\0", b"\x01\x01", 1, true),
            message(second, b"", b"", b"", 2, false),
        ];
        let mut messages = RawMessages::default();
        sent.iter().for_each(|message| messages.push(message));
        let raw = encode(&messages, "fleet", b"rows", Compression::Lz4).unwrap();

        let mut back = RawMessages::default();
        let rows = || Some(("fleet".to_string(), Bytes::from_static(b"rows")));
        assert_eq!(decode(&raw, second, &mut back), rows());
        assert_eq!(decode(&raw, second, &mut back), rows());
        assert_eq!(back.len(), 6);
        for (back, sent) in back.iter().zip(sent.iter().chain(&sent)) {
            assert_eq!(back.received, sent.received);
            assert_eq!((back.topic, back.payload), (sent.topic, sent.payload));
            assert_eq!((back.qos, back.retain), (sent.qos, sent.retain));
            assert_eq!(back.properties.as_bytes(), sent.properties.as_bytes());
        }
        assert_eq!(decode(&raw[1..], second, &mut back), None);
    }
}
