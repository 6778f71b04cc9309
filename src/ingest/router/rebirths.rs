//! Edge nodes of Sparkplug B that are asked for their BIRTH messages, because what they send cannot be understood without.

use std::time::{Duration, Instant};

use crate::config::{Config, Route};
use crate::core::clock::ReceiveTime;
use crate::core::rebirths::{NotedRebirths, RebirthRequest};
use crate::core::topic_filter::TopicFilter;
use crate::decode::rebirth_command;
use crate::mqtt::Outgoing;
use crate::telemetry::context::PipelineContext;
use crate::telemetry::events::Warning;

/// The time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The requests of one route on one connection.
pub struct Rebirths {
    route: usize,
    table: String,
    noted: NotedRebirths,
    /// Requests since the last warning, and when that was.
    unreported: usize,
    warned_at: Option<Instant>,
}

impl Rebirths {
    /// The routes of a connection, with decoders that note what they do not understand, and the requests that follow.
    pub fn of_routes(config: &Config) -> (Vec<Route>, Vec<Rebirths>) {
        let mut routes: Vec<Route> = config.all_routes().cloned().collect();
        let routes_and_places = routes.iter_mut().enumerate();
        let rebirths = routes_and_places.filter_map(|(at, route)| Rebirths::of(config, at, route)).collect();
        (routes, rebirths)
    }

    /// Has the decoder of a route note what it does not understand, where the route asks edge nodes.
    pub fn of(config: &Config, at: usize, route: &mut Route) -> Option<Rebirths> {
        if !route.asks_rebirth {
            return None;
        }
        let noted = NotedRebirths::default();
        let is_alone = config.mqtt.connections == 1 && config.mqtt.shared_group.is_none();
        let others = config.routes.iter().take(at);
        let is_first =
            others.filter(|other| !other.continues).all(|other| !other.topic.overlaps(&route.topic));
        let checks_sequence = is_alone && is_first && takes_all_messages(&route.topic);
        route.edge_nodes = route.edge_nodes.observed(noted.clone(), checks_sequence);
        Some(Rebirths { route: at, table: route.table.clone(), noted, unreported: 0, warned_at: None })
    }

    /// The commands that are to be published now.
    pub fn due(&mut self, context: &PipelineContext, now: ReceiveTime) -> Vec<Outgoing> {
        let mut due = self.noted.take();
        due.retain(|request| context.rebirth_limits.allow(&request.topic, now.instant));
        if let Some(first) = due.first() {
            self.unreported += due.len();
            self.warn(context, first, now.instant);
        }
        let command = |RebirthRequest { topic, .. }| Outgoing { topic, payload: rebirth_command(now.system) };
        due.into_iter().map(command).collect()
    }

    /// Warns once a minute at most.
    fn warn(&mut self, context: &PipelineContext, first: &RebirthRequest, now: Instant) {
        if self.warned_at.is_some_and(|at| now.saturating_duration_since(at) < WARNING_INTERVAL) {
            return;
        }
        let (table, RebirthRequest { topic, reason }) = (&self.table, first);
        let message = format!(
            "{table}: asked for the BIRTH messages of edge nodes, {} requests since the last warning; the last to {topic}: {reason}",
            self.unreported
        );
        context
            .warn(Warning::new("SPARKPLUG_REBIRTH", message).table(table).route(self.route).reason(reason));
        (self.unreported, self.warned_at) = (0, Some(now));
    }
}

/// Whether a filter takes all messages of the edge nodes whose messages it takes, so that their numbers have no gaps.
fn takes_all_messages(filter: &TopicFilter) -> bool {
    let levels: Vec<&str> = filter.as_str().split('/').collect();
    let is_rest = |level: &&str| *level == "#";
    let begin = levels.iter().position(|level| *level == "spBv1.0" || is_rest(level));
    let Some(begin) = begin else { return false };
    // group, kind, node, device
    let behind = &levels[(begin + 1).min(levels.len())..];
    let is_any = |level: &&str| *level == "+" || is_rest(level);
    is_rest(&levels[begin]) || (behind.iter().take(4).any(is_rest) && behind.get(1).is_none_or(is_any))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_compared_where_all_messages_of_a_node_come() {
        for (filter, takes_all) in [
            ("#", true),
            ("spBv1.0/#", true),
            ("spBv1.0/g/#", true),
            ("spBv1.0/+/+/n/#", true),
            ("site/spBv1.0/{group}/{kind}/{node}/{rest#}", true),
            ("spBv1.0/+/+/+", false),
            ("spBv1.0/+/+/+/+", false),
            ("spBv1.0/+/DDATA/#", false),
            ("spBv1.0/+/NDATA/+", false),
            ("other/+", false),
        ] {
            assert_eq!(takes_all_messages(&TopicFilter::parse(filter).unwrap()), takes_all, "{filter}");
        }
    }
}
