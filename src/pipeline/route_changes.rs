//! Routes that change while the pipeline runs.
//!
//! A change is prepared first: the route is read and checked, its table looked at. Then it gets its place, a new
//! [`RouteSet`] is published, and each connection adopts it and subscribes. If a broker refuses, the set from before is published
//! again. One change is made at a time.

use std::time::Instant;

use crossbeam_channel::Sender;

use crate::config::{Route, shared_alone};
use crate::core::error::{Error, Result};
use crate::core::lock::lock;
use crate::core::thread::{run_on, runtime};
use crate::ingest::batch::Batch;
use crate::ingest::dead_letter_batch::DeadLetterBatch;
use crate::ingest::route_set::{LiveRoutes, RouteSet};
use crate::ingest::router::joined::JoinedRoutes;
use crate::ingest::table_plan::{TablePlan, TablePlans};
use crate::mqtt::{Command, Filters};
use crate::pipeline::stages::{prepare_added, start_transform, unreachable};
use crate::pipeline::{Pipeline, aborted};
use crate::telemetry::state::State;
use std::sync::Arc;

/// The parts of a running pipeline that a change needs. Its senders keep threads alive: it is dropped when the pipeline stops.
pub(super) struct RouteChanger {
    pub live: LiveRoutes,
    pub plans: Arc<TablePlans>,
    /// Where batches go, by the place of their route.
    pub senders: Vec<Sender<Box<Batch>>>,
    pub sink: Sender<Box<Batch>>,
    pub dead_letters: Sender<DeadLetterBatch>,
}

/// A route that has been checked, with the routes of the tables that its transform emits into.
struct PreparedRoute {
    routes: Vec<Route>,
    plans: Vec<Arc<TablePlan>>,
}

impl Pipeline {
    /// The place that the next route gets.
    pub fn next_place(&self) -> usize {
        self.context.config.places()
    }

    /// Adds a route, as JSON, or puts it in the place of another one in the order of the routes; gives its place.
    pub fn set_route(&self, operation: &'static str, text: &str, replaced: Option<usize>) -> Result<usize> {
        let _one_at_a_time = lock(&self.changing);
        let before = self.live_routes(operation)?;
        let config = &self.context.config;
        let route = config.parse_route(text)?;
        if route.table_choice.is_some() && config.routes.iter().all(|route| route.table_choice.is_none()) {
            let message = "has a name of the topic, and no route had at the start: the pipeline looks for no tables while it runs";
            return Err(Error::config("route.table", message));
        }
        self.check_order(&before, &route, replaced)?;
        let prepared = self.prepare_route(operation, route)?;
        let mut changer = self.take_changer(operation)?;
        let result = self.enter(&mut changer, prepared, &before, replaced);
        let result = result.and_then(|(place, set)| self.publish(&changer, &before, set).map(|()| place));
        self.put_back(changer);
        result
    }

    /// Removes the route at a place. Messages that the broker had queued for it still become rows.
    pub fn remove_route(&self, place: usize) -> Result<()> {
        const OPERATION: &str = "removeRoute";
        let _one_at_a_time = lock(&self.changing);
        let before = self.live_routes(OPERATION)?;
        let places: Vec<usize> = before.places.iter().copied().filter(|other| *other != place).collect();
        if places.is_empty() {
            let message = "is that of the last route, and a pipeline has one at least: stop() ends it";
            return Err(Error::config("topic", message));
        }
        let changer = self.take_changer(OPERATION)?;
        let set = before.changed(&self.context.config, places, changer.senders.clone().into());
        let result = self.publish(&changer, &before, set);
        self.put_back(changer);
        result
    }

    fn live_routes(&self, operation: &'static str) -> Result<Arc<RouteSet>> {
        self.check_running(operation)?;
        let changer = lock(&self.changer);
        changer.as_ref().map(|changer| changer.live.current()).ok_or_else(|| self.wrong_state(operation))
    }

    fn check_running(&self, operation: &'static str) -> Result<()> {
        match self.state() {
            State::Running | State::Paused => Ok(()),
            _ => Err(self.wrong_state(operation)),
        }
    }

    fn wrong_state(&self, operation: &'static str) -> Error {
        Error::InvalidState { operation, state: self.state().as_str() }
    }

    /// Taken for the time of a change: a stop that begins meanwhile finds none, and the change drops it.
    fn take_changer(&self, operation: &'static str) -> Result<RouteChanger> {
        self.check_running(operation)?;
        lock(&self.changer).take().ok_or_else(|| self.wrong_state(operation))
    }

    fn put_back(&self, changer: RouteChanger) {
        let mut place = lock(&self.changer);
        if matches!(self.state(), State::Running | State::Paused) {
            *place = Some(changer);
        }
    }

    /// Whether each route can be reached when this one is among them, and what they share.
    fn check_order(&self, before: &RouteSet, route: &Route, replaced: Option<usize>) -> Result<()> {
        let config = &self.context.config;
        let mut order: Vec<(Option<usize>, &Route)> =
            before.places.iter().map(|place| (Some(*place), config.route(*place))).collect();
        match replaced.and_then(|replaced| before.places.iter().position(|place| *place == replaced)) {
            Some(at) => order[at] = (None, route),
            None => order.push((None, route)),
        }
        let routes: Vec<&Route> = order.iter().map(|(_, route)| *route).collect();
        if let Some((hidden, earlier)) = unreachable(&routes) {
            let message = match (order[hidden].0, order[earlier].0) {
                (None, place) => format!(
                    "can never match: the route of {} (routes[{}]) takes all its topics first",
                    routes[earlier].topic.as_str(),
                    place.unwrap_or_default()
                ),
                (Some(place), _) => format!(
                    "would take all topics of the route of {} (routes[{place}]), which could never match",
                    routes[hidden].topic.as_str()
                ),
            };
            return Err(Error::config("route.topic", message));
        }
        if let Some((alone, earlier)) = shared_alone(&routes) {
            let (option, other) = match order[alone].0 {
                None => (format!("route.{}", route.alone_option()), earlier),
                Some(_) => ("route.continue".into(), alone),
            };
            let message = format!(
                "shares messages with the route of {}: one of the two must have them for itself",
                routes[other].topic.as_str()
            );
            return Err(Error::config(option, message));
        }
        let joined = JoinedRoutes::of(&routes, config.spool.is_some());
        let at = order.iter().position(|(place, _)| place.is_none()).unwrap_or_default();
        if joined.transforms(at) > 1 {
            let message = "would join routes with transforms, which share messages with it, in a pipeline with a spool: that is \
                           possible from a start on, and not while it runs";
            return Err(Error::config("route.continue", message));
        }
        Ok(())
    }

    /// Looks at the table of the route, and those that it emits into.
    fn prepare_route(&self, operation: &'static str, route: Route) -> Result<PreparedRoute> {
        let (context, config) = (&self.context, &self.context.config);
        let emits = route.transform.iter().flat_map(|transform| &transform.emits).enumerate();
        let emitted = emits.filter(|(_, table)| config.row_route(table).is_none()).map(|(at, table)| {
            config.with_shard_key(Route { path: format!("route.emits[{at}]"), ..Route::of_rows(table) })
        });
        let emitted: Vec<Route> = emitted.collect();
        let routes = [vec![route], emitted].concat();
        let Some(plans) = lock(&self.changer).as_ref().map(|changer| changer.plans.clone()) else {
            return Err(self.wrong_state(operation));
        };
        let plans = run_on(runtime()?, async {
            tokio::select! {
                biased;
                () = context.cancelled() => Err(aborted()),
                prepared = prepare_added(context, &plans, &routes) => prepared,
            }
        })?;
        Ok(PreparedRoute { routes, plans })
    }

    /// Gives the route its place, and starts what it needs.
    fn enter(
        &self,
        changer: &mut RouteChanger,
        prepared: PreparedRoute,
        before: &RouteSet,
        replaced: Option<usize>,
    ) -> Result<(usize, RouteSet)> {
        let (context, config) = (&self.context, &self.context.config);
        let place = config.places();
        let now = Instant::now();
        for (route, plan) in prepared.routes.into_iter().zip(prepared.plans) {
            let live = before.places.iter().filter(|place| Some(**place) != replaced);
            let alike = live.filter(|place| config.route(**place).is_alike(&route)).count();
            // The plan comes first: others look for it when they find the route.
            changer.plans.add(plan, now);
            let at = config.add_route(route, alike);
            context.count_route(at);
            changer.senders.push(changer.sink.clone());
        }
        if config.route(place).transform.is_some() {
            let next = (changer.sink.clone(), &changer.dead_letters);
            let (thread, sender) = start_transform(context, &changer.plans, &self.hosts, place, next, true)?;
            changer.senders[place] = sender;
            if let Some(threads) = &mut *lock(&self.threads) {
                threads.stages.add_transform(thread);
            }
        }
        changer.plans.remember(config);
        let mut places = before.places.clone();
        match replaced.and_then(|replaced| places.iter().position(|place| *place == replaced)) {
            Some(at) => places[at] = place,
            None => places.push(place),
        }
        Ok((place, before.changed(config, places, changer.senders.clone().into())))
    }

    /// Has all connections take messages by this set; when one of them cannot, by the one before again.
    fn publish(&self, changer: &RouteChanger, before: &RouteSet, set: RouteSet) -> Result<()> {
        let filters = set.filters.clone();
        let (places, removed) = (before.places.clone(), before.removed.clone());
        let reverted = RouteSet::new(&self.context.config, places, removed, set.batches.clone());
        changer.live.publish(set);
        let result = self.subscribe(&filters);
        if result.is_err() {
            let filters = reverted.filters.clone();
            changer.live.publish(reverted);
            // The error is that of the change.
            let _ = self.subscribe(&filters);
        }
        result
    }

    fn subscribe(&self, filters: &Filters) -> Result<()> {
        let connections = self.context.config.mqtt.connections;
        let (done, answers) = crossbeam_channel::unbounded();
        for connection in self.links().connections.iter().take(connections) {
            // A connection that has ended answers nothing, and is missed below.
            let _ = connection.send(Command::Routes(Box::new(filters.clone()), done.clone()));
        }
        drop(done);
        let answers: Vec<Result<()>> = answers.iter().collect();
        let is_complete = answers.len() == connections;
        answers.into_iter().collect::<Result<Vec<()>>>()?;
        if is_complete { Ok(()) } else { Err(aborted()) }
    }
}
