//! Messages without a row: dead letters, and those that no route takes.

use crate::config::{AckAfter, Route};
use crate::core::clock::ReceiveTime;
use crate::core::dead_letter::DeadLetter;
use crate::core::reason::Reason;
use crate::core::topic_filter::TopicFilter;
use crate::ingest::completion::Completion;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::router::Router;
use crate::ingest::router::route_order::first_route;
use crate::telemetry::events::Warning;

/// The filters of routes as RabbitMQ delivers their topics, of those that differ.
pub(super) fn rewritten_filters<R: AsRef<Route>>(routes: &[R]) -> Vec<TopicFilter> {
    routes.iter().filter_map(|route| route.as_ref().topic.with_slashes_for_dots()).collect()
}

impl Router {
    /// Takes a message of which nothing but a dead letter can come.
    pub fn reject(
        &mut self,
        topic: &[u8],
        payload: &[u8],
        reason: Reason,
        sequence: Option<u64>,
        now: ReceiveTime,
    ) {
        self.stats.received += 1;
        let name = std::str::from_utf8(topic).ok();
        let route = name.and_then(|name| first_route(&self.routes, name, &mut self.captures));
        let route = route.map(|at| self.routes[at].place);
        self.dead_letter(route, topic, payload, reason, sequence, now);
    }

    #[cold]
    pub(super) fn dead_letter(
        &mut self,
        route: Option<usize>,
        topic: &[u8],
        payload: &[u8],
        reason: Reason,
        sequence: Option<u64>,
        now: ReceiveTime,
    ) {
        self.push_dead_letter(route, topic, payload, reason, now);
        if let (Some(sequence), Some(dead_letters)) = (sequence, &mut self.open_dead_letters) {
            match self.context.config.mqtt.ack_after {
                AckAfter::Receive => self.ready_acks.add(sequence),
                AckAfter::Spool | AckAfter::Insert => dead_letters.completion.acknowledge(sequence),
            }
        }
    }

    #[cold]
    pub(super) fn push_dead_letter(
        &mut self,
        route: Option<usize>,
        topic: &[u8],
        payload: &[u8],
        reason: Reason,
        now: ReceiveTime,
    ) {
        let dead_letters = self.open_dead_letters.get_or_insert_with(|| {
            DeadLetterBatch::new(Completion::open(&self.context, &self.ack_sender, now.instant))
        });
        dead_letters.push(DeadLetter {
            received_at: now.system,
            route,
            topic: topic.into(),
            payload: payload.into(),
            reason,
        });
    }

    /// RabbitMQ turns the dots of a topic into slashes: a filter with dots matches there, and not here.
    #[cold]
    pub(super) fn warn_of_rewritten(&mut self, topic: &str) {
        let Router { rewritten, captures, .. } = self;
        let Some(filter) = rewritten.iter().find(|filter| filter.matches(topic, captures)) else { return };
        let message = format!(
            "no route takes {topic:?}, and with slashes for its dots one would ({}): the broker changes topics, as RabbitMQ does. \
             Set mqtt.topicRewrite to 'rabbitmq'",
            filter.as_str()
        );
        self.rewritten.clear();
        self.context.warn(Warning::new("TOPIC_REWRITTEN", message).topic(topic));
    }

    /// A session that a broker kept has the subscriptions of earlier configurations.
    #[cold]
    pub(super) fn warn_of_left_over(&mut self, topic: &str) {
        if !self.context.config.mqtt.is_persistent() || std::mem::replace(&mut self.left_over_reported, true)
        {
            return;
        }
        let message = format!(
            "no route takes {topic:?}: perhaps a subscription of an earlier configuration brings it, which the broker keeps for this \
             clientId. mqtt.unsubscribe ends it, such as mqtt.unsubscribe: [{topic:?}] or a filter with # that was a route's topic"
        );
        let about = "SUBSCRIPTION_LEFT_OVER".to_string();
        self.context.warn_once(about, Warning::new("SUBSCRIPTION_LEFT_OVER", message).topic(topic));
    }

    /// Whether a subscription brings messages of this topic that no route asked for.
    #[cold]
    pub(super) fn is_unasked(&mut self, topic: &str) -> bool {
        let Router { covers, has_covers, wider, captures, .. } = self;
        let covers = covers.iter().filter(|_| *has_covers);
        covers.chain(wider.iter()).any(|filter| filter.matches(topic, captures))
    }

    /// Some brokers (amqtt) send retained messages of filters that were not subscribed to.
    #[cold]
    pub(super) fn skip_unrequested(&mut self, topic: &str, sequence: Option<u64>) {
        if !std::mem::replace(&mut self.unrequested_reported, true) {
            let message = format!(
                "the broker sends retained messages that no route asks for, such as {topic:?}: they are skipped, and counted \
                 as skipped"
            );
            self.context.warn(Warning::new("RETAINED_SKIPPED", message).topic(topic));
        }
        self.skip(sequence);
    }

    /// The route does not want the message: `where`.
    pub(super) fn drop(&mut self, sequence: Option<u64>) {
        self.stats.dropped += 1;
        if let Some(sequence) = sequence {
            self.ready_acks.add(sequence);
        }
    }

    pub(super) fn skip(&mut self, sequence: Option<u64>) {
        self.stats.skipped += 1;
        if let Some(sequence) = sequence {
            self.ready_acks.add(sequence);
        }
    }
}
