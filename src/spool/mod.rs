//! A durable log on disk between the broker and ClickHouse.
//!
//! - Nothing counts as written before it was synced; after a failed sync nothing that came since the last one does.
//! - A record is never inserted under two tokens, and a token never carries other records than at its first attempt,
//!   whatever crash lies between.
//! - What was synced and can no longer be read is put aside and told of. It does not take others with it.
//! - Files are appended to, read and deleted; none is ever changed.
//!
//! A directory holds `lock` and segments. All that must be known before reading is in the name of a segment: its number,
//! its marker, and the version of the layout.
//!
//! ```text
//! segment-0000000012-89abcdef01234567.v1       entries, one behind the other
//! segment-0000000012-89abcdef01234567.v1-4096.damaged    bytes at 4096 of it that could not be read
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
//! kind 4, the receipts of all records below `sequence`. Only a record and receipts have a body. A record's:
//!    0  u64  the sequence of the first record of its INSERT
//!    8  u64  when its oldest message came, in microseconds since 1970
//!   16  u32  rows
//!   20  u32  messages
//!   24  u32  bytes of the block before it was compressed
//!   28  u32  connection
//!   32  seven times u32 length + bytes: token, route, table, INSERT statement, messages, receipts, block
//!
//! receipts of a record, of one session that a broker keeps:
//!    0  u64  the session, a random number
//!    8  u16 length + bytes: client id
//!       u16 packet id, u8 QoS, u32 checksum of topic and payload: for each message above QoS 0
//!
//! kind 4: u32 connections; for each, u32 connection, u32 length + receipts; then of records that had been synced behind one
//!    that had not, for each, u64 sequence, u32 connection, u32 length + receipts
//! ```
//!
//! **Why a record holds what it holds.** The block is the very bytes that the body of an INSERT carries ([`Packed`](crate::clickhouse::Packed)): sending
//! is copying. Blocks of several records may follow one another in one body. The messages are there as well ([`messages`],
//! compressed once the log has a sixteenth of `maxBytes`): what ClickHouse refuses is decoded from them again to find the bad
//! rows, so is what was made for a table that has changed since, and dead letters hold payloads as they came. None of that
//! could be had from columns. Token, route, table and statement stand in every record and not once per segment, so that damage
//! to one record is damage to one record.
//!
//! **Writing.** One thread owns the [`Log`]. It appends what arrives, and every `commitMs`, or when the broker waits,
//! [`Log::commit`] writes all of it at once and syncs once; then acknowledgements leave. A failed write or sync leaves the
//! segment behind for good: the same entries go to a new one at the next attempt.
//!
//! **Which records, which token.** That is decided when a record is appended: it joins the open INSERT of its lane, whose
//! token it carries (`queue`). An INSERT is taken only when it is closed and every record of it is synced. So the decision
//! is on disk before the first attempt and costs no write of its own; no sync, and no room on a full disk. While ClickHouse
//! is away, records go on joining: the INSERT in front until the limits of a batch are reached, those behind it beyond
//! `maxRows`. What an earlier life left is joined by nothing, so that the records of an INSERT are also all compressed in the
//! same way.
//!
//! **Reading.** [`Log::take`] gives the next INSERT, from memory where that still has it. One of each lane is out at a time,
//! in the order received. [`Log::done`] ends it; the entry of it rides along with the next commit. If a crash comes first, it
//! is sent again under the same token.
//!
//! **What a broker sends again.** The acknowledgements of what was committed may be lost with the process. `receipts` in the
//! records say which messages these were, so that the next one knows them. A segment begins with the newest of those before it.
//!
//! **Deleting.** [`Log::sweep`] deletes segments of which all records are done. That a record is done is said in a later
//! segment, or in the same: the first one can go at any time; before one behind it goes, what may be said there of those in
//! front is said again. The last one that was written stays for its receipts, unless its room is wanted. So a table that
//! takes nothing holds up the room of what it has, and what lies beside it.
//!
//! **Recovery.** [`Log::open`] takes in all that is not done (`recovery`, `scan`). `synced` in the headers tells damage from
//! a tail that a crash cut off: what lies below had been synced. Behind bytes that are no entry the next marker is sought;
//! nobody who can publish knows it.
//!
//! **In memory.** Each record that is not done has some 130 bytes there, and 4 GiB of records of one message each would be
//! millions: [`Log::memory_bytes`] is to be counted towards the ceiling.
//!
//! **Between intake and workers.** [`SpoolThread`] is the thread that owns a [`Log`]: what comes from the intake it appends and
//! commits, then acknowledgements leave, and what is due it hands to the workers ([`InsertJob`]). They send the blocks one after
//! the other under the token, with the statement of the first record. Where the plan has another statement, or ClickHouse does
//! not take them, they make a batch of the messages of all records and go on as without a spool. Records find their route by
//! topic and table.

pub mod ack_receipts;
mod insert_queue;
mod inspect;
mod job;
pub mod messages;
mod thread;
pub mod wal;

pub use ack_receipts::Session;
pub use insert_queue::InsertLimits;
pub use inspect::{Backlog, Inspection, inspect};
pub use job::{Control, InsertJob, WorkerPermit};
pub use thread::{Channels, Opened, SpoolThread, open};
pub use wal::corruption::Damage;
pub use wal::log::{Insert, Log, Options};
pub use wal::record::{Lane, Record};
pub use wal::recovery::Recovered;
pub use wal::scan::Torn;
