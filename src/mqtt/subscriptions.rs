//! Chooses the filters to subscribe to, and which copy of a message to take.
//!
//! - A filter that another one covers is not subscribed to: the other one brings its messages.
//! - Filters may still overlap in part, such as `t/+/a` and `t/x/+`, and a broker may then deliver a message once for
//!   each of them (MQTT 5, 3.3.4). With MQTT 5 every subscription has an identifier, which the copies carry; of the
//!   subscriptions that match a topic the first one's copy is taken.

use crate::config::{Config, ProtocolVersion};
use crate::core::topic_filter::{Captures, TopicFilter};

#[derive(Debug)]
pub struct Subscription {
    topic: TopicFilter,
    /// As SUBSCRIBE sends it: with the shared group.
    pub filter: String,
}

pub fn subscriptions(config: &Config) -> Vec<Subscription> {
    let routes = &config.routes;
    let covers = |j: usize, i: usize| routes[j].topic.covers(&routes[i].topic);
    // Only the first of equal filters is subscribed to.
    let covered = |i: usize| (0..routes.len()).any(|j| j != i && covers(j, i) && (j < i || !covers(i, j)));
    let needed = (0..routes.len()).filter(|i| !covered(*i)).map(|i| &routes[i].topic);
    needed
        .map(|topic| Subscription {
            topic: topic.clone(),
            filter: match &config.mqtt.shared_group {
                Some(group) => format!("$share/{group}/{}", topic.as_str()),
                None => topic.as_str().into(),
            },
        })
        .collect()
}

/// Whether a broker may deliver a message more than once and the copies cannot be distinguished, as in
/// MQTT 3.1.1.
pub fn is_ambiguous(config: &Config) -> bool {
    let all = subscriptions(config);
    let overlap = |(i, a): (usize, &Subscription)| all[..i].iter().any(|b| a.topic.overlaps(&b.topic));
    config.mqtt.version == Some(ProtocolVersion::V4) && all.iter().enumerate().any(overlap)
}

/// The identifier of a subscription, from 1 to 268,435,455. It depends on the filter alone, so that a subscription of an
/// earlier configuration, which a session may still have, cannot be mistaken for another.
pub fn subscription_id(filter: &str) -> usize {
    crc32c::crc32c(filter.as_bytes()) as usize % 268_435_455 + 1
}

/// Whether a copy that the subscriptions `ids` brought is the one to take. Without identifiers it is the only copy.
pub fn is_primary_copy(
    subscriptions: &[Subscription],
    topic: &str,
    ids: impl Iterator<Item = usize> + Clone,
    captures: &mut Captures,
) -> bool {
    if ids.clone().next().is_none() {
        return true;
    }
    match subscriptions.iter().find(|subscription| subscription.topic.matches(topic, captures)) {
        Some(first) => ids.into_iter().any(|id| id == subscription_id(&first.filter)),
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(version: u8, topics: &[&str]) -> Config {
        let routes: Vec<_> =
            topics.iter().map(|topic| format!(r#"{{"topic":"{topic}","table":"t"}}"#)).collect();
        Config::parse(&format!(
            r#"{{"mqtt":{{"url":"mqtt://x","protocolVersion":{version}}},"clickhouse":{{"url":"http://x"}},"routes":[{}]}}"#,
            routes.join(",")
        ))
        .unwrap()
    }

    #[test]
    fn covered_filters_are_left_out() {
        let filters = |topics: &[&str]| -> Vec<String> {
            subscriptions(&config(5, topics)).into_iter().map(|s| s.filter).collect()
        };
        assert_eq!(filters(&["a/b", "a/{x}", "c"]), ["a/+", "c"]);
        assert_eq!(filters(&["t/+/a", "t/x/+"]), ["t/+/a", "t/x/+"]);
        assert_eq!(filters(&["a/{x}", "a/+", "a/b", "a/{y}"]), ["a/+"], "of routes that continue");
    }

    #[test]
    fn one_of_several_copies_is_taken() {
        let all = subscriptions(&config(5, &["t/+/a", "t/x/+"]));
        let ids: Vec<usize> = all.iter().map(|s| subscription_id(&s.filter)).collect();
        let primary = |topic: &str, ids: &[usize]| {
            is_primary_copy(&all, topic, ids.iter().copied(), &mut Captures::default())
        };
        assert!(primary("t/x/a", &[ids[0]]));
        assert!(!primary("t/x/a", &[ids[1]]));
        assert!(primary("t/x/a", &[ids[1], ids[0]]));
        assert!(primary("t/x/b", &[ids[1]]));
        assert!(primary("t/x/a", &[]));
        assert!(primary("elsewhere", &[77]), "a topic that no subscription matches becomes a dead letter");
    }

    #[test]
    fn only_mqtt_3_cannot_distinguish_copies() {
        assert!(is_ambiguous(&config(4, &["t/+/a", "t/x/+"])));
        assert!(!is_ambiguous(&config(5, &["t/+/a", "t/x/+"])));
        assert!(!is_ambiguous(&config(4, &["t/+/a", "u/x/+", "u/#"])));
    }
}
