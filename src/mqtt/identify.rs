//! Finds out which software a broker is, by connections of its own that take no message of a pipeline.
//!
//! - mosquitto, EMQX and amqtt publish their version below `$SYS`.
//! - aedes publishes each subscription below `$SYS`, that to this topic included.
//! - NATS refuses filters below `$MQTT/sub/` and no others.
//! - RabbitMQ without MQTT 5 closes a connection that begins with it, and says nothing. A rumqttd that listens for MQTT 3.1.1
//!   does so too, but closes the connection that subscribes below `$` as well, which RabbitMQ grants.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use crate::config::{BrokerUrl, Mqtt, ProtocolVersion};
use crate::core::backoff::random_bits;
use crate::core::error::Error;
use crate::mqtt::broker_kind::BrokerKind;
use crate::mqtt::probe::Probe;
use crate::mqtt::session::Event;
use crate::mqtt::transport::CONNECT_TIMEOUT;

#[derive(Debug, Default)]
pub struct Identity {
    pub kind: Option<BrokerKind>,
    /// As it publishes it below `$SYS`; many publish nothing, or not to every user.
    pub version: Option<String>,
}

/// How long to wait for a message below `$SYS`: versions are retained.
const SYS_TIMEOUT: Duration = Duration::from_millis(300);
const AEDES: &str = "$SYS/+/new/subscribes";
const VERSIONS: [&str; 2] = ["$SYS/broker/version", "$SYS/brokers/+/version"];
/// NATS keeps what begins so for itself.
const NATS: &str = "$MQTT/sub/millrace";
/// A broker that refuses this too does not let us subscribe there.
const BESIDE_NATS: &str = "$MQTU/sub/millrace";

enum Answer {
    Message {
        topic: String,
        payload: String,
    },
    Refused {
        filter: String,
    },
    /// Granted, and nothing came.
    Granted,
    /// No SUBACK came, or the connection was lost.
    Nothing,
}

/// Asks the broker, which speaks `mqtt.version`. `refused_v5_silently`: whether it has closed a connection of MQTT 5 without an
/// answer, if that is known.
pub async fn identify(
    url: &BrokerUrl,
    mqtt: &Mqtt,
    client_id: String,
    refused_v5_silently: Option<bool>,
) -> Identity {
    if refused_v5_silently == Some(true) {
        let is_granted = matches!(ask(url, mqtt, &client_id, &[BESIDE_NATS]).await, Answer::Granted);
        return Identity { kind: is_granted.then_some(BrokerKind::RabbitMq), version: None };
    }
    let mut filters = vec![VERSIONS[0], VERSIONS[1], AEDES];
    while !filters.is_empty() {
        match ask(url, mqtt, &client_id, &filters).await {
            Answer::Message { topic, .. } if topic.ends_with("/new/subscribes") => {
                return Identity { kind: Some(BrokerKind::Aedes), version: None };
            }
            Answer::Message { topic, payload } => {
                return Identity { kind: BrokerKind::by_version(&topic, &payload), version: Some(payload) };
            }
            Answer::Refused { filter } if filters.contains(&filter.as_str()) => {
                filters.retain(|other| *other != filter);
            }
            Answer::Refused { .. } | Answer::Granted | Answer::Nothing => break,
        }
    }
    if mqtt.version != Some(ProtocolVersion::V4) {
        return Identity::default();
    }
    match ask(url, mqtt, &client_id, &[BESIDE_NATS, NATS]).await {
        Answer::Refused { filter } if filter == NATS => {
            Identity { kind: Some(BrokerKind::Nats), version: None }
        }
        Answer::Granted
            if refused_v5_silently.is_none() && closes_v5_silently(url, mqtt, client_id).await =>
        {
            Identity { kind: Some(BrokerKind::RabbitMq), version: None }
        }
        _ => Identity::default(),
    }
}

/// Subscribes, and waits for a message.
async fn ask(url: &BrokerUrl, mqtt: &Mqtt, client_id: &str, filters: &[&str]) -> Answer {
    let mqtt = Mqtt { qos: 0, shared_group: None, skip_retained: false, ..mqtt.clone() };
    let filters: Vec<String> = filters.iter().map(|filter| (*filter).into()).collect();
    let Ok(mut probe) = Probe::begin(url, &mqtt, client_id.into(), filters).await else {
        return Answer::Nothing;
    };
    let mut answer = Answer::Nothing;
    let mut heard =
        probe.listen(Instant::now() + CONNECT_TIMEOUT * 2, |event| note(event, &mut answer)).await;
    if heard.is_ok() && matches!(answer, Answer::Granted) {
        heard = probe.listen(Instant::now() + SYS_TIMEOUT, |event| note(event, &mut answer)).await;
    }
    probe.end().await;
    match heard {
        Err(Error::SubscriptionRefused { filter, .. }) => Answer::Refused { filter },
        Err(_) if matches!(answer, Answer::Granted) => Answer::Nothing,
        _ => answer,
    }
}

/// Ends the wait for SUBACK, and that for a message.
fn note(event: Event<'_>, answer: &mut Answer) -> ControlFlow<()> {
    match event {
        Event::Message { publish, .. } => {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            *answer = Answer::Message { topic: text(publish.topic), payload: text(publish.payload) };
            ControlFlow::Break(())
        }
        Event::Subscribed { .. } => {
            if matches!(answer, Answer::Nothing) {
                *answer = Answer::Granted;
            }
            ControlFlow::Break(())
        }
        _ => ControlFlow::Continue(()),
    }
}

async fn closes_v5_silently(url: &BrokerUrl, mqtt: &Mqtt, client_id: String) -> bool {
    let mqtt = Mqtt { version: Some(ProtocolVersion::V5), ..mqtt.clone() };
    let Ok(mut probe) = Probe::begin(url, &mqtt, client_id, vec![NATS.into()]).await else { return false };
    let heard = probe.listen(Instant::now() + CONNECT_TIMEOUT, |_| ControlFlow::Break(())).await;
    probe.end().await;
    matches!(heard, Err(Error::MqttUnreachable { .. }))
}

/// A client id of its own, so that a running pipeline keeps its session. At most 23 bytes: MQTT 3.1.1, 3.1.3.1.
pub fn random_client_id() -> String {
    format!("millrace{:015x}", random_bits() >> 4)
}
