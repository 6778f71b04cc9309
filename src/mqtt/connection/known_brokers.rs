//! Decisions of a connection that depend on the software of the broker: it refuses a shared group that would stay silent, and
//! names the setting of a window.

use std::time::{Duration, Instant};

use super::inflight_window::WindowLimit;
use super::reconnect::DisconnectCause;
use super::{Connection, ConnectionEnd, clock};
use crate::config::{Mqtt, ProtocolVersion};
use crate::core::error::Error;
use crate::mqtt::MessageSink;
use crate::mqtt::broker_kind::BrokerKind;
use crate::mqtt::identify::{identify, random_client_id};
use crate::telemetry::events::Warning;

/// A shared group without a message for this long is worth a warning, where the broker may have none.
const SHARED_SILENCE: Duration = Duration::from_secs(10);

impl<S: MessageSink> Connection<S> {
    /// Whether the broker must have shared subscriptions, and MQTT does not say whether it has.
    fn hopes_for_shared_group(&self) -> bool {
        let is_shared = self.context.config.mqtt.shared_group.is_some();
        let is_first = self.ready.is_some() && self.sink.connection() == 0;
        is_shared && is_first && self.session.version() == ProtocolVersion::V4
    }

    /// The error of a broker that is known to take a filter of a shared group for an ordinary one.
    pub(super) async fn missing_shared_group(&mut self) -> Option<ConnectionEnd> {
        if !self.hopes_for_shared_group() {
            return None;
        }
        let context = self.context.clone();
        let (url, mqtt) = (self.url().clone(), self.probed());
        // Where the version is fixed nothing else is tried, so that a broker that only looks like RabbitMQ can be used.
        let silently = self.refused_v5_silently.or(Some(false));
        let kind = match self.run_disconnected(identify(&url, &mqtt, random_client_id(), silently)).await {
            Err(closed) => return Some(closed),
            Ok(identity) => identity.kind.filter(|kind| !kind.has_shared())?,
        };
        let group = context.config.mqtt.shared_group.as_deref().unwrap_or_default();
        let filter = format!("$share/{group}/{}", context.config.routes[0].topic.as_str());
        let mut reason = format!(
            "{} has no shared subscriptions with MQTT 3.1.1: it grants this filter as an ordinary one, and delivers nothing. Leave \
             mqtt.sharedGroup out, with mqtt.connections at 1",
            kind.name()
        );
        if kind == BrokerKind::RabbitMq && mqtt.version != context.config.mqtt.version {
            reason += ". It is taken for RabbitMQ because it closed the connection of MQTT 5 without an answer and grants filters below $: if it is another \
                       broker, set mqtt.protocolVersion to 4";
        }
        let error = Error::SubscriptionRefused { filter, reason };
        Some(ConnectionEnd::Lost(error, DisconnectCause::GivenUp))
    }

    /// The configuration for connections that ask the broker what it is.
    fn probed(&self) -> Mqtt {
        Mqtt { version: Some(self.session.version()), ..self.context.config.mqtt.clone() }
    }

    /// MQTT 3.1.1 has no shared subscriptions. Many brokers have them nevertheless; the others take the filter for an ordinary
    /// one, and deliver nothing.
    pub(super) fn expect_shared_messages(&mut self) {
        if self.hopes_for_shared_group() {
            self.shared_silent_at = Some(clock() + SHARED_SILENCE);
        }
    }

    pub(super) fn warn_of_shared_silence(&mut self, now: Instant) {
        if self.shared_silent_at.is_some_and(|at| now >= at) && !self.paused {
            self.shared_silent_at = None;
            let message = "no message has come for 10 s: MQTT 3.1.1 has no shared subscriptions, and a broker without them takes \
                           $share/… for an ordinary filter and delivers nothing. Leave mqtt.sharedGroup out if this one has none";
            self.context.warn(Warning::new("SHARED_GROUP_SILENT", message).url(&self.url().to_string()));
        }
    }

    /// Warns of the broker's window, once it is known which setting of which broker that is: a broker without a limit has no
    /// window, whatever it looked like.
    pub(super) fn report_window(&self, limit: WindowLimit) {
        let context = self.context.clone();
        let (url, mqtt, silently) = (self.url().clone(), self.probed(), self.refused_v5_silently);
        tokio::spawn(async move {
            let WindowLimit { messages, messages_per_second } = limit;
            let is_ours =
                mqtt.version == Some(ProtocolVersion::V5) && messages == usize::from(mqtt.receive_maximum);
            let setting = if is_ours {
                "mqtt.receiveMaximum of this configuration".into()
            } else {
                match identify(&url, &mqtt, random_client_id(), silently)
                    .await
                    .kind
                    .map(|kind| (kind, kind.window_setting()))
                {
                    None => unknown_setting(messages),
                    Some((_, None)) => return,
                    Some((kind, Some((setting, default)))) => {
                        format!("{setting} in {} ({default} by default)", kind.name())
                    }
                }
            };
            let message = format!(
                "the broker keeps at most {messages} unacknowledged messages in flight, which allows about \
                 {messages_per_second:.0} messages a second in batches as small: raise {setting}"
            );
            context.warn(Warning::new("WINDOW_NARROW", message).window(messages, messages_per_second));
        });
    }
}

/// The setting of the brokers that have this window by default, or that of each.
fn unknown_setting(messages: usize) -> String {
    let known = [
        BrokerKind::RabbitMq,
        BrokerKind::Mosquitto { has_shared: true },
        BrokerKind::Emqx,
        BrokerKind::Nats,
    ];
    let settings = known.into_iter().filter_map(|kind| Some((kind, kind.window_setting()?)));
    if let Some((kind, (setting, _))) = settings.clone().find(|(_, (_, default))| *default == messages) {
        return format!("{setting} in {} ({messages} by default), or what your broker calls it", kind.name());
    }
    let names: Vec<_> = settings.map(|(kind, (setting, _))| format!("{setting} ({})", kind.name())).collect();
    format!("{} or what your broker calls it", names.join(", "))
}
