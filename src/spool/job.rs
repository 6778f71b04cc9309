//! What passes between the spool's thread and the others.

use std::sync::Weak;

use crossbeam_channel::Sender;

use crate::core::ack_set::Owed;
use crate::spool::wal::log::Insert;
use crate::telemetry::ledger::Group;
use crate::telemetry::trace::Trace;

/// What the pipeline asks of the spool.
#[derive(Debug)]
pub enum Call {
    /// For as long as this lives, INSERTs go out whatever their age.
    Hurry(Weak<()>),
    /// The sender is dropped once all that was sealed before is committed.
    Commit(Sender<()>),
    /// All is cancelled.
    Cancel,
}

/// An INSERT on its way to a worker.
#[derive(Debug)]
pub struct Handover {
    pub insert: Insert,
    /// The group of all its messages in the ledger.
    pub group: Group,
    /// Acknowledgements that are given after the INSERT.
    pub owed: Owed,
    /// What the memory ceiling knows of.
    pub counted_bytes: usize,
    pub ticket: Ticket,
    /// Of what is sampled of it.
    pub trace: Option<Box<Trace>>,
}

/// What a worker says.
#[derive(Debug)]
pub enum Told {
    /// All rows of the INSERT are in ClickHouse or kept as dead letters.
    Settled(u64),
    /// Another INSERT may be handed over: a worker waits, or the letters of one do.
    Free,
}

/// Goes with an INSERT until it is settled, wherever its messages go.
#[derive(Debug)]
pub struct Ticket {
    pub id: u64,
    pub token: String,
    pub teller: Sender<Told>,
}

impl Ticket {
    pub fn settled(self) {
        // The spool's thread waits for all tickets; it is only gone if it panicked.
        let _ = self.teller.send(Told::Settled(self.id));
    }
}
