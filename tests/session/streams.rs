//! The same bytes in reads of other sizes mean the same, and meaningless bytes do no harm.

use millrace::mqtt::session::SessionError;
use proptest::prelude::*;
use serde_json::json;

use crate::broker::{packet, puback, stream};
use crate::client::{Client, Seen, options};
use crate::no_files;

/// How a connection went: events, bytes written, and how it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    written: Vec<u8>,
    end: Result<(), SessionError>,
}

fn outcome<'p>(mut client: Client, chunks: impl IntoIterator<Item = &'p [u8]>) -> Outcome {
    client.is_eager = true;
    let end = chunks.into_iter().try_for_each(|chunk| client.feed(chunk));
    assert!(client.session.outgoing().len() < 4096, "what it says does not grow without bound");
    Outcome { written: client.written(), seen: client.seen, end }
}

/// Cuts `bytes` into chunks of these lengths, over and over.
fn chunks<'b>(mut bytes: &'b [u8], lengths: &[usize]) -> Vec<&'b [u8]> {
    let mut chunks = Vec::new();
    for length in lengths.iter().cycle() {
        let (chunk, rest) = bytes.split_at(bytes.len().min(*length));
        chunks.push(chunk);
        bytes = rest;
        if bytes.is_empty() {
            break;
        }
    }
    chunks
}

#[test]
fn a_stream_means_what_the_broker_said() {
    for version in [4, 5] {
        let (bytes, seen) = stream(version);
        let mut client = Client::new(&options(version, json!({ "qos": 2 })));
        client.written();
        let outcome = outcome(client, [bytes.as_slice()]);
        assert_eq!((outcome.seen, outcome.end), (seen, Ok(())));
        let acknowledged: Vec<u8> = [10, 11, 65535, 12, 13].into_iter().flat_map(puback).collect();
        assert!(outcome.written.windows(acknowledged.len()).any(|window| window == acknowledged));
        assert!(outcome.written.ends_with(&puback(10)));
    }
}

#[test]
fn every_split_of_a_stream_means_the_same() {
    for version in [4, 5] {
        let client = || Client::new(&options(version, json!({ "qos": 2 })));
        let (bytes, _) = stream(version);
        let whole = outcome(client(), [bytes.as_slice()]);
        assert_eq!(outcome(client(), bytes.chunks(1)), whole);
        for at in 1..bytes.len() {
            let (first, second) = bytes.split_at(at);
            assert_eq!(outcome(client(), [first, second]), whole, "split at {at}");
        }
    }
}

/// Something near a packet: a length that is true, and a body that may be anything.
fn some_packet() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        4 => 0x30..=0x3fu8,
        4 => prop::sample::select(vec![0x20u8, 0x62, 0x90, 0xb0, 0xd0, 0xe0]),
        1 => any::<u8>(),
    ];
    let body = prop_oneof![
        4 => prop::collection::vec(prop_oneof![0..4u8, any::<u8>()], 0..40),
        1 => prop::collection::vec(any::<u8>(), 0..40),
        1 => (0..600u16, prop::collection::vec(any::<u8>(), 1000..1400)).prop_map(|(topic_bytes, mut body)| {
            body[..2].copy_from_slice(&topic_bytes.to_be_bytes());
            body
        }),
        1 => prop::collection::vec(any::<u8>(), 1000..1400),
    ];
    (first, body).prop_map(|(first, body)| packet(first, &[&body]))
}

/// A stream with a few bytes changed, added or missing.
fn some_damage(version: u8) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..3), 1..6).prop_map(move |changes| {
        let mut bytes = stream(version).0;
        for (at, byte, kind) in changes {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] ^= byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

/// Any bytes in reads of any size: no panic, nothing left unread, and the same end.
fn check_anything(version: u8, is_subscribed: bool, bytes: &[u8], lengths: &[usize]) {
    let config = options(version, json!({ "qos": 2 }));
    let client = || match is_subscribed {
        true => Client::subscribed(&config, version),
        false => Client::new(&config),
    };
    assert_eq!(outcome(client(), chunks(bytes, lengths)), outcome(client(), [bytes]));
}

proptest! {
    #![proptest_config(no_files(512))]

    #[test]
    fn any_reads_of_a_stream_mean_the_same(
        version in 4..6u8,
        lengths in prop::collection::vec(1..300usize, 1..20),
    ) {
        let client = || Client::new(&options(version, json!({ "qos": 2 })));
        let (bytes, _) = stream(version);
        prop_assert_eq!(outcome(client(), chunks(&bytes, &lengths)), outcome(client(), [bytes.as_slice()]));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(
        version in 4..6u8,
        is_subscribed: bool,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        lengths in prop::collection::vec(1..50usize, 1..5),
    ) {
        check_anything(version, is_subscribed, &bytes, &lengths);
    }

    #[test]
    fn any_packets_are_taken_or_refused(
        version in 4..6u8,
        is_subscribed: bool,
        packets in prop::collection::vec(some_packet(), 1..8),
        lengths in prop::collection::vec(1..500usize, 1..5),
    ) {
        check_anything(version, is_subscribed, &packets.concat(), &lengths);
    }

    #[test]
    fn damaged_streams_are_taken_or_refused(
        (version, bytes) in (4..6u8).prop_flat_map(|version| (Just(version), some_damage(version))),
        lengths in prop::collection::vec(1..500usize, 1..5),
    ) {
        check_anything(version, false, &bytes, &lengths);
    }
}
