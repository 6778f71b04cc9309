//! Commands of other threads to a connection.

use crossbeam_channel::Sender;
use tokio::sync::mpsc;

use crate::core::ack_set::AckSet;
use crate::core::error::Result;
use crate::core::reason::Reason;
use crate::mqtt::subscriptions::Filters;

#[derive(Debug)]
pub enum Command {
    /// These messages may be acknowledged.
    Settled(AckSet),
    /// ClickHouse refused the rows that a program gave under this number. Connections have no such rows.
    Refused {
        sequence: u64,
        reason: Reason,
    },
    /// Read what has arrived and seal what is open, as soon as the sinks take it; answered once that is under way, with a number
    /// above all groups of the ledger that have these messages.
    Flush(Sender<u64>),
    Pause,
    Resume,
    /// Take messages by the routes that are published now, and subscribe to these filters; answered when the broker has granted
    /// all of it.
    Routes(Box<Filters>, Sender<Result<()>>),
    /// Take no further messages and hand everything to the sinks; answered when that is done.
    Drain(Sender<()>),
    /// Before [`Command::Drain`]: leave the shared group. We unsubscribe, take what the broker has for us already, and end the session
    /// where nothing of it is unacknowledged.
    Leave,
    /// Acknowledge what may be and disconnect, so that the broker has the rest back. Commands are taken until [`Command::Close`].
    Disconnect,
    /// Acknowledge what may be, disconnect and end.
    Close,
}

impl Command {
    /// The messages of [`Command::Settled`].
    pub fn settled(self) -> Option<AckSet> {
        match self {
            Command::Settled(acks) => Some(acks),
            _ => None,
        }
    }
}

/// Sends a connection the messages that it may acknowledge. Goes with the messages, wherever they are
/// settled.
#[derive(Debug, Clone)]
pub struct AckSender(mpsc::UnboundedSender<Command>);

impl AckSender {
    pub fn new(commands: mpsc::UnboundedSender<Command>) -> AckSender {
        AckSender(commands)
    }

    /// A sender and what it sends to, for a source without a broker.
    pub fn channel() -> (AckSender, mpsc::UnboundedReceiver<Command>) {
        let (sender, commands) = mpsc::unbounded_channel();
        (AckSender(sender), commands)
    }

    /// To be sent before the acknowledgement of the same number.
    pub fn refuse(&self, sequence: u64, reason: Reason) {
        // Who has ended waits for nothing any more.
        let _ = self.0.send(Command::Refused { sequence, reason });
    }

    pub fn send(&self, acks: AckSet) {
        // A connection that has ended has nothing to acknowledge any more.
        let _ = self.0.send(Command::Settled(acks));
    }
}
