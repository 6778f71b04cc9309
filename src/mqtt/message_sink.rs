//! Where a connection hands its messages. The router of `ingest` implements it.

use std::time::Instant;

use crate::core::ack_set::AckSet;
use crate::core::clock::ReceiveTime;
use crate::mqtt::{Fault, Publish};

/// A message to the broker, at QoS 0.
#[derive(Debug, PartialEq, Eq)]
pub struct Outgoing {
    pub topic: String,
    pub payload: Vec<u8>,
}

pub trait MessageSink {
    /// The number of the connection, from 0.
    fn connection(&self) -> usize;

    /// Messages from now on belong to this session of the broker. With `has_covers` it has subscriptions that cover several
    /// routes (see [`crate::mqtt::offers`]), and what no route takes of these is skipped.
    fn begin_session(&mut self, session: u64, has_covers: bool);

    /// Takes messages by the routes as they are now; `false`: batches must leave first, ask again soon. Until
    /// [`MessageSink::settle_routes`] messages of both sets of subscriptions may come.
    fn adopt_routes(&mut self) -> bool;

    /// The subscriptions are those of the routes.
    fn settle_routes(&mut self);

    /// Takes one message: into the batch of the first route that matches its topic, or to the dead letters.
    fn accept(&mut self, publish: &Publish<'_>, sequence: Option<u64>, now: ReceiveTime, client_id: &str);

    /// Counts a message that came on an earlier connection and is in a batch already.
    fn count_duplicate(&mut self);

    /// Takes a message that MQTT does not allow: it becomes a dead letter.
    fn accept_invalid(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        fault: &Fault,
        sequence: Option<u64>,
        now: ReceiveTime,
    );

    /// Takes a message whose payload was passed over.
    fn accept_too_large(
        &mut self,
        topic: &[u8],
        packet_bytes: usize,
        sequence: Option<u64>,
        now: ReceiveTime,
    );

    /// Counts what was accepted since the last call and sends dead letters on. To be called after each read.
    fn commit_read_stats(&mut self);

    /// Counts the memory that the open batches take now, in the middle of a read.
    fn count_memory(&mut self);

    /// Takes the messages that are to be published because of what was accepted: after each read.
    fn take_outgoing(&mut self, now: ReceiveTime) -> Vec<Outgoing>;

    /// Takes the messages that may be acknowledged without waiting.
    fn take_ready_acks(&mut self) -> AckSet;

    /// Seals batches that have reached their age, and those that could not be sent before.
    fn seal_due(&mut self, now: Instant);

    /// Seals everything, as soon as the sinks have capacity: also rows that wait for values.
    fn seal_all(&mut self);

    /// Seals the batches that are open, as soon as the sinks have capacity.
    fn seal_batches(&mut self);

    /// Whether a batch has grown as large as one may: then nothing more must be read.
    fn is_batch_full(&self) -> bool;

    /// When [`MessageSink::seal_due`] has something to do.
    fn deadline(&self, now: Instant) -> Option<Instant>;

    fn has_open_batch(&self) -> bool;

    /// Whether a batch that is to be sealed waits for the sinks to have room.
    fn is_sealing(&self) -> bool;
}
