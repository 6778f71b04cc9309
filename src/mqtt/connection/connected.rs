//! One connection, from CONNECT to its end.

use std::sync::atomic::Ordering;
use std::time::Instant;

use super::read_pacing::{Gathered, ReadPacer};
use super::transfer::{CLOSE_TIMEOUT, Transfer, close_gracefully, transfer};
use super::{Connection, DRAIN_IDLE, Drain, clock, sleep_until};
use crate::config::ProtocolVersion;
use crate::core::clock::ReceiveTime;
use crate::mqtt::session::{Event, SessionError};
use crate::mqtt::transport::{CONNECT_TIMEOUT, TransportStream, socket};
use crate::mqtt::{Command, MessageSink};
use crate::telemetry::events::Warning;
use crate::telemetry::metrics::add;

/// Bytes of messages after which the memory of batches is counted in the middle of a read.
const COUNT_INTERVAL: usize = 64 << 10;

impl<S: MessageSink> Connection<S> {
    /// Serves one connection until it ends: `Ok` if we ended it.
    pub(crate) async fn run_connected<T: TransportStream>(
        &mut self,
        mut stream: T,
    ) -> Result<(), SessionError> {
        let context = self.context.clone();
        let began = clock();
        // A broker may send what it kept for the session before it grants the subscriptions.
        let mut last_message = began;
        self.pacer = ReadPacer::new(context.config.max_rest());
        (self.gathered, self.resting_until) = (Gathered::default(), None);
        self.session.connect(began);
        loop {
            let now = clock();
            let is_full = context.memory.is_full();
            let reading = self.is_reading();
            if !reading {
                // Answers of the broker are not late while we do not read.
                last_message = now;
                self.delay_change(now);
            }
            if let Some(at) = stream.last_read() {
                self.session.note_received(at);
            }
            if reading && std::mem::take(&mut self.has_left_messages) {
                // They were left in the read buffer for want of memory.
                self.take_messages()?;
                continue;
            }
            self.tick(now, reading).await?;
            self.continue_change(now);
            // Bytes that have arrived meanwhile show that it was not silent.
            let is_idle = self.idle_deadline().is_some_and(|at| now >= at)
                && !stream.socket().is_some_and(socket::has_incoming);
            if is_idle {
                // The broker waits for us.
                self.end_rest();
            }
            self.seal(now, is_idle);
            self.acknowledge();
            self.answer_flushes(Some(&stream), reading);
            self.answer_drain(now);
            self.warn_of_shared_silence(now);
            if self.closing || self.disconnects {
                return self.close(stream).await;
            }
            let deadline = self.next_deadline(self.grant_deadline(began, last_message), now)?;
            if self.is_resting(&stream, reading, now) && self.session.outgoing().is_empty() {
                self.rest(deadline, now);
                continue;
            }

            let transfer = tokio::select! {
                biased;
                () = context.cancelled() => return Ok(()),
                command = self.commands.recv() => {
                    self.command_while_connected(command);
                    continue;
                }
                transfer = transfer(&mut stream, self.session.outgoing(), &mut self.read_buffer, reading) => transfer,
                () = context.memory.wait_for_capacity(), if is_full && !self.paused => continue,
                () = sleep_until(deadline) => continue,
            };
            match transfer.map_err(|error| SessionError::Disconnected(error.to_string()))? {
                Transfer::Written(bytes) => {
                    add(&self.counters().writes, 1);
                    self.session.sent(bytes, now);
                }
                Transfer::Read { bytes: 0, .. } => {
                    return Err(SessionError::Disconnected("the connection was closed".into()));
                }
                Transfer::Read { bytes, drained } => {
                    self.read_buffer.filled(bytes);
                    let messages = self.take_messages()?;
                    if messages > 0 {
                        last_message = now;
                    }
                    self.gathered.messages += messages;
                    self.gathered.bytes += bytes;
                    if drained {
                        self.begin_rest();
                    }
                }
            }
        }
    }

    /// Lets the session ping, and fails if the broker is silent. Bytes that came while this thread was held up lie in the
    /// socket: the first failure only has it read once more.
    async fn tick(&mut self, now: Instant, reading: bool) -> Result<(), SessionError> {
        match self.session.tick(now, reading) {
            Ok(()) => self.has_yielded = false,
            Err(_) if !self.has_yielded => {
                self.has_yielded = true;
                tokio::task::yield_now().await;
            }
            Err(timeout) => return Err(timeout),
        }
        Ok(())
    }

    fn acknowledge(&mut self) {
        if self.session.acknowledge() > 0 {
            self.window.acknowledged(clock());
        }
        self.count_unacknowledged(self.session.unacknowledged() as u64);
    }

    /// When the subscriptions must be granted: [`CONNECT_TIMEOUT`] after the last message, `startTimeoutMs` in all.
    fn grant_deadline(&self, began: Instant, last_message: Instant) -> Option<Instant> {
        let limit = began + self.context.config.start_timeout.max(CONNECT_TIMEOUT);
        (!self.is_up).then(|| limit.min(last_message + CONNECT_TIMEOUT))
    }

    /// When there is something to do though nothing comes. Fails if the broker did not grant the subscriptions in time.
    fn next_deadline(
        &self,
        granted_by: Option<Instant>,
        now: Instant,
    ) -> Result<Option<Instant>, SessionError> {
        if granted_by.is_some_and(|at| now >= at) || self.change_deadline().is_some_and(|at| now >= at) {
            return Err(self.session.unanswered());
        }
        let deadlines = [
            self.session.deadline(),
            self.sink.deadline(now),
            self.idle_deadline().filter(|at| *at > now && self.awaits_silence()),
            self.flush_deadline(now),
            self.drain.as_ref().map(|drain| drain.idle_at).filter(|at| *at > now),
            granted_by,
            self.shared_silent_at,
            self.change_deadline(),
        ];
        Ok(deadlines.into_iter().flatten().min())
    }

    /// Whether nothing more must be taken. CONNACK and SUBACK are read beyond the ceiling, but some brokers send what they kept for
    /// us before SUBACK.
    fn is_out_of_memory(&self) -> bool {
        let memory = &self.context.memory;
        memory.is_full()
            && (!self.session.is_opening() || memory.used() >= memory.limit() + memory.share() / 4)
    }

    fn is_reading(&self) -> bool {
        let wanted = match &self.drain {
            Some(_) => !self.keeps_session(),
            None => !self.paused,
        };
        !self.is_out_of_memory()
            && (self.session.is_opening()
                || (wanted && !self.session.is_congested() && !self.sink.is_batch_full()))
    }

    /// Takes all complete packets off the read buffer, and returns the number of messages.
    fn take_messages(&mut self) -> Result<usize, SessionError> {
        let now = ReceiveTime::read();
        self.sink.begin_session(self.session.broker_session(), self.session.has_covers());
        let mut messages = 0;
        let mut is_live = false;
        let mut taken = Ok(());
        let mut uncounted = 0;
        loop {
            // Rows can be far larger than their messages, and a read brings many.
            if uncounted >= COUNT_INTERVAL {
                uncounted = 0;
                self.sink.count_memory();
            }
            if messages > 0 && self.is_out_of_memory() {
                self.has_left_messages = true;
                break;
            }
            let (bytes, event) = match self.session.receive(self.read_buffer.unread(), now.instant) {
                Ok(Some(packet)) => packet,
                Ok(None) => break,
                Err(error) => {
                    taken = Err(error);
                    break;
                }
            };
            match event {
                Event::Message { publish, sequence, client_id } => {
                    messages += 1;
                    // A shared group is sent no retained messages; amqtt sends those of other filters.
                    is_live |= !publish.retain;
                    self.sink.accept(&publish, sequence, now, client_id);
                }
                Event::Invalid { topic, payload, fault, sequence } => {
                    messages += 1;
                    self.sink.accept_invalid(topic, payload, fault, sequence, now);
                }
                Event::Duplicate => self.sink.count_duplicate(),
                Event::TooLarge { topic, packet_bytes, sequence, .. } => {
                    self.sink.accept_too_large(topic, packet_bytes, sequence, now);
                }
                Event::Subscribed { downgraded } => self.subscribed(&downgraded),
                Event::SessionExpiryReduced { seconds } => {
                    let message =
                        format!("the broker keeps the session for {seconds} s only while we are away");
                    self.context.warn(Warning::new("SESSION_SHORTENED", message).session_expiry(seconds));
                }
                Event::Unsubscribed | Event::Ignored => {}
            }
            self.read_buffer.consume(bytes);
            uncounted += bytes;
        }
        self.memory.resize(self.read_buffer.grown_bytes() + self.session.memory_bytes());
        self.window.arrived(messages, now.instant);
        if is_live {
            self.shared_silent_at = None;
        }
        if messages > 0
            && let Some(drain) = &mut self.drain
        {
            drain.idle_at = now.instant + DRAIN_IDLE;
        }
        self.sink.commit_read_stats();
        for message in self.sink.take_outgoing(now) {
            if self.session.send(&message) {
                add(&self.counters().rebirth_requests, 1);
            }
        }
        self.session.settle(&self.sink.take_ready_acks());
        taken.map(|()| messages)
    }

    fn subscribed(&mut self, downgraded: &[String]) {
        if !std::mem::replace(&mut self.is_up, true) {
            self.counters().connected.store(1, Ordering::Relaxed);
            self.fault.close();
        }
        self.report_fallback();
        self.report_overlap();
        self.report_split();
        self.expect_shared_messages();
        match self.ready.take() {
            Some(ready) => drop(ready.send(Ok(()))),
            None => add(&self.counters().reconnects, 1),
        }
        self.warn_of_lowered_qos(downgraded);
    }

    pub(super) fn warn_of_lowered_qos(&self, downgraded: &[String]) {
        if !downgraded.is_empty() {
            let message = format!("the broker granted a lower QoS than asked for: {}", downgraded.join(", "));
            self.context.warn(Warning::new("QOS_LOWERED", message).filters(downgraded));
        }
    }

    /// Keeps the version that the broker speaks, and warns once if that is not the one that was tried first.
    fn report_fallback(&mut self) {
        let version = self.session.version();
        self.versions[self.url_at] = Some(version);
        self.counters().protocol_version.store(u64::from(version.number()), Ordering::Relaxed);
        let is_auto = self.context.config.mqtt.version.is_none();
        let is_first = self.sink.connection() == 0 && !self.fallback_reported;
        if is_auto && is_first && version == ProtocolVersion::V4 {
            self.fallback_reported = true;
            let url = self.url().to_string();
            let message = format!(
                "{url} does not speak MQTT 5: the connection speaks MQTT 3.1.1. Set mqtt.protocolVersion to 4 to have it so \
                 from the start"
            );
            self.context
                .warn(Warning::new("MQTT_FALLBACK", message).url(&url).protocol_version(version.number()));
        }
    }

    /// Warns once where filters that overlap had to be asked for one by one.
    fn report_overlap(&mut self) {
        let refused = self.session.refused_covers();
        let is_first = self.sink.connection() == 0 && !self.overlap_reported;
        if refused.is_empty()
            || !is_first
            || self.session.broker().is_some_and(|ack| ack.has_subscription_ids)
        {
            return;
        }
        let message = format!(
            "topics of the routes overlap in part, and the broker refuses the subscription that covers them: {}. It may deliver \
             a message once for each route, which doubles its rows. Allow that subscription, or use MQTT 5",
            refused.join(", ")
        );
        self.context.warn(Warning::new("FILTERS_OVERLAP", message).filters(refused));
        self.overlap_reported = true;
    }

    /// Warns once where the broker took fewer filters in one SUBSCRIBE than it was given.
    fn report_split(&mut self) {
        let most = self.session.filters_per_subscribe();
        let is_first = self.sink.connection() == 0 && !self.split_reported;
        if most == self.context.config.mqtt.filters_per_subscribe || !is_first {
            return;
        }
        self.split_reported = true;
        let url = self.url().to_string();
        let message = format!(
            "{url} refused a SUBSCRIBE of several filters and takes {most} in one packet. Set mqtt.filtersPerSubscribe to {most} to \
             have it so from the start"
        );
        self.context.warn(Warning::new("SUBSCRIBE_SPLIT", message).url(&url).filters_per_subscribe(most));
    }

    /// Seals the batches that are due: by age, because the broker waits for us, for lack of memory, or for a drain.
    fn seal(&mut self, now: Instant, is_idle: bool) {
        // At the memory ceiling nothing is read until a batch is inserted.
        let must_leave = self.drain.is_some() || self.context.memory.is_full();
        if is_idle && let Some(limit) = self.window.stalled(self.session.unacknowledged(), now) {
            self.report_window(limit);
        }
        if must_leave {
            self.sink.seal_all();
        } else if is_idle {
            self.sink.seal_batches();
        } else {
            self.sink.seal_due(now);
        }
    }

    /// When silence shows that the broker waits for acknowledgements, if there are any to wait for.
    fn idle_deadline(&self) -> Option<Instant> {
        let owes = self.session.unacknowledged() > 0 && self.sink.has_open_batch() && !self.sink.is_sealing();
        if owes && self.is_reading() {
            self.window.idle_deadline(self.session.unacknowledged())
        } else {
            None
        }
    }

    /// Whether a rest ends where silence would show that the broker waits: never while more messages lacked an acknowledgement
    /// before, and others came nevertheless.
    fn awaits_silence(&self) -> bool {
        self.resting_until.is_none() || self.pacer.is_window_unproved(self.session.unacknowledged())
    }

    /// Whether the broker collects messages for the next start while we are away.
    fn keeps_session(&self) -> bool {
        self.context.config.mqtt.is_persistent() && !self.leaves
    }

    /// Answers a drain once no more messages come and every batch is sealed.
    fn answer_drain(&mut self, now: Instant) {
        let keeps_session = self.keeps_session();
        let Some(drain) = &mut self.drain else { return };
        let quiet = keeps_session
            || self.session.is_opening()
            || (self.session.is_unsubscribed() && now >= drain.idle_at && self.session.unacknowledged() == 0);
        if quiet
            && !self.sink.has_open_batch()
            && let Some(done) = drain.done.take()
        {
            let _ = done.send(());
        }
    }

    pub(super) fn command(&mut self, command: Option<Command>) {
        match command {
            Some(Command::Settled(acks)) => self.session.settle(&acks),
            Some(Command::Refused { .. }) => {}
            Some(Command::Flush(done)) => self.flush(done),
            Some(Command::Pause) => self.paused = true,
            Some(Command::Resume) => self.paused = false,
            Some(Command::Routes(filters, done)) => self.begin_change(*filters, done),
            Some(Command::Drain(done)) => {
                // Who waits for it learns that the pipeline stops.
                self.change = None;
                if self.session.is_subscribed() && !self.keeps_session() {
                    self.session.unsubscribe();
                }
                self.drain = Some(Drain { done: Some(done), idle_at: clock() + DRAIN_IDLE });
            }
            Some(Command::Leave) => self.leaves = true,
            Some(Command::Disconnect) => self.disconnects = true,
            // The pipeline is gone, which means the same.
            Some(Command::Close) | None => self.closing = true,
        }
    }

    /// Writes the rest of the output and DISCONNECT, and waits until the broker has closed its side: closing a socket on which
    /// messages still arrive would destroy the acknowledgements that are on their way.
    async fn close<T: TransportStream>(&mut self, mut stream: T) -> Result<(), SessionError> {
        let context = self.context.clone();
        let close = async {
            // The broker would deliver the messages again to the next process.
            let _ = self.finish_paced_acks(&mut stream).await;
            self.session.acknowledge();
            // Unacknowledged messages would end with the session: some brokers give them to no other member of a group.
            self.session.disconnect(self.leaves && self.session.unacknowledged() == 0);
            close_gracefully(stream, self.session.outgoing()).await;
        };
        tokio::select! {
            () = close => {}
            () = context.cancelled() => {}
        }
        Ok(())
    }

    /// Sends the PUBRECs that leave one at a time, as long as the broker answers. Anything else it sends is left to the next
    /// connection.
    async fn finish_paced_acks<T: TransportStream>(&mut self, stream: &mut T) -> Result<(), SessionError> {
        let lost = |error: std::io::Error| SessionError::Disconnected(error.to_string());
        self.session.acknowledge();
        while self.session.has_paced_acks() {
            let reading = transfer(stream, self.session.outgoing(), &mut self.read_buffer, true);
            let Ok(transfer) = tokio::time::timeout(CLOSE_TIMEOUT, reading).await else { return Ok(()) };
            match transfer.map_err(lost)? {
                Transfer::Written(bytes) => self.session.sent(bytes, clock()),
                Transfer::Read { bytes: 0, .. } => return Ok(()),
                Transfer::Read { bytes, .. } => self.read_buffer.filled(bytes),
            }
            while let Some((bytes, _)) = self.session.receive(self.read_buffer.unread(), clock())? {
                self.read_buffer.consume(bytes);
            }
            self.session.acknowledge();
        }
        Ok(())
    }
}
