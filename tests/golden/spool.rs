//! Spool directories for the same input in both versions of the layout: `spool-f83bdce/` is version 1, which the code at that
//! commit wrote, `spool-v2/` is version 2 with receipts of 32 bits, `spool-v2-xxh3/` with receipts of 64. All must be read and must
//! give the INSERTs that they always gave, under the same tokens. The files that are written today must be those of the last,
//! byte for byte. (The segments end at different records, and with a segment INSERTs are closed: so INSERTs differ.)
//!
//! Two processes wrote each. The first had the thread of the spool: three commits of one and two batches, all pending at its end. The
//! second had the log alone, with small segments: it inserted the first of what it found, appended records of another
//! connection, inserted one of these, and left the rest. So there are several segments, records that are done, records that
//! are not, and receipts at the beginning of segments.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::engine::{
    AckHistory, AckRecord, AckSender, BlockEncoder, Channels, Column, ColumnType, Command, Compression,
    CompressionHints, Config, Directory, Disk, Insert, InsertLimits, Inspection, Log, MessageSink, Opened,
    Options, PipelineContext, Properties, Publish, RawMessage, RawMessages, ReceiveTime, Record, Router,
    SpoolThread, StreamKey, Table, TableColumn, TablePlans, fingerprint, frame, inspect, messages, receipts,
};
use super::expected::{assert_golden, digest, directory, hex, is_writing};

/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);
const SESSION: u64 = 0x5e55_0001_5e55_0001;

const VERSION_1: &str = "spool-f83bdce";
const VERSION_2: &str = "spool-v2";
/// Version 2, where the fingerprints of messages have 64 bits.
const TODAY: &str = "spool-v2-xxh3";

fn fixture(name: &str) -> PathBuf {
    directory().join(name)
}

fn at(millis: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_730_000_000_000 + millis)
}

fn options(life: u64, segment_bytes: u64) -> Options {
    Options {
        name: "golden".into(),
        open_id: life,
        max_bytes: 1 << 20,
        segment_bytes,
        keep_bytes: 0,
        insert: InsertLimits { rows: 4, rows_behind: 8, bytes: 1 << 20, decoded_bytes: 1 << 30, delay: LONG },
    }
}

/// Batches of an router, committed by the thread of the spool.
fn write_by_the_thread(dir: &Path) {
    let config = serde_json::json!({
        "name": "golden",
        "mqtt": { "url": "mqtt://nowhere", "clientId": "fleet-1" },
        "clickhouse": { "url": "http://nowhere", "maxInFlight": 1 },
        "routes": [
            { "topic": "drivers/{driver}/position", "table": "fleet.positions" },
            { "topic": "alarms/#", "table": "alarms" },
        ],
        "spool": { "dir": dir },
    });
    let context =
        Arc::new(PipelineContext::new(Config::parse(&config.to_string()).unwrap(), Box::new(|_| ())));
    let column = |name: &str, type_name: &str| TableColumn {
        name: name.into(),
        column_type: ColumnType::parse(type_name, "UTC").unwrap(),
        default: None,
        is_ephemeral: false,
        is_added: false,
    };
    let tables = vec![
        Table::assumed(vec![
            column("driver", "String"),
            column("seq", "UInt32"),
            column("lat", "Nullable(Float64)"),
        ]),
        Table::assumed(vec![column("text", "String")]),
    ];
    let plans = Arc::new(TablePlans::new(&context.config.routes, tables, Instant::now()).unwrap());
    let (acks, mut commands) = AckSender::channel();
    let directory = Directory::lock(dir).unwrap();
    let (log, recovered) = Log::open(directory, options(0x11fe, 64 << 10), Instant::now()).unwrap();
    let (batch_sender, batches) = crossbeam_channel::bounded(8);
    let (_controls_sender, controls) = crossbeam_channel::unbounded();
    let (job_sender, jobs) = crossbeam_channel::unbounded();
    let channels = Channels { batches, controls, jobs: job_sender };
    let spool = SpoolThread::new(context.clone(), Opened { log, recovered }, channels);
    let thread = std::thread::spawn(|| spool.run());

    let mut router = Router::new(context, 0, acks, plans, batch_sender, crossbeam_channel::unbounded().0);
    router.begin_session(SESSION, false);
    let instant = Instant::now();
    // For each commit the messages of one batch: topic, payload, QoS and packet id.
    let commits: [&[(&str, &str, u8, u16)]; 4] = [
        &[
            ("drivers/7/position", r#"{"seq":1,"lat":52.5}"#, 1, 1),
            ("drivers/8/position", r#"{"seq":2,"lat":null}"#, 2, 2),
            ("drivers/9/position", r#"{"seq":3}"#, 0, 0),
        ],
        &[("drivers/7/position", r#"{"seq":4,"lat":-0.25}"#, 1, 3)],
        &[("alarms/fire/1", r#"{"text":"zu heiß"}"#, 2, 4)],
        &[("drivers/7/position", r#"[{"seq":5},{"seq":6,"lat":1e3}]"#, 1, 65_535)],
    ];
    for (number, commit) in commits.iter().enumerate() {
        let now = ReceiveTime { instant, system: at(10 * number as u64) };
        for (topic, payload, qos, packet_id) in *commit {
            let publish = Publish {
                topic: topic.as_bytes(),
                payload: payload.as_bytes(),
                qos: *qos,
                retain: *packet_id == 4,
                duplicate: false,
                packet_id: *packet_id,
                fingerprint: fingerprint(topic.as_bytes(), payload.as_bytes()),
                properties: Properties::NONE,
            };
            let sequence = (*qos > 0).then_some(u64::from(*packet_id));
            router.accept(&publish, sequence, now, "fleet-1");
        }
        router.seal_all();
        // Once it is acknowledged it is committed: the next batch is another commit.
        loop {
            match commands.blocking_recv().unwrap() {
                Command::Settled(acks) if !acks.is_empty() => break,
                _ => {}
            }
        }
    }
    drop((router, jobs));
    thread.join().unwrap();
}

/// A record as the thread of the spool makes one of a batch.
fn record(number: u32, compression: Compression) -> Record {
    let heads = [("seq", "UInt32"), ("text", "String")];
    let mut columns = heads.map(|(_, name)| Column::new(&ColumnType::parse(name, "UTC").unwrap(), false));
    let rows = 1 + number % 2;
    let mut raw = RawMessages::default();
    let mut acknowledged = AckHistory::of_session(SESSION + 1);
    let received = ReceiveTime { instant: Instant::now(), system: at(1_000 + u64::from(number)) };
    for row in 0..rows {
        let payload = format!(r#"{{"seq":{},"text":"{}"}}"#, 10 * number + row, "long ".repeat(20));
        columns[0].push_fixed((10 * number + row).to_le_bytes());
        columns[1].push_string("long ".repeat(20).as_bytes());
        let packet_id = (100 + 10 * number + row) as u16;
        acknowledged.push(AckRecord {
            packet_id,
            qos: 2,
            fingerprint: fingerprint(b"second/t", payload.as_bytes()),
        });
        raw.push(&RawMessage {
            received,
            topic: b"second/t",
            payload: payload.as_bytes(),
            qos: 2,
            retain: false,
            properties: Properties::NONE,
        });
    }
    let heads = heads.map(|(name, type_name)| (name.to_string(), type_name.to_string()));
    let packed = BlockEncoder::new(compression).encode(&heads, &columns, &CompressionHints::of(2));
    Record {
        stream: StreamKey { connection: 1, route: "second/#".into(), table: "db.second".into() },
        statement: "INSERT INTO `db`.`second` (`seq`, `text`) FORMAT Native".into(),
        received_at: received.system,
        rows,
        messages: rows,
        block_bytes: packed.block_bytes as u32,
        block: packed.frames,
        raw: messages::encode(&raw, "fleet-2", &[], compression).unwrap(),
        receipts: receipts::encode(&acknowledged, "fleet-2"),
    }
}

/// A second life of the same directory, with segments of a few records.
fn write_by_the_log(dir: &Path) {
    let now = Instant::now();
    let (mut log, recovered) = Log::open(Directory::lock(dir).unwrap(), options(0x22fe, 1024), now).unwrap();
    assert_eq!((recovered.records, recovered.damages.len(), recovered.torn.len()), (4, 0, 0));
    log.commit().unwrap();
    let first = log.take(now, true).unwrap().unwrap();
    log.done(first.id);
    for number in 0..8 {
        let compression = [Compression::Lz4, Compression::None][number as usize / 4];
        log.append(record(number, compression), now);
        if number % 2 == 1 {
            log.commit().unwrap();
            log.delete_obsolete().unwrap();
        }
    }
    // The next is the other lane of the first life; then one of this life.
    for _ in 0..2 {
        let insert = log.take(now, true).unwrap().unwrap();
        if insert.records[0].stream.connection == 1 {
            log.done(insert.id);
        }
    }
    log.commit().unwrap();
    log.delete_obsolete().unwrap();
    log.close().unwrap();
}

/// The files of a spool by name; not its lock, which is empty. Without the zeros at the end of a state file.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let disk = Directory::open_read_only(dir);
    let names = disk.names().unwrap().into_iter().filter(|name| name != "lock");
    let read = |name: &String| {
        let mut bytes = disk.read(name).unwrap();
        if name.starts_with("state-") {
            bytes.truncate(bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1));
        }
        bytes
    };
    names.map(|name| (name.clone(), read(&name))).collect()
}

#[test]
fn the_log_is_written_as_it_was_before() {
    let dir = tempfile::tempdir().unwrap();
    write_by_the_thread(dir.path());
    write_by_the_log(dir.path());
    let today = files(dir.path());
    if is_writing() && !fixture(TODAY).exists() {
        std::fs::create_dir(fixture(TODAY)).unwrap();
        for (name, content) in &today {
            std::fs::write(fixture(TODAY).join(name), content).unwrap();
        }
    }
    let before = files(&fixture(TODAY));
    assert_eq!(today.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    for (name, before) in before {
        assert_eq!(hex(&today[&name]), hex(&before), "{name}");
    }
}

/// A copy of the fixture, which may be written to.
fn copy(fixture: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, mut content) in files(fixture) {
        if name.starts_with("state-") {
            content.resize(64 << 10, 0);
        }
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

#[test]
fn every_version_is_read() {
    assert_golden("spool.txt", &read(&fixture(VERSION_1)));
    assert_golden("spool-v2.txt", &read(&fixture(VERSION_2)));
    assert_golden("spool-v2-xxh3.txt", &read(&fixture(TODAY)));
}

#[test]
fn a_spool_of_version_1_goes_on_in_version_2() {
    let dir = copy(&fixture(VERSION_1));
    let now = Instant::now();
    let open =
        |open_id| Log::open(Directory::lock(dir.path()).unwrap(), options(open_id, 1024), now).unwrap();
    let (mut log, before) = open(3);
    for number in 8..12 {
        log.append(record(number, Compression::Lz4), now);
        log.commit().unwrap();
        log.delete_obsolete().unwrap();
    }
    drop(log);
    let names = files(dir.path()).into_keys();
    let (old, new): (Vec<_>, Vec<_>) =
        names.filter(|name| !name.starts_with("state-")).partition(|name| name.ends_with(".v1"));
    assert!(!old.is_empty() && !new.is_empty(), "{old:?} and {new:?}");
    let (_, after) = open(4);
    assert_eq!(after.records, before.records + 4);
    assert!(after.damages.is_empty() && after.breaks.is_empty() && after.torn.is_empty());
}

/// Reads a copy of a fixture and takes all INSERTs out of it.
fn read(fixture: &Path) -> String {
    let dir = copy(fixture);
    let mut out = String::new();
    print_inspection(&mut out, &inspect(&Directory::open_read_only(dir.path())).unwrap());
    let now = Instant::now();
    let (mut log, recovered) =
        Log::open(Directory::lock(dir.path()).unwrap(), options(3, 1024), now).unwrap();
    assert_eq!((recovered.damages.len(), recovered.torn.len()), (0, 0));
    writeln!(
        out,
        "recovered: {} records, {} rows, {} messages, INSERTs and their messages {:?}",
        recovered.records, recovered.rows, recovered.messages, recovered.inserts
    )
    .unwrap();
    log.commit().unwrap();
    for connection in 0..3 {
        let Some(session) = log.session(connection) else { continue };
        let known: Vec<_> = session
            .acknowledged
            .iter()
            .map(|AckRecord { packet_id, qos, fingerprint }| format!("{packet_id}/{qos}/{fingerprint:08x}"))
            .collect();
        writeln!(
            out,
            "connection {connection}: session {:016x} of {}, acknowledged {}",
            session.acknowledged.session(),
            session.client_id,
            known.join(" ")
        )
        .unwrap();
    }
    while let Some(insert) = log.take(now, true).unwrap() {
        print_insert(&mut out, &insert);
        log.done(insert.id);
    }
    log.commit().unwrap();
    assert_eq!(log.open_records(), 0);
    out
}

fn print_inspection(out: &mut String, inspection: &Inspection) {
    let Inspection { segments, bytes, streams, damages, quarantined, torn, breaks, missing, foreign } =
        inspection;
    assert!(damages.is_empty() && quarantined.is_empty() && torn.is_empty());
    assert!(breaks.is_empty() && missing.is_none() && foreign.is_empty());
    writeln!(out, "{segments} segments, {bytes} bytes").unwrap();
    for backlog in streams {
        let StreamKey { connection, route, table } = &backlog.stream;
        let oldest = backlog.oldest.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        writeln!(
            out,
            "lane {connection}, {route} to {table}: {} records, {} rows, {} messages, {} bytes, oldest {oldest}",
            backlog.records, backlog.rows, backlog.messages, backlog.bytes
        )
        .unwrap();
    }
}

fn print_insert(out: &mut String, insert: &Insert) {
    let body: Vec<u8> = insert.records.iter().flat_map(|record| record.block.to_vec()).collect();
    writeln!(out, "\nINSERT {}, token {}, body {}", insert.id, insert.token, digest(&body)).unwrap();
    for record in &insert.records {
        let StreamKey { connection, route, table } = &record.stream;
        writeln!(out, "{}\n  connection {connection}, {route} to {table}", record.statement).unwrap();
        let received = record.received_at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros();
        writeln!(
            out,
            "  {} rows, {} messages, {} bytes, received at {received}, receipts of {} bytes",
            record.rows,
            record.messages,
            record.block_bytes,
            record.receipts.len()
        )
        .unwrap();
        *out += &hex(&frame::decompress(&record.block).unwrap());
        print_messages(out, &record.raw);
    }
}

fn print_messages(out: &mut String, raw: &Bytes) {
    let mut decoded = RawMessages::default();
    let (client_id, _) = messages::decode(raw, ReceiveTime::read(), &mut decoded).unwrap();
    for message in decoded.iter() {
        let received = message.received.system.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos();
        writeln!(
            out,
            "  {client_id}: {received} {} QoS {}{} {}",
            String::from_utf8_lossy(message.topic),
            message.qos,
            if message.retain { " retained" } else { "" },
            String::from_utf8_lossy(message.payload)
        )
        .unwrap();
    }
}
