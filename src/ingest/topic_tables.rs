//! Tables that messages choose by their topics, as a connection knows them, and the messages that wait for one.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;

use crate::core::ack_set::AckSet;
use crate::core::memory_budget::{MemoryBudget, MemoryReservation};
use crate::ingest::completion::Completion;
use crate::ingest::raw_messages::RawMessages;
use crate::mqtt::AckSender;

pub type TableRequests = mpsc::UnboundedSender<TableRequest>;

/// Asks for a table that is new.
pub struct TableRequest {
    /// The place of the route.
    pub route: usize,
    pub table: String,
    pub asker: AckSender,
}

impl TableRequest {
    /// Has the connection look at what is known now.
    pub fn answer(self) {
        self.asker.send(AckSet::default());
    }
}

/// The tables of a route on a connection.
#[derive(Default)]
pub struct RouteTables {
    /// The routes of the tables that are known, by their positions in the router.
    pub positions: HashMap<String, usize>,
    pub waiting: HashMap<String, WaitingMessages>,
    /// The table of the message at hand.
    pub name: String,
}

/// Messages whose table is being looked at.
pub struct WaitingMessages {
    pub messages: RawMessages,
    /// How each of the messages arrived.
    pub arrivals: Vec<WaitingArrival>,
    pub client_id: String,
    /// Holds the messages in the ledger until they have a batch.
    pub completion: Completion,
    /// Whether the batch is to leave at once: somebody waits for it.
    pub is_hurried: bool,
    memory: MemoryReservation,
}

#[derive(Clone, Copy)]
pub struct WaitingArrival {
    pub sequence: Option<u64>,
    pub packet_id: u16,
    pub fingerprint: u64,
}

impl WaitingMessages {
    pub fn new(
        messages: RawMessages,
        completion: Completion,
        client_id: &str,
        memory: &Arc<MemoryBudget>,
    ) -> WaitingMessages {
        WaitingMessages {
            messages,
            arrivals: Vec::new(),
            client_id: client_id.into(),
            completion,
            is_hurried: false,
            memory: MemoryReservation::new(memory),
        }
    }

    /// Counts what waits towards the memory budget.
    pub fn reserve(&mut self) {
        let arrivals = size_of::<WaitingArrival>() * self.arrivals.capacity();
        self.memory.resize(self.messages.memory_bytes() + arrivals);
    }
}
