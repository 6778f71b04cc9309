use crossbeam_channel::Receiver;

use super::*;
use crate::clickhouse::schema::Table;
use crate::clickhouse::{BlockEncoder, Column};
use crate::config::{Compression, Config};

/// The routers of `connections` connections, and the queue of at most `queue` batches that the sinks take from.
fn routers(connections: usize, batch: &str, queue: usize) -> (Vec<Router>, Receiver<Box<Batch>>) {
    routers_below(256 << 20, connections, batch, queue)
}

/// The same below another ceiling.
fn routers_below(
    memory: usize,
    connections: usize,
    batch: &str,
    queue: usize,
) -> (Vec<Router>, Receiver<Box<Batch>>) {
    routers_of(r#"{ "topic": "t", "table": "t" }"#, memory, connections, batch, queue)
}

/// The same of another route.
fn routers_of(
    route: &str,
    memory: usize,
    connections: usize,
    batch: &str,
    queue: usize,
) -> (Vec<Router>, Receiver<Box<Batch>>) {
    let config = format!(
        r#"{{
            "mqtt": {{
                "url": "mqtt://x", "sharedGroup": "g", "connections": {connections}, "maxPacketBytes": 1024
            }},
            "memory": {{ "maxBytes": {memory} }},
            "clickhouse": {{ "url": "http://x", "maxInFlight": 2 }},
            "routes": [{route}],
            "batch": {batch}
        }}"#
    );
    let context = Arc::new(PipelineContext::new(Config::parse(&config).unwrap(), Box::new(|_| {})));
    let table = Table::of(&[("seq", "UInt32", None)]);
    let plans = TablePlans::new(&context.config.routes, vec![table], Instant::now()).unwrap();
    let plans = Arc::new(plans);
    let (batch_sender, batches) = crossbeam_channel::bounded(queue);
    let dead_letters = crossbeam_channel::unbounded().0;
    let router = |connection| {
        let acks = AckSender::channel().0;
        Router::new(
            context.clone(),
            connection,
            acks,
            plans.clone(),
            batch_sender.clone(),
            dead_letters.clone(),
        )
    };
    ((0..connections).map(router).collect(), batches)
}

fn accept(router: &mut Router, now: ReceiveTime) {
    accept_payload(router, now, br#"{"seq":1}"#);
}

fn accept_payload(router: &mut Router, now: ReceiveTime, payload: &[u8]) {
    let publish = Publish {
        topic: b"t",
        payload,
        qos: 0,
        retain: false,
        duplicate: false,
        packet_id: 0,
        fingerprint: 0,
        properties: Properties::NONE,
    };
    router.accept(&publish, None, now, "c");
}

#[test]
fn a_batch_takes_the_capacity_that_another_connection_was_notified_of() {
    let now = ReceiveTime::read();
    let (mut routers, batches) = routers(2, "{}", 1);
    for router in &mut routers {
        accept(router, now);
        router.seal_all();
    }
    let [one, other] = &mut routers[..] else { unreachable!() };
    assert_eq!((one.is_sealing(), other.is_sealing()), (false, true));
    let again = other.deadline(now.instant).unwrap();
    assert!(again <= now.instant + SEAL_RETRY_DELAY);
    assert_eq!(batches.try_recv().unwrap().connection, 0);
    other.seal_due(again);
    assert_eq!(batches.try_recv().unwrap().connection, 1);
}

#[test]
fn a_batch_that_would_have_to_wait_grows() {
    let now = ReceiveTime::read();
    let (mut routers, batches) = routers(1, r#"{ "maxRows": 10, "maxBytes": 400 }"#, 1024);
    let router = &mut routers[0];
    (0..50).for_each(|_| accept(router, now));
    let mut taken = batches.try_recv().unwrap();
    assert_eq!((taken.rows(), batches.len(), router.is_sealing()), (10, 1, true));
    router.seal_due(now.instant);
    assert!(router.is_sealing(), "as long as no worker takes one");
    taken.queue_permit = None;
    router.seal_due(now.instant);
    assert_eq!((batches.len(), router.is_sealing()), (2, false));
    // 100 numbers of 32 bits are as many bytes as a batch may have, however many wait.
    (0..100).for_each(|_| accept(router, now));
    assert!(router.is_sealing());
    router.seal_due(now.instant);
    let rows: Vec<usize> = batches.try_iter().map(|batch| batch.rows()).collect();
    assert_eq!(rows, [10, 30, 100]);
}

/// A transform that does not keep up stops the reading. Where it is ClickHouse that does not, batches grow behind the transform.
#[test]
fn a_batch_for_a_transform_does_not_grow() {
    let now = ReceiveTime::read();
    let route = r#"{ "topic": "t", "table": "t", "transform": { "function": true } }"#;
    let (mut routers, batches) = routers_of(route, 256 << 20, 1, r#"{ "maxRows": 10 }"#, 2);
    let router = &mut routers[0];
    (0..20).for_each(|_| accept(router, now));
    assert_eq!((batches.len(), router.is_batch_full()), (2, false));
    (0..10).for_each(|_| accept(router, now));
    assert!(router.is_batch_full(), "the transform has taken none");

    let mut taken: Vec<_> = batches.try_iter().collect();
    assert!(!router.is_batch_full());
    router.seal_due(now.instant);
    taken.extend(batches.try_iter());
    (0..20).for_each(|_| accept(router, now));
    taken.extend(batches.try_iter());
    assert_eq!(taken.iter().map(|batch| batch.rows()).collect::<Vec<_>>(), [10; 5], "no worker takes one");
}

/// Batches in a transform, and those that wait for it, do not wait for ClickHouse.
#[test]
fn a_transform_that_is_in_a_call_makes_no_batch_grow() {
    let now = ReceiveTime::read();
    let route = r#"{ "topic": "t", "table": "t", "transform": { "function": true } }"#;
    let (mut routers, batches) = routers_of(route, 256 << 20, 1, r#"{ "maxRows": 10 }"#, 4);
    let router = &mut routers[0];
    (0..10).for_each(|_| accept(router, now));
    let _in_the_call = batches.try_recv().unwrap();
    (0..40).for_each(|_| accept(router, now));
    assert_eq!((batches.len(), router.is_sealing()), (4, false));
    (0..10).for_each(|_| accept(router, now));
    assert!(router.is_batch_full());
}

/// A batch whose columns are small and whose messages are large is sealed too: it takes an eighth of the memory at most.
#[test]
fn a_batch_takes_a_share_of_the_memory() {
    let now = ReceiveTime::read();
    let (mut routers, batches) = routers_below(1 << 20, 1, "{}", 1024);
    let router = &mut routers[0];
    let payload = format!(r#"{{"seq":1,"text":"{}"}}"#, "x".repeat(10_000));
    (0..20).for_each(|_| accept_payload(router, now, payload.as_bytes()));
    let sealed: Vec<_> = batches.try_iter().collect();
    assert_eq!(sealed.iter().map(|batch| batch.rows()).collect::<Vec<_>>(), [14]);
    assert!(sealed[0].bytes() >= 1 << 17 && sealed[0].bytes() < (1 << 17) + 11_000);
}

/// A batch counts the bytes that it takes, and those that its block will take.
#[test]
fn a_batch_counts_its_block_before_it_is_made() {
    let now = ReceiveTime::read();
    let (mut routers, batches) = routers(1, r#"{ "maxRows": 100000 }"#, 1024);
    let router = &mut routers[0];
    (0..50_000).for_each(|_| accept(router, now));
    router.commit_read_stats();
    router.seal_all();
    let batch = batches.try_recv().unwrap();
    let (columns, messages) = (4 * 50_000, batch.messages.memory_bytes());
    assert!(messages >= 50_000 * 22);
    assert!(batch.memory_bytes(false) >= 2 * columns + messages);
    assert!(
        batch.memory_bytes(true) >= 2 * columns + messages + batch.messages.bytes(),
        "and the copy of a record"
    );
    assert_eq!(batch.completion.reserved(), batch.memory_bytes(false));
    let mut encoder = BlockEncoder::new(Compression::None);
    let block = encoder.encode(&batch.plan.column_headers, &batch.columns, &batch.plan.resistance);
    assert!(columns + messages + block.memory_bytes <= batch.memory_bytes(false));
}

/// A replay must make the same batches each time, however long it waits between two messages.
#[test]
fn a_batch_that_waits_for_the_sinks_is_sealed_and_a_large_one_is_not() {
    let (mut routers, batches) = routers(1, r#"{ "maxBytes": 8 }"#, 8);
    let router = &mut routers[0];
    // Large, but not noticed yet: its size is checked every 16 messages.
    (0..3).for_each(|_| accept(router, ReceiveTime::read()));
    router.seal_waiting();
    assert!(router.has_open_batch() && batches.is_empty());
    router.routes[0].seal_pending = true;
    router.seal_waiting();
    assert!(!router.has_open_batch());
    assert_eq!(batches.try_recv().unwrap().rows(), 3);
}

/// Rows that are dropped are gone from the batch, and what is left of a message is kept as it is.
#[test]
fn a_batch_has_the_rows_that_are_not_repeated() {
    let now = ReceiveTime::read();
    let route = r#"{ "topic": "t", "table": "t", "dedupe": { "by": "seq" } }"#;
    let (mut routers, batches) = routers_of(route, 256 << 20, 2, "{}", 1);
    let [one, other] = &mut routers[..] else { unreachable!() };
    for payload in [
        r#"[{"seq":1},{"seq":2},{"seq":1},{"seq":3}]"#,
        r#"{"seq":3}"#,
        r#"[{"seq":4},{"seq":1}]"#,
        r#"[{"seq":4},{"seq":2}]"#,
    ] {
        accept_payload(one, now, payload.as_bytes());
    }
    accept_payload(other, now, br#"{"seq":4}"#);
    one.seal_all();
    other.seal_all();
    let batch = batches.try_recv().unwrap();
    assert!(batches.try_recv().is_err(), "connections share what is remembered");
    let [Column::Fixed { data, .. }] = &batch.columns[..] else { panic!("one column of numbers") };
    assert_eq!(data, &[1u32, 2, 3, 4].map(u32::to_le_bytes).concat());
    assert_eq!((batch.messages.len(), batch.message_rows.as_ref().unwrap().ends()), (2, &[3, 4][..]));
    let counts = one.context.ledger.counts();
    assert_eq!((counts.received, counts.dropped, counts.pending), (4, 2, 2));
}

/// Rows that wait for values are counted, have a deadline, and stay where batches alone are sealed.
#[test]
fn rows_that_are_gathered_wait_outside_of_batches() {
    let config = r#"{
        "mqtt": { "url": "mqtt://x" }, "clickhouse": { "url": "http://x" },
        "routes": [{ "topic": "t", "table": "t", "pivot": { "key": "id", "windowMs": 1000 } }]
    }"#;
    let context = Arc::new(PipelineContext::new(Config::parse(config).unwrap(), Box::new(|_| {})));
    let nullable = "Nullable(UInt8)";
    let table = Table::of(&[("id", "UInt8", None), ("a", nullable, None), ("b", nullable, None)]);
    let plans = TablePlans::new(&context.config.routes, vec![table], Instant::now()).unwrap();
    let (sender, batches) = crossbeam_channel::bounded(1);
    let (acks, mut commands) = AckSender::channel();
    let dead_letters = crossbeam_channel::unbounded().0;
    let mut router = Router::new(context.clone(), 0, acks, Arc::new(plans), sender, dead_letters);
    let start = ReceiveTime::read();
    let at = |ms| ReceiveTime { instant: start.instant + Duration::from_millis(ms), ..start };
    let accept = |router: &mut Router, sequence, ms, payload: &[u8]| {
        let properties = Properties::NONE;
        let publish = Publish {
            topic: b"t",
            payload,
            qos: 1,
            retain: false,
            duplicate: false,
            packet_id: 1,
            fingerprint: 0,
            properties,
        };
        router.accept(&publish, Some(sequence), at(ms), "c");
        router.commit_read_stats();
    };
    accept(&mut router, 1, 0, br#"{"id":1,"a":1}"#);
    accept(&mut router, 2, 100, br#"{"id":2,"a":2}"#);
    assert!(context.memory.used() > 200, "{}", context.memory.used());
    assert_eq!(router.deadline(start.instant), Some(at(1000).instant));
    router.seal_batches();
    router.seal_due(at(999).instant);
    assert!(!router.has_open_batch() && batches.is_empty());
    assert!(
        !context.ledger.wait_below(context.ledger.watermark(), Some(Instant::now())),
        "a flush waits for them"
    );
    accept(&mut router, 3, 900, br#"{"id":1,"b":1}"#);
    assert!(router.has_open_batch(), "all columns are there");
    router.seal_due(at(1100).instant);
    assert!(router.row_deadline().is_none());
    router.seal_all();
    let batch = batches.try_recv().unwrap();
    assert_eq!((batch.rows(), batch.messages.len()), (2, 3));
    assert_eq!(batch.message_rows.as_ref().unwrap().ends(), [0, 1, 2]);
    let messages: Vec<Vec<u8>> = batch.messages.iter().map(|message| message.payload.to_vec()).collect();
    assert_eq!(messages, [&br#"{"id":1,"a":1}"#[..], br#"{"id":1,"b":1}"#, br#"{"id":2,"a":2}"#]);
    batch.complete();
    let settled = commands.try_recv().unwrap().settled().unwrap();
    let mut expected = AckSet::default();
    [1, 3, 2].into_iter().for_each(|sequence| expected.add(sequence));
    assert_eq!(settled, expected);
    router.commit_read_stats();
    assert_eq!((context.ledger.counts().pending, context.memory.used()), (0, 0));
    assert!(context.ledger.wait_below(context.ledger.watermark(), Some(Instant::now())));
}
