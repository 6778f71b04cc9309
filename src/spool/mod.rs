//! A durable log on disk between the broker and ClickHouse.
//!
//! - A record counts as written once it is synced. After a failed sync nothing counts that was written since the last success.
//! - A record is never inserted under two tokens, but in parts of its INSERT: how that is divided is on disk before the first part
//!   is attempted. A token never carries other records than at its first attempt, whatever
//!   crash comes between.
//! - Bytes that had been synced and can no longer be read are quarantined and reported. Other records are not affected.
//! - Segments are appended to, read and deleted. No synced byte of them is ever changed. Only the state file is written in
//!   place.
//! - A full disk can always be emptied: deleting a segment, and noting that an INSERT is done, needs no
//!   space.
//!
//! A directory holds `lock`, a state file and segments. The name of a segment holds what a reader must know before the first byte: its
//! number, its marker, and the version of the layout.
//!
//! ```text
//! segment-0000000012-89abcdef01234567.v2       entries, one behind the other
//! segment-0000000012-89abcdef01234567.v2-4096.damaged    bytes at 4096 of it that could not be read
//! state-0000000003.v2      the last sync: two slots of 32 KiB
//! cuts-0000000007-0000000001.v2    how an INSERT that is too large is divided: see `cuts`
//!
//! entry, little-endian:
//!    0  u64  the marker of the segment
//!    8  u64  sequence
//!   16  u64  how many bytes of this segment had been synced when this was written
//!   24  u32  length of the body
//!   28  u32  CRC32C of the body
//!   32  u8   kind, then three bytes 0
//!   36  u32  CRC32C of the 36 bytes before
//!   40       body
//!
//! kind 1, a record; kind 2, done: the INSERT that began with record `sequence` is settled; kind 3, the end of the segment;
//! kind 4, the receipts of all records below `sequence`; kind 5, the beginning of the segment. Kinds 1, 4 and 5 have a body.
//! A record's:
//!    0  u64  the sequence of the first record of its INSERT
//!    8  u64  when its oldest message came, in microseconds since 1970
//!   16  u32  rows
//!   20  u32  messages
//!   24  u32  bytes of the block before it was compressed
//!   28  u32  connection
//!   32  seven times u32 length + bytes: token, route, table, INSERT statement, messages, receipts, block
//!
//! A record without a statement is of dead letters: `stored_dead_letters`.
//!
//! receipts of a record, of one session that a broker keeps:
//!    0  u64  the session, a random number
//!    8  u16 length + bytes: client id
//!       u16 packet id, u8 QoS + 128, u64 fingerprint of topic and payload: for each message above QoS 0;
//!       in earlier records u16 packet id, u8 QoS, u32 CRC32C of topic and payload
//!
//! kind 4: u32 connections; for each, u32 connection, u32 length + receipts; then of records that had been synced behind one
//!    that had not, for each, u64 sequence, u32 connection, u32 length + receipts
//!
//! kind 5: a link to the segment before, the first entry of each segment. A link:
//!    0  u64  number of the segment, 0 for none
//!    8  u64  how many bytes of it are synced
//!   16  u32  records in these
//!   20  u32  CRC32C of the header checksums of the entries in these
//!
//! slot of a state file:
//!    0  u32  CRC32C of what follows
//!    4  u32  length of the slot's content, these 8 bytes included
//!    8  u64  number of the snapshot: the higher one counts
//!   16  u64  number of the segment of the last commit, u64 its marker
//!   32  u64  how many bytes of it are synced, u32 records in these, u32 CRC32C as in a link
//!   48  u64  a sequence above all that were given out
//!   56  u64  records that are not done, u64 messages in these
//!   72  u32  number of links, u32 number of INSERTs
//!   80       links: segments whose contents differ from the link in the next segment; 0 bytes: it was deleted
//!            u64 each: INSERTs that are done since the last commit
//! ```
//!
//! Version 1 had no state file and no entries of kind 5. Its segments are read, and new ones are written behind them.
//!
//! **Contents of a record.** The block is the body of an INSERT, byte for byte ([`CompressedBlock`](crate::clickhouse::CompressedBlock)):
//! sending is copying, and the blocks of several records may follow one another in one body. The messages ([`messages`]) are
//! there as well, compressed once the log has reached a sixteenth of `maxBytes`. They are decoded again if ClickHouse rejects
//! rows, or if the table has changed, and dead letters hold payloads as they came; columns could not give them back. Token,
//! route, table and statement stand in every record, so that damage to one record costs one record.
//!
//! **Writing.** One thread owns the [`Log`]. It appends what arrives. Every `commitMs`, or sooner if the broker's window fills,
//! [`Log::commit`] writes all of it, syncs once, and then acknowledgements leave. After a failed write or sync the segment gets
//! no more entries: the next attempt writes the same entries to a new segment.
//!
//! **The token of a record.** It is decided when the record is appended: it joins the open INSERT of its stream and
//! carries its token (`insert_queue`). An INSERT is only taken when it is closed and all its records are synced. So the
//! decision is on disk before the first attempt, without a write or a sync of its own. While ClickHouse is away, records go on
//! joining: the first INSERT up to the limits of a batch, later ones up to ClickHouse's own limit of rows. New records do not
//! join an INSERT of an earlier process, so that all records of an INSERT are compressed in the same way.
//!
//! **Reading.** [`Log::take`] gives the next INSERT, from memory if it is still there. Each stream has one INSERT out at a time,
//! in the order received. [`Log::done`] ends it; its DONE entry is written by the next commit. If a crash comes first, the
//! INSERT is sent again under the same token.
//!
//! **Redelivered messages.** The acknowledgements of committed records may be lost with the process. The receipts in the records
//! identify these messages, so that the next process recognises them. A segment begins with the newest receipts of those
//! before it.
//!
//! **Deleting.** [`Log::delete_obsolete`] deletes segments whose records are all done. The DONE entry of a record stands in its
//! own segment or in a later one, so the first segment can go at any time. Before a later one goes, the DONE entries that it
//! may hold of earlier segments are rewritten. The last segment stays for its receipts unless its space
//! is needed. So a table that accepts nothing only holds the segments with its own records.
//!
//! **Recovery.** [`Log::open`] restores all records that are not done (`recovery`, `scan`). After bytes
//! that are not a valid entry the scan continues at the next marker, which no publisher knows.
//!
//! **Damage or a tail that a crash truncated.** Bytes that had been synced and are not there, or cannot be read, are damage. How
//! much of a segment had been synced is said by the segment behind it, by the state file for the last one, and by the field
//! `synced` of later headers. A segment that one of these names and that is not there was removed. How many messages are missing
//! follows from the number of messages in the state file.
//!
//! **The state file** (`state`). It is written in place after each commit, without a sync: it is exact after the death of a
//! process, and may be old after that of the machine. It is synced before a segment is deleted, so that
//! a deleted segment is never taken for one that a user removed.
//!
//! **A full disk.** The state file has its space already. If a commit does not fit, it takes the
//! INSERTs that are done, the part of the batch that was written is cut off again, and segments whose
//! records are done are deleted. A segment has at most an eighth of the disk, so that space comes back
//! early. On a disk that is nearly full an INSERT is closed with each commit: it never waits for
//! records that do not fit.
//!
//! **A directory that is removed or replaced** is noticed before the next acknowledgement, and twice a second. Nothing is written
//! into another directory of the same name.
//!
//! **Memory.** Each record that is not done takes about 130 bytes: 4 GiB of records with one message each would be millions.
//! [`Log::memory_bytes`] counts towards the memory limit.
//!
//! **Between router and workers.** [`SpoolThread`] is the thread that owns a [`Log`]. It appends and commits the batches of the
//! router, and hands INSERTs that are due to the workers ([`InsertJob`]). They send the blocks one after the other under the
//! token, with the statement of the first record. If the plan has another statement, or ClickHouse rejects the blocks, they
//! decode the messages of all records into a batch and go on as without a spool. Records find their route by topic and table.

pub mod ack_receipts;
mod batch_record;
mod cuts;
mod insert_queue;
mod inspect;
mod job;
pub mod messages;
mod open;
pub mod stored_dead_letters;
pub mod stored_rows;
mod thread;
pub mod wal;

pub use ack_receipts::SessionHistory;
pub use cuts::{Cuts, Part};
pub use insert_queue::InsertLimits;
pub use inspect::{Backlog, Inspection, inspect};
pub use job::{Control, InsertJob, WorkerPermit};
pub use open::{Opened, open};
pub use thread::waits::{Sources, Waits, Woken};
pub use thread::{Channels, SpoolThread};
pub use wal::chain::Missing;
pub use wal::corruption::{ChainBreak, CorruptRange};
pub use wal::log::{Log, Options};
pub use wal::read::Insert;
pub use wal::record::{Record, StreamKey};
pub use wal::recovery::Recovered;
pub use wal::scan::TruncatedTail;
