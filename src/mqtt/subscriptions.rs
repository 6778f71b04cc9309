//! Chooses the filters to subscribe to, and which copy of a message to take.
//!
//! - A filter that another one covers is not subscribed to: the other one brings its messages.
//! - Filters may still overlap in part, such as `t/+/a` and `t/x/+`, and a broker may then deliver a message once for
//!   each of them (MQTT 5, 3.3.4). With MQTT 5 every subscription has an identifier, which the copies carry; of the
//!   subscriptions that match a topic the first one's copy is taken.
//! - A route may take fewer topics than any filter of MQTT: `a/{name#}/b` is subscribed to as `a/#`, and the router skips what no
//!   route takes.
//! - A subscription has the highest QoS of the routes whose topics it may bring, whichever copy is taken.
//! - Where a broker has no identifiers, as in MQTT 3.1.1, a copy cannot be distinguished from an equal message that was published
//!   again. So no two filters overlap there: one [`Offer`] covers those that do, `t/+/+` in the example, and the router skips
//!   what no route takes. A broker that refuses the wider filter is asked for the filters themselves.

use std::collections::HashMap;

use crate::config::{Config, Mqtt, Route};
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
    let topics: Vec<TopicFilter> = topics.iter().map(|topic| topic.subscribed()).collect();
    let covers = |j: usize, i: usize| topics[j].covers(&topics[i]);
    // Only the first of equal filters is subscribed to.
    let covered = |i: usize| (0..topics.len()).any(|j| j != i && covers(j, i) && (j < i || !covers(i, j)));
    let needed = (0..topics.len()).filter(|i| !covered(*i)).map(|i| &topics[i]);
    needed.map(|topic| Subscription { topic: topic.clone(), filter: shared_filter(mqtt, topic) }).collect()
}

/// The filters that bring topics no route takes, of the routes that no filter of MQTT describes.
pub fn wider_filters(config: &Config) -> Vec<TopicFilter> {
    wider_filters_of(&topics(config))
}

/// The same for other routes than those of the configuration.
pub fn wider_filters_of(topics: &[&TopicFilter]) -> Vec<TopicFilter> {
    let narrower = topics.iter().filter(|topic| topic.is_narrower_than_mqtt());
    narrower.map(|topic| topic.subscribed()).collect()
}

/// The QoS of a subscription: the highest of the routes that it may bring messages for.
fn subscription_qos(mqtt: &Mqtt, routes: &[&Route], topic: &TopicFilter) -> u8 {
    let brings = routes.iter().filter(|route| route.topic.subscribed().overlaps(topic));
    brings.map(|route| route.qos.unwrap_or(mqtt.qos)).max().unwrap_or(mqtt.qos)
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
    /// The QoS of the filters that have another than `mqtt.qos`.
    pub qos: HashMap<String, u8>,
}

impl Filters {
    /// Subscriptions without a shared group, asked for as if their brokers had subscription identifiers.
    pub fn of(config: &Config, subscriptions: &[Subscription]) -> Filters {
        let names: Vec<String> = subscriptions.iter().map(|one| one.filter.clone()).collect();
        let routes: Vec<&Route> = config.routes.iter().collect();
        let qos = subscriptions
            .iter()
            .map(|one| (one.filter.clone(), subscription_qos(&config.mqtt, &routes, &one.topic)));
        Filters { qos: qos.collect(), ..Filters::from(names) }
    }

    /// Whether it is one of them, and not a part of one.
    pub fn has(&self, filter: &str) -> bool {
        self.separate.iter().any(|own| own == filter)
            || self.offers.iter().any(|offer| offer.filter == filter)
    }

    /// The highest QoS of all filters, where `qos` is that of those that have none of their own.
    pub fn highest_qos(&self, qos: u8) -> u8 {
        let all = self.separate.iter().chain(self.offers.iter().map(|offer| &offer.filter));
        all.map(|filter| self.qos.get(filter).copied().unwrap_or(qos)).max().unwrap_or(qos)
    }
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
        Filters { separate, offers, qos: HashMap::new() }
    }
}

pub fn filters(config: &Config) -> Filters {
    filters_of(&config.mqtt, &config.routes.iter().collect::<Vec<_>>())
}

/// The same for other routes than those of the configuration.
pub fn filters_of(mqtt: &Mqtt, routes: &[&Route]) -> Filters {
    let topics: Vec<&TopicFilter> = routes.iter().map(|route| &route.topic).collect();
    let (separate, offers) = (subscriptions_of(mqtt, &topics), offers_of(mqtt, &topics));
    let all = separate.iter().map(|subscription| (&subscription.filter, &subscription.topic));
    let all = all.chain(offers.iter().map(|offer| (&offer.filter, &offer.topic)));
    let qos = match routes.iter().any(|route| route.qos.is_some()) {
        true => all
            .map(|(filter, topic)| (filter.clone(), subscription_qos(mqtt, routes, topic)))
            .filter(|(_, qos)| *qos != mqtt.qos)
            .collect(),
        false => HashMap::new(),
    };
    Filters { separate: separate.into_iter().map(|subscription| subscription.filter).collect(), offers, qos }
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
    fn a_name_of_several_levels_is_subscribed_to_with_all_below() {
        let topics = ["z/{device#}/availability", "z/{device#}/set", "z/bridge/state", "y"];
        let config = config(5, &topics);
        let all: Vec<String> = subscriptions(&config).into_iter().map(|s| s.filter).collect();
        assert_eq!(all, ["z/#", "y"]);
        let wider: Vec<String> = wider_filters(&config).iter().map(|topic| topic.as_str().into()).collect();
        assert_eq!(wider, ["z/#", "z/#"]);
    }

    #[test]
    fn a_subscription_has_the_highest_qos_of_its_routes() {
        let of_routes = |version: u8, routes: &[(&str, Option<u8>)]| -> Vec<(String, u8)> {
            let mut config = config(version, &routes.iter().map(|(topic, _)| *topic).collect::<Vec<_>>());
            config.routes.iter_mut().zip(routes).for_each(|(route, (_, qos))| route.qos = *qos);
            let filters = filters(&config);
            let all = match version {
                5 => filters.separate.clone(),
                _ => filters.offers.iter().map(|offer| offer.filter.clone()).collect(),
            };
            all.into_iter()
                .map(|filter| (filters.qos.get(&filter).copied().unwrap_or(1), filter))
                .map(|(q, f)| (f, q))
                .collect()
        };
        let plain = [("a", None), ("b", Some(0)), ("c", Some(2))];
        assert_eq!(of_routes(5, &plain), [("a".into(), 1), ("b".into(), 0), ("c".into(), 2)]);
        // Covered filters are not subscribed to, and have what they asked for.
        assert_eq!(of_routes(5, &[("a/b", Some(2)), ("a/+", Some(0))]), [("a/+".into(), 2)]);
        // Either copy may be the one that is taken, where filters overlap.
        let overlapping = [("a/+", Some(0)), ("+/b", Some(2)), ("c", Some(0))];
        assert_eq!(of_routes(5, &overlapping), [("a/+".into(), 2), ("+/b".into(), 2), ("c".into(), 0)]);
        assert_eq!(of_routes(4, &overlapping), [("+/+".into(), 2), ("c".into(), 0)]);
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
