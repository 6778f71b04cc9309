//! Chooses the filters to subscribe to, and which copy of a message to take.
//!
//! - A filter that another one covers is not subscribed to: the other one brings its messages.
//! - Filters may still overlap in part, such as `t/+/a` and `t/x/+`, and a broker may then deliver a message once for
//!   each of them (MQTT 5, 3.3.4). With MQTT 5 every subscription has an identifier, which the copies carry; of the
//!   subscriptions that match a topic the first one's copy is taken.
//! - Where a broker has no identifiers, as in MQTT 3.1.1, a copy cannot be distinguished from an equal message that was published
//!   again. So no two filters overlap there: one [`Offer`] covers those that do, `t/+/+` in the example, and the router skips
//!   what no route takes. A broker that refuses the wider filter is asked for the filters themselves.

use crate::config::{Config, Mqtt};
use crate::core::topic_filter::{Captures, TopicFilter};

#[derive(Debug, Clone)]
pub struct Subscription {
    topic: TopicFilter,
    /// As SUBSCRIBE sends it: with the shared group.
    pub filter: String,
}

pub fn subscriptions(config: &Config) -> Vec<Subscription> {
    subscriptions_of(&config.mqtt, &topics(config))
}

fn topics(config: &Config) -> Vec<&TopicFilter> {
    config.routes.iter().map(|route| &route.topic).collect()
}

/// The same for other routes than those of the configuration.
pub fn subscriptions_of(mqtt: &Mqtt, topics: &[&TopicFilter]) -> Vec<Subscription> {
    let covers = |j: usize, i: usize| topics[j].covers(topics[i]);
    // Only the first of equal filters is subscribed to.
    let covered = |i: usize| (0..topics.len()).any(|j| j != i && covers(j, i) && (j < i || !covers(i, j)));
    let needed = (0..topics.len()).filter(|i| !covered(*i)).map(|i| topics[i]);
    needed.map(|topic| Subscription { topic: topic.clone(), filter: shared_filter(mqtt, topic) }).collect()
}

fn shared_filter(mqtt: &Mqtt, topic: &TopicFilter) -> String {
    match &mqtt.shared_group {
        Some(group) => format!("$share/{group}/{}", topic.as_str()),
        None => topic.as_str().into(),
    }
}

/// A filter to subscribe to where messages carry no subscription identifiers.
#[derive(Debug, Clone)]
pub struct Offer {
    pub topic: TopicFilter,
    /// As SUBSCRIBE sends it.
    pub filter: String,
    /// The filters that it covers and that overlap; empty for a filter that overlaps no other.
    pub parts: Vec<String>,
}

/// The filters that a session may subscribe to.
#[derive(Debug, Clone)]
pub struct Filters {
    /// The filters of the routes, for a broker with subscription identifiers.
    pub separate: Vec<String>,
    /// The same for any other broker: no two of them overlap.
    pub offers: Vec<Offer>,
}

impl From<Vec<String>> for Filters {
    /// Filters that do not overlap.
    fn from(separate: Vec<String>) -> Filters {
        let offer = |filter: &String| Offer {
            topic: TopicFilter::literal(filter),
            filter: filter.clone(),
            parts: Vec::new(),
        };
        let offers = separate.iter().map(offer).collect();
        Filters { separate, offers }
    }
}

pub fn filters(config: &Config) -> Filters {
    filters_of(&config.mqtt, &topics(config))
}

/// The same for other routes than those of the configuration.
pub fn filters_of(mqtt: &Mqtt, topics: &[&TopicFilter]) -> Filters {
    Filters {
        separate: subscriptions_of(mqtt, topics)
            .into_iter()
            .map(|subscription| subscription.filter)
            .collect(),
        offers: offers_of(mqtt, topics),
    }
}

/// Filters that bring what [`subscriptions`] bring, and no message twice.
pub fn offers(config: &Config) -> Vec<Offer> {
    offers_of(&config.mqtt, &topics(config))
}

/// The same for other routes than those of the configuration.
pub fn offers_of(mqtt: &Mqtt, topics: &[&TopicFilter]) -> Vec<Offer> {
    let mut offers: Vec<Offer> = Vec::new();
    for Subscription { topic, filter } in subscriptions_of(mqtt, topics) {
        let mut offer = Offer { topic, filter, parts: Vec::new() };
        // A wider filter may overlap others that its parts do not.
        while let Some(at) = offers.iter().position(|other| other.topic.overlaps(&offer.topic)) {
            let other = offers.remove(at);
            let parts = |offer: Offer| if offer.parts.is_empty() { vec![offer.filter] } else { offer.parts };
            let topic = other.topic.cover(&offer.topic);
            let filter = shared_filter(mqtt, &topic);
            offer = Offer { topic, filter, parts: [parts(other), parts(offer)].concat() };
        }
        offers.push(offer);
    }
    offers
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
    fn without_identifiers_no_two_filters_overlap() {
        let offered = |topics: &[&str]| -> Vec<(String, usize)> {
            let offers = offers(&config(4, topics));
            for (i, offer) in offers.iter().enumerate() {
                assert!(offers[..i].iter().all(|other| !other.topic.overlaps(&offer.topic)), "{topics:?}");
            }
            offers.into_iter().map(|offer| (offer.filter, offer.parts.len())).collect()
        };
        assert_eq!(offered(&["o/{dev}/c", "o/b/{dev}"]), [("o/+/+".into(), 2)]);
        assert_eq!(
            offered(&["a/b", "t/+/a", "u/#", "t/x/+"]),
            [("a/b".into(), 0), ("u/#".into(), 0), ("t/+/+".into(), 2)]
        );
        assert_eq!(offered(&["a/b", "a/{x}", "c"]), [("a/+".into(), 0), ("c".into(), 0)]);
        // o/+/+ overlaps o/x/y, which neither of its parts does.
        assert_eq!(offered(&["o/x/y", "o/+/c", "o/b/+"]), [("o/+/+".into(), 3)]);
    }
}
