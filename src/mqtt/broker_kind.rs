//! The brokers that can be recognised, and facts about each that MQTT does not state.

/// The software of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BrokerKind {
    Aedes,
    Amqtt,
    Emqx,
    Mosquitto {
        /// It has shared subscriptions, and MQTT 5: since 1.6.
        has_shared: bool,
    },
    Nats,
    RabbitMq,
}

impl BrokerKind {
    /// By what it publishes as its version below `$SYS`.
    pub fn by_version(topic: &str, payload: &str) -> Option<BrokerKind> {
        let lower = payload.to_ascii_lowercase();
        if let Some(version) = lower.strip_prefix("mosquitto version ") {
            let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
            let has_shared = (numbers.next(), numbers.next()) >= (Some(1), Some(6));
            return Some(BrokerKind::Mosquitto { has_shared });
        }
        if lower.contains("amqtt") {
            return Some(BrokerKind::Amqtt);
        }
        topic.starts_with("$SYS/brokers/").then_some(BrokerKind::Emqx)
    }

    pub fn name(self) -> &'static str {
        match self {
            BrokerKind::Aedes => "aedes",
            BrokerKind::Amqtt => "amqtt",
            BrokerKind::Emqx => "EMQX",
            BrokerKind::Mosquitto { .. } => "mosquitto",
            BrokerKind::Nats => "NATS",
            BrokerKind::RabbitMq => "RabbitMQ",
        }
    }

    /// Whether `$share/group/filter` is a shared subscription with MQTT 3.1.1, and no ordinary filter.
    pub fn has_shared(self) -> bool {
        match self {
            BrokerKind::Emqx => true,
            BrokerKind::Mosquitto { has_shared } => has_shared,
            BrokerKind::Aedes | BrokerKind::Amqtt | BrokerKind::Nats | BrokerKind::RabbitMq => false,
        }
    }

    /// The setting that limits the messages without an acknowledgement, and its default; `None` for a broker without a limit.
    pub fn window_setting(self) -> Option<(&'static str, usize)> {
        match self {
            BrokerKind::Aedes | BrokerKind::Amqtt => None,
            BrokerKind::Emqx => Some(("mqtt.max_inflight", 32)),
            BrokerKind::Mosquitto { .. } => Some(("max_inflight_messages", 20)),
            BrokerKind::Nats => Some(("max_ack_pending", 1_024)),
            BrokerKind::RabbitMq => Some(("mqtt.prefetch", 10)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brokers_are_recognised_by_their_versions() {
        let by = BrokerKind::by_version;
        let mosquitto = |has_shared| Some(BrokerKind::Mosquitto { has_shared });
        assert_eq!(by("$SYS/broker/version", "mosquitto version 2.0.11"), mosquitto(true));
        assert_eq!(by("$SYS/broker/version", "mosquitto version 1.6.12"), mosquitto(true));
        assert_eq!(by("$SYS/broker/version", "mosquitto version 1.5.7"), mosquitto(false));
        assert_eq!(by("$SYS/broker/version", "aMQTT version 0.12.1"), Some(BrokerKind::Amqtt));
        assert_eq!(by("$SYS/brokers/emqx@127.0.0.1/version", "5.8.0"), Some(BrokerKind::Emqx));
        assert_eq!(by("$SYS/broker/version", "1.0"), None);
    }
}
