//! Messages that are gathered into rows, and their way into the batch of their route: `pivot`.

use std::mem;
use std::time::Instant;

use crate::config::AckAfter;
use crate::core::ack_history::AckRecord;
use crate::core::clock::ReceiveTime;
use crate::core::dead_letter::DeadLetter;
use crate::core::mqtt_property::Properties;
use crate::core::reason::Reason;
use crate::decode;
use crate::ingest::completion::Completion;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::gatherer::{OpenRow, Part, PartMessage};
use crate::ingest::raw_messages;
use crate::ingest::route_state::Origin;
use crate::ingest::router::Router;
use crate::ingest::router::arrival::Arrival;
use crate::mqtt::Publish;

impl Router {
    /// Takes a message that is a part of a row.
    #[cold]
    pub(super) fn gather(&mut self, at: usize, topic: &str, arrival: Arrival<'_>) {
        self.follow_table(at);
        let Arrival { publish, sequence, now, client_id } = arrival;
        let state = &mut self.routes[at];
        let Some(gatherer) = &mut state.gatherer else { return };
        if gatherer.client_id != client_id {
            gatherer.client_id = client_id.into();
        }
        let message = decode::Message {
            topic,
            captures: &self.captures,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            received_at: now.system,
            client_id,
            properties: publish.properties,
        };
        match gatherer.decode(&mut state.decoder, &message) {
            Ok(Part::Taken) => {}
            Ok(Part::Nothing | Part::Excluded) => return self.drop(sequence),
            Err(reason) => {
                let place = state.place;
                return self.dead_letter(Some(place), publish.topic, publish.payload, reason, sequence, now);
            }
        }
        if let Some(row) = gatherer.take_ended(&state.decoder, now.instant) {
            self.seal_row(at, row);
        }
        let received_as = sequence.filter(|_| self.keeps_receipts);
        let sequence = match self.context.config.mqtt.ack_after {
            AckAfter::Receive => {
                sequence.into_iter().for_each(|sequence| self.ready_acks.add(sequence));
                None
            }
            AckAfter::Spool | AckAfter::Insert => sequence,
        };
        let message = PartMessage {
            received: now,
            topic: publish.topic.into(),
            payload: publish.payload.into(),
            qos: publish.qos,
            retain: publish.retain,
            sequence,
            receipt: received_as.map(|sequence| {
                let Publish { packet_id, qos, fingerprint, .. } = *publish;
                (sequence, AckRecord { packet_id, qos, fingerprint })
            }),
        };
        let Router { routes, context, ack_sender, .. } = self;
        let state = &mut routes[at];
        let Some(gatherer) = &mut state.gatherer else { return };
        let open = || Completion::open(context, ack_sender, now.instant);
        if let Some(row) = gatherer.add(&state.decoder, message, now.instant, open) {
            self.seal_row(at, row);
        }
    }

    /// Decodes for the table as it is now, once all that was decoded for the one before has left.
    fn follow_table(&mut self, at: usize) {
        let state = &self.routes[at];
        if self.plans.generation(state.place) == state.plan.generation {
            return;
        }
        self.seal_rows(at, None);
        if self.routes[at].batch.is_some() {
            self.seal(at);
        }
        let place = self.routes[at].place;
        if self.routes[at].batch.is_none() {
            self.routes[at].switch_plan(self.plans.latest(place));
        }
    }

    /// Seals the rows of a route whose window has ended; `now` is `None`: all of them.
    pub(super) fn seal_rows(&mut self, at: usize, now: Option<Instant>) {
        while let Some(gatherer) = &mut self.routes[at].gatherer
            && let Some(row) = gatherer.take_due(now)
        {
            self.seal_row(at, row);
        }
    }

    /// The same of all routes.
    pub(super) fn seal_all_rows(&mut self, now: Option<Instant>) {
        for at in 0..self.routes.len() {
            if self.routes[at].gatherer.is_some() {
                self.seal_rows(at, now);
            }
        }
    }

    /// When the next row is due.
    pub(super) fn row_deadline(&self) -> Option<Instant> {
        self.routes.iter().filter_map(|state| state.gatherer.as_ref()?.deadline()).min()
    }

    /// Appends a row to the open batch of its route, with its messages: they are settled with it. Where a column is missing that
    /// it needs, they become dead letters.
    fn seal_row(&mut self, at: usize, mut row: OpenRow) {
        let now = ReceiveTime::read();
        let Router { routes, context, connection, session, .. } = self;
        let state = &mut routes[at];
        let Some(gatherer) = &state.gatherer else { return };
        if state.batch.is_none() {
            let client_id = gatherer.client_id.clone();
            let origin = Origin {
                route: state.place,
                connection: *connection,
                client_id: &client_id,
                session: *session,
            };
            let completion = Completion::open(context, &self.ack_sender, now.instant);
            state.open(context, completion, origin, now);
        }
        let (Some(batch), Some(gatherer)) = (&mut state.batch, &state.gatherer) else { return };
        if let Err(reason) = state.decoder.append_gathered(&row.values, &mut batch.columns) {
            let place = state.place;
            return self.reject_row(place, row, &reason);
        }
        gatherer.count_row();
        // Who waits for the older one waits for both.
        if row.completion.is_before(&batch.completion) {
            mem::swap(&mut row.completion, &mut batch.completion);
        }
        batch.completion.join(row.completion);
        let last = row.messages.len() - 1;
        for (place, message) in row.messages.iter().enumerate() {
            if let Some(sequence) = message.sequence {
                batch.completion.acknowledge(sequence);
            }
            state.receipts.extend(message.receipt);
            if let Some(message_rows) = &mut batch.message_rows {
                message_rows.push(usize::from(place == last));
            }
            batch.messages.push(&raw_messages::Message {
                received: message.received,
                topic: &message.topic,
                payload: &message.payload,
                qos: message.qos,
                retain: message.retain,
                properties: Properties::NONE,
            });
        }
        self.stats.rows += 1;
        self.seal_if_large(at, 0);
    }

    /// All messages of a row become dead letters.
    #[cold]
    fn reject_row(&mut self, place: usize, row: OpenRow, reason: &Reason) {
        let OpenRow { messages, mut completion, .. } = row;
        for message in &messages {
            if let Some(sequence) = message.sequence {
                completion.acknowledge(sequence);
            }
        }
        let letters = match &mut self.open_dead_letters {
            Some(letters) => {
                if completion.is_before(&letters.completion) {
                    mem::swap(&mut completion, &mut letters.completion);
                }
                letters.completion.join(completion);
                letters
            }
            closed => closed.insert(DeadLetterBatch::new(completion)),
        };
        for PartMessage { received, topic, payload, .. } in messages {
            letters.push(DeadLetter {
                received_at: received.system,
                route: Some(place),
                topic: topic.into(),
                payload: payload.into(),
                reason: reason.clone(),
            });
        }
    }
}
