//! The messages of a batch as they came, one after the other in chunks.

use std::sync::Arc;

use crate::core::chunk_pool::{Chunk, ChunkPool};
use crate::core::clock::ReceiveTime;
use crate::core::mqtt_property::Properties;

#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    pub received: ReceiveTime,
    pub topic: &'a [u8],
    pub payload: &'a [u8],
    pub qos: u8,
    pub retain: bool,
    pub properties: Properties<'a>,
}

#[derive(Debug)]
pub struct RawMessages {
    /// A [`MessageHeader`] for each message, and behind it its topic, properties and payload. No message crosses the end of a chunk.
    chunks: Vec<Chunk>,
    len: usize,
    bytes: usize,
    /// Bytes of all chunks but the last.
    behind: usize,
    receive_times: Vec<(ReceiveTime, u32)>,
    /// The number of the chunk that each message lies in, and where it begins there. Kept only for batches of which messages are
    /// likely to be taken out: finding them takes a cache miss for each message in front.
    places: Option<Vec<(u32, u32)>>,
    pool: Arc<ChunkPool>,
}

/// Lengths of the parts of a message, QoS and retain. Both chunks and the records of the spool have it as 12 bytes:
///
/// ```text
///    0  u8   QoS
///    1  u8   1: retain
///    2  u16  bytes of the topic
///    4  u32  bytes of the properties
///    8  u32  bytes of the payload
/// ```
pub struct MessageHeader {
    pub qos: u8,
    pub retain: bool,
    /// In chunks alone, a further bit of the byte of `retain`: the message was taken out.
    is_removed: bool,
    pub topic: u16,
    pub properties: u32,
    pub payload: u32,
}

/// No message begins so far behind in a chunk.
const REMOVED_PLACE: u32 = u32::MAX;

/// Messages with fewer bytes are copied to be with others.
const LONE_CHUNK_BYTES: usize = 64 << 10;

impl RawMessages {
    /// Without messages; chunks come from `pool`.
    pub fn new(pool: Arc<ChunkPool>) -> RawMessages {
        RawMessages {
            chunks: Vec::new(),
            len: 0,
            bytes: 0,
            behind: 0,
            receive_times: Vec::new(),
            places: None,
            pool,
        }
    }

    /// The same, for messages of which some will be taken out.
    pub fn with_places(pool: Arc<ChunkPool>, messages: usize) -> RawMessages {
        let mut new = RawMessages::new(pool);
        new.places = Some(Vec::with_capacity(messages));
        new
    }

    #[inline]
    pub fn push(&mut self, message: &Message<'_>) {
        let Message { received, topic, payload, properties, .. } = *message;
        let properties = properties.as_bytes();
        let bytes = MessageHeader::BYTES + topic.len() + properties.len() + payload.len();
        let chunk = match self.chunks.last_mut() {
            Some(chunk) if chunk.remaining() >= bytes => chunk,
            last => {
                self.behind += last.map_or(0, |chunk| chunk.memory_bytes());
                add_chunk(&mut self.chunks, &self.pool, bytes)
            }
        };
        let at = chunk.bytes().len();
        chunk.append([&MessageHeader::of(message).to_bytes(), topic, properties, payload]);
        if let Some(places) = &mut self.places {
            places.push((self.chunks.len() as u32 - 1, at as u32));
        }
        self.len += 1;
        self.bytes += bytes;
        match self.receive_times.last_mut() {
            Some((at, count)) if at.instant == received.instant => *count += 1,
            _ => self.receive_times.push((received, 1)),
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of the messages.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        let times = size_of::<(ReceiveTime, u32)>() * self.receive_times.capacity();
        let places = self.places.as_ref().map_or(0, |places| size_of::<(u32, u32)>() * places.capacity());
        self.behind + self.chunks.last().map_or(0, Chunk::memory_bytes) + times + places
    }

    /// Receive times, each with the number of consecutive messages that have it.
    pub fn receive_times(&self) -> &[(ReceiveTime, u32)] {
        &self.receive_times
    }

    pub fn iter(&self) -> impl Iterator<Item = Message<'_>> {
        let times =
            self.receive_times.iter().flat_map(|(at, count)| std::iter::repeat_n(*at, *count as usize));
        let mut chunks = self.chunks.iter();
        let mut rest = ByteReader(&[]);
        times.map(move |received| {
            loop {
                if rest.0.is_empty() {
                    rest = ByteReader(chunks.next().map_or(&[], Chunk::bytes));
                }
                if let Some(message) = rest.message(received) {
                    return message;
                }
            }
        })
    }
}

/// The removal of messages, and the joining with others.
impl RawMessages {
    /// Takes the messages at these places out, which are in order. They are marked where they lie: moving all others takes longer
    /// than they are worth.
    pub fn remove(&mut self, removed: impl IntoIterator<Item = usize>) {
        let mut places = self.places.take().unwrap_or_else(|| self.index().0);
        let mut arrivals = self.receive_times.iter_mut();
        let mut arrival: Option<&mut (ReceiveTime, u32)> = None;
        // Where the arrival ends, in messages as they were.
        let mut end = 0;
        for place in removed {
            let Some((chunk, at)) = places.get_mut(place) else { continue };
            let bytes = &mut self.chunks[*chunk as usize].bytes_mut()[*at as usize..];
            bytes[MessageHeader::FLAGS] |= MessageHeader::REMOVED;
            let mut head = [0; MessageHeader::BYTES];
            head.copy_from_slice(&bytes[..MessageHeader::BYTES]);
            self.len -= 1;
            self.bytes -= MessageHeader::BYTES + MessageHeader::from_bytes(head).len();
            *at = REMOVED_PLACE;
            while place >= end {
                arrival = arrivals.next();
                end += arrival.as_ref().map_or(usize::MAX - end, |(_, count)| *count as usize);
            }
            if let Some((_, count)) = &mut arrival {
                *count -= 1;
            }
        }
        places.retain(|(_, at)| *at != REMOVED_PLACE);
        self.places = Some(places);
        self.receive_times.retain(|(_, count)| *count > 0);
    }

    /// Appends further messages.
    pub fn append(&mut self, mut other: RawMessages) {
        // A few messages fill what is left of a chunk. More keep their chunks.
        if other.bytes < LONE_CHUNK_BYTES {
            return other.iter().for_each(|message| self.push(&message));
        }
        self.places = None;
        self.behind += self.chunks.last().map_or(0, Chunk::memory_bytes) + other.behind;
        self.len += other.len;
        self.bytes += other.bytes;
        self.chunks.append(&mut other.chunks);
        self.receive_times.append(&mut other.receive_times);
    }
}

/// Where the messages begin, so that each can be found.
#[derive(Debug, Default)]
pub struct MessageIndex(Vec<(u32, u32)>);

impl RawMessages {
    pub fn index(&self) -> MessageIndex {
        if let Some(places) = &self.places {
            return MessageIndex(places.clone());
        }
        let mut places = Vec::with_capacity(self.len);
        for (chunk, bytes) in self.chunks.iter().enumerate() {
            let mut at = 0;
            while let Some((head, _)) = bytes.bytes()[at..].split_first_chunk() {
                let head = MessageHeader::from_bytes(*head);
                if !head.is_removed {
                    places.push((chunk as u32, at as u32));
                }
                at += MessageHeader::BYTES + head.len();
            }
        }
        MessageIndex(places)
    }

    /// A message by its place; `index` is that of these messages.
    pub fn get(&self, index: &MessageIndex, place: usize) -> Option<Message<'_>> {
        let (chunk, at) = *index.0.get(place)?;
        let mut rest = ByteReader(self.chunks[chunk as usize].bytes().get(at as usize..)?);
        let mut before = 0;
        let received = self.receive_times.iter().find_map(|(received, count)| {
            before += *count as usize;
            (place < before).then_some(*received)
        })?;
        rest.message(received)
    }
}

impl Default for RawMessages {
    fn default() -> Self {
        RawMessages::new(Arc::default())
    }
}

impl Drop for RawMessages {
    fn drop(&mut self) {
        self.pool.release(std::mem::take(&mut self.chunks));
    }
}

#[cold]
fn add_chunk<'p>(chunks: &'p mut Vec<Chunk>, pool: &ChunkPool, bytes: usize) -> &'p mut Chunk {
    chunks.push(pool.acquire(bytes, chunks.len()));
    chunks.last_mut().expect("it has just been pushed")
}

/// The unread bytes of a chunk.
struct ByteReader<'p>(&'p [u8]);

impl<'p> ByteReader<'p> {
    fn take(&mut self, bytes: usize) -> &'p [u8] {
        let (head, tail) = self.0.split_at(bytes);
        self.0 = tail;
        head
    }

    /// The next message. `None`: it was removed.
    #[inline]
    fn message(&mut self, received: ReceiveTime) -> Option<Message<'p>> {
        let mut head = [0; MessageHeader::BYTES];
        head.copy_from_slice(self.take(MessageHeader::BYTES));
        let head = MessageHeader::from_bytes(head);
        if head.is_removed {
            self.take(head.len());
            return None;
        }
        Some(Message {
            received,
            topic: self.take(head.topic as usize),
            properties: Properties::checked(self.take(head.properties as usize)),
            payload: self.take(head.payload as usize),
            qos: head.qos,
            retain: head.retain,
        })
    }
}

impl MessageHeader {
    pub const BYTES: usize = 12;
    /// The place of the byte with the bits [`MessageHeader::RETAIN`] and [`MessageHeader::REMOVED`].
    const FLAGS: usize = 1;
    const RETAIN: u8 = 1;
    const REMOVED: u8 = 2;

    #[inline]
    pub fn of(message: &Message<'_>) -> MessageHeader {
        // A topic has at most 64 KiB and a packet 256 MiB.
        MessageHeader {
            qos: message.qos,
            retain: message.retain,
            is_removed: false,
            topic: message.topic.len() as u16,
            properties: message.properties.as_bytes().len() as u32,
            payload: message.payload.len() as u32,
        }
    }

    /// Bytes of the three parts.
    fn len(&self) -> usize {
        self.topic as usize + self.properties as usize + self.payload as usize
    }

    #[inline]
    pub fn to_bytes(&self) -> [u8; MessageHeader::BYTES] {
        let mut bytes = [0; MessageHeader::BYTES];
        bytes[0] = self.qos;
        bytes[1] = u8::from(self.retain);
        bytes[2..4].copy_from_slice(&self.topic.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.properties.to_le_bytes());
        bytes[8..].copy_from_slice(&self.payload.to_le_bytes());
        bytes
    }

    pub fn from_bytes(bytes: [u8; MessageHeader::BYTES]) -> MessageHeader {
        let [qos, retain, t0, t1, p0, p1, p2, p3, l0, l1, l2, l3] = bytes;
        MessageHeader {
            qos,
            retain: retain & MessageHeader::RETAIN != 0,
            is_removed: retain & MessageHeader::REMOVED != 0,
            topic: u16::from_le_bytes([t0, t1]),
            properties: u32::from_le_bytes([p0, p1, p2, p3]),
            payload: u32::from_le_bytes([l0, l1, l2, l3]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn messages_come_back_unchanged() {
        let first = ReceiveTime::read();
        let second = ReceiveTime { instant: first.instant + Duration::from_millis(1), ..first };
        let message = |received, topic, payload, properties, qos, retain| Message {
            received,
            topic,
            payload,
            qos,
            retain,
            properties: Properties::checked(properties),
        };
        let sent = [
            message(first, b"a", b"1", b"", 0, false),
            message(first, b"b", b"", b"\x01\x01", 1, true),
            message(second, b"", b"\xff", b"", 1, false),
        ];
        let mut messages = RawMessages::default();
        for message in &sent {
            messages.push(message);
        }
        assert_eq!(messages.len(), 3);
        for (back, sent) in messages.iter().zip(&sent) {
            assert_eq!(back.received.instant, sent.received.instant);
            assert_eq!((back.topic, back.payload), (sent.topic, sent.payload));
            assert_eq!((back.qos, back.retain), (sent.qos, sent.retain));
            assert_eq!(back.properties.as_bytes(), sent.properties.as_bytes());
        }
    }

    /// Messages of three arrivals, in chunks of all sizes: those that are left come back, also when more are removed, and when
    /// others are appended.
    #[test]
    fn removed_messages_are_gone() {
        let first = ReceiveTime::read();
        let arrivals =
            [0, 1, 2].map(|ms| ReceiveTime { instant: first.instant + Duration::from_millis(ms), ..first });
        let made = |places: std::ops::Range<usize>| {
            let mut messages = match places.len() % 2 {
                0 => RawMessages::with_places(Arc::default(), 10),
                _ => RawMessages::default(),
            };
            for place in places {
                let (topic, payload) = (place.to_string(), vec![place as u8; 3000]);
                messages.push(&Message {
                    received: arrivals[place / 40],
                    topic: topic.as_bytes(),
                    payload: &payload,
                    qos: 0,
                    retain: place % 2 == 1,
                    properties: Properties::NONE,
                });
            }
            messages
        };
        for step in [1, 2, 7, 40, 120] {
            for (first, appended) in [(110, 110..110), (110, 110..112), (111, 20..120), (111, 20..119)] {
                let mut messages = made(0..first);
                let mut left: Vec<usize> = (0..first).collect();
                for offset in [0, 1] {
                    messages.remove((0..left.len()).filter(|place| place % step == offset));
                    left = left
                        .into_iter()
                        .enumerate()
                        .filter(|(place, _)| place % step != offset)
                        .map(|(_, of)| of)
                        .collect();
                }
                messages.append(made(appended.clone()));
                left.extend(appended);
                let index = messages.index();
                assert_eq!((messages.len(), messages.iter().count()), (left.len(), left.len()));
                let bytes: usize =
                    messages.iter().map(|message| 12 + message.topic.len() + message.payload.len()).sum();
                assert_eq!(messages.bytes(), bytes);
                assert!(messages.memory_bytes() >= bytes);
                for (place, (of, message)) in left.iter().zip(messages.iter()).enumerate() {
                    let found = messages.get(&index, place).unwrap();
                    for message in [message, found] {
                        assert_eq!(message.topic, of.to_string().as_bytes());
                        assert_eq!((message.received, message.retain), (arrivals[of / 40], of % 2 == 1));
                    }
                }
                assert!(messages.get(&index, left.len()).is_none());
            }
        }
    }

    #[test]
    fn no_message_crosses_the_end_of_a_chunk() {
        let pool = Arc::new(ChunkPool::default());
        let received = ReceiveTime::read();
        let sizes = [0, 1, 100_000, 300_000, 0, 200_000, 200_000, 70_000, 1_000_000, 3];
        for _ in 0..2 {
            let mut messages = RawMessages::new(pool.clone());
            for (i, size) in sizes.into_iter().enumerate() {
                let payload = vec![i as u8; size];
                let (topic, properties) = (b"t".as_slice(), Properties::NONE);
                messages.push(&Message {
                    received,
                    topic,
                    payload: &payload,
                    qos: 0,
                    retain: false,
                    properties,
                });
            }
            assert_eq!(messages.iter().count(), sizes.len());
            let index = messages.index();
            for (place, message) in messages.iter().enumerate() {
                let found = messages.get(&index, place).unwrap();
                assert_eq!((found.topic, found.payload), (message.topic, message.payload));
                assert_eq!(found.received.instant, message.received.instant);
            }
            assert!(messages.get(&index, sizes.len()).is_none());
            for (i, (message, size)) in messages.iter().zip(sizes).enumerate() {
                assert_eq!(message.payload.len(), size);
                assert!(message.payload.iter().all(|byte| *byte == i as u8));
            }
            let bytes: usize = sizes.iter().map(|size| size + 1 + MessageHeader::BYTES).sum();
            assert_eq!(messages.bytes(), bytes);
            let memory = messages.memory_bytes();
            assert!(memory >= bytes, "{memory} bytes for {bytes}");
            // Chunks that were used before count with their full capacity.
            assert!(memory <= 2 * bytes + (256 << 10) + 64, "{memory} bytes for {bytes}");
        }
    }
}
