//! Pauses between reads: how they begin, and what ends them early. `read_pacing` says how long they are.

use std::time::{Duration, Instant};

use super::read_pacing::Unacknowledged;
use super::{Connection, clock};
use crate::mqtt::transport::{TransportStream, socket};
use crate::mqtt::{Command, MessageSink};

/// How long a flush waits for the rest of what has arrived in part.
const FLUSH_WAIT: Duration = Duration::from_millis(5);
/// How often a flush reads before it takes what there is.
const FLUSH_READS: u32 = 8;

/// The flushes that are to be answered, and how often they looked for what has arrived.
#[derive(Debug, Default)]
pub(super) struct PendingFlushes {
    done: Vec<crossbeam_channel::Sender<u64>>,
    looked: u32,
}

impl<S: MessageSink> Connection<S> {
    /// Begins a rest if it is worth one: a read emptied the socket.
    pub(super) fn begin_rest(&mut self) {
        let gathered = std::mem::take(&mut self.gathered);
        let now = clock();
        let unacknowledged = self.unacknowledged();
        let rest = self.pacer.after(gathered, unacknowledged, now);
        // The oldest message may have waited in the socket for as long, and no batch becomes due during the rest.
        self.sink.seal_due(now + 2 * rest);
        if self.acknowledges_commits && self.pacer.is_window_nearly_full(unacknowledged) {
            self.sink.seal_batches();
        }
        self.resting_until = (!rest.is_zero()).then(|| now + rest);
    }

    fn unacknowledged(&self) -> Unacknowledged {
        let messages = self.session.unacknowledged();
        let receive_maximum = usize::from(self.context.config.mqtt.receive_maximum);
        let window = self.window.suspected().unwrap_or(usize::MAX).min(receive_maximum);
        Unacknowledged { messages, window: (messages > 0).then_some(window) }
    }

    /// Whether it pauses now. The end of a rest shows how much has come meanwhile.
    pub(super) fn is_resting<T: TransportStream>(&mut self, stream: &T, reading: bool, now: Instant) -> bool {
        let Some(until) = self.resting_until else { return false };
        let is_over = now >= until || !reading || self.drain.is_some() || self.closing;
        // An answer of the broker, or somebody else, waits for it.
        let is_hurried = self.session.is_opening() || self.change.is_some() || !self.flushes.done.is_empty();
        if is_over || is_hurried {
            self.resting_until = None;
            self.gathered.fill = stream.socket().and_then(socket::fill);
        }
        self.resting_until.is_some()
    }

    /// Pauses until something is due or a command comes. Cancelled it returns at once.
    pub(super) fn rest(&mut self, deadline: Option<Instant>, now: Instant) {
        let Some(until) = self.resting_until else { return };
        let until = deadline.map_or(until, |deadline| deadline.min(until));
        let context = self.context.clone();
        let commands = &mut self.commands;
        let woken = self.parking.wait(until.saturating_duration_since(now), async {
            tokio::select! {
                biased;
                () = context.cancelled() => None,
                command = commands.recv() => Some(command),
            }
        });
        match woken {
            Some(Some(command)) => self.command_while_connected(command),
            // Cancelled, or slept through; something else that is due does not end it.
            _ if woken.is_some() || self.resting_until == Some(until) => self.end_rest(),
            _ => {}
        }
    }

    /// Acknowledgements leave at once, and the rest goes on. All other commands end it.
    pub(super) fn command_while_connected(&mut self, command: Option<Command>) {
        if !matches!(command, Some(Command::Settled(_))) {
            self.end_rest();
        }
        self.command(command);
    }

    pub(super) fn end_rest(&mut self) {
        self.resting_until = self.resting_until.map(|_| clock());
    }

    pub(super) fn flush(&mut self, done: crossbeam_channel::Sender<u64>) {
        self.flushes.done.push(done);
        self.flushes.looked = 0;
    }

    /// Answers flushes once all is read that has arrived. Without a connection nothing has.
    pub(super) fn answer_flushes<T: TransportStream>(&mut self, stream: Option<&T>, reading: bool) {
        if self.flushes.done.is_empty() {
            return;
        }
        let has_more = stream.and_then(|stream| stream.socket()).is_some_and(socket::has_incoming);
        self.flushes.looked += 1;
        if has_more && reading && self.flushes.looked <= FLUSH_READS {
            return;
        }
        self.sink.seal_all();
        let below = self.context.ledger.watermark();
        self.flushes.done.drain(..).for_each(|done| _ = done.send(below));
    }

    /// When flushes stop waiting for bytes.
    pub(super) fn flush_deadline(&self, now: Instant) -> Option<Instant> {
        (!self.flushes.done.is_empty()).then(|| now + FLUSH_WAIT)
    }
}

#[cfg(test)]
mod tests;
