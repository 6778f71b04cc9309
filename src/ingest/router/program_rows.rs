//! Rows of a program into the open batches of their tables.

use crate::core::clock::ReceiveTime;
use crate::core::error::{Error, Result};
use crate::core::mqtt_property::Properties;
use crate::core::reason::Reason;
use crate::decode::RowDecoder;
use crate::ingest::batch::RowCalls;
use crate::ingest::router::Router;
use crate::ingest::router::arrival::{Arrival, Taken};
use crate::ingest::row_intake::refused;
use crate::mqtt::Publish;

impl Router {
    /// Appends all rows of a call, or none. Its sequence number is acknowledged when they are settled.
    pub fn insert_rows(
        &mut self,
        table: &str,
        rows: &[u8],
        sequence: u64,
        now: ReceiveTime,
    ) -> Result<usize> {
        let at = self.context.config.tables.iter().any(|declared| declared == table);
        let place = self.context.config.row_route(table).filter(|_| at);
        let at = place.and_then(|place| self.routes.iter().position(|state| state.place == place));
        let Some(at) = at else {
            return Err(Error::TableNotDeclared { table: table.into() });
        };
        let topic = self.routes[at].route.topic.as_str().to_string();
        let publish = Publish {
            topic: topic.as_bytes(),
            payload: rows,
            qos: 0,
            retain: false,
            duplicate: false,
            packet_id: 0,
            fingerprint: 0,
            properties: Properties::NONE,
        };
        let arrival = Arrival { publish: &publish, sequence: None, now, client_id: "" };
        let before = self.stats.rows;
        let mut taken = self.take_in(at, &topic, arrival);
        // The rows may fit the table as it is now: only the batch was opened before.
        if taken.is_err() && self.plans.generation(self.routes[at].place) != self.routes[at].plan.generation {
            self.seal(at);
            if self.routes[at].batch.is_none() {
                taken = self.take_in(at, &topic, arrival);
            }
        }
        match taken {
            Ok(Taken::Rows) => {}
            Ok(Taken::Dropped) => return Ok(0),
            Err(reason) => return Err(self.at_fault(at, rows, reason)),
        }
        if let Some(batch) = &mut self.routes[at].batch {
            batch.completion.is_of_rows();
            batch.completion.acknowledge(sequence);
            let calls = batch.calls.get_or_insert_with(|| {
                Box::new(RowCalls { sender: self.ack_sender.clone(), sequences: Vec::new() })
            });
            calls.sequences.push(sequence);
        }
        let count = self.stats.rows - before;
        self.seal_if_large(at, rows.len());
        Ok(count as usize)
    }

    /// The row for which a call is refused.
    #[cold]
    fn at_fault(&self, at: usize, rows: &[u8], reason: Reason) -> Error {
        let state = &self.routes[at];
        let decoder = RowDecoder::new(&state.route.path, &state.route.table, &state.plan.table.columns);
        let error = decoder.ok().and_then(|mut decoder| {
            let mut columns = decoder.columns();
            decoder.append(rows, &mut columns).err()
        });
        error.map_or_else(|| refused(0, reason), |error| refused(error.row, error.reason))
    }
}
