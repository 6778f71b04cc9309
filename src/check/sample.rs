//! Decodes messages as they come, as a pipeline would, and inserts none of them.
//!
//! `check` subscribes at QoS 0, as a client of its own outside of the shared group: no other client misses a message for it.
//! Rows that ClickHouse alone can refuse, by a constraint for example, show only in a pipeline.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::check::broker::{ReachableBroker, client_id};
use crate::check::precision::Precision;
use crate::check::stored::{self, StoredRows};
use crate::check::tables::CheckedTables;
use crate::check::times::{TimeExample, TimeExamples};
use crate::check::transforms::{self, SampledRows, TransformReport};
use crate::check::{Level, Report, advice};
use crate::clickhouse::Column;
use crate::config::{CheckOptions, Config, Mqtt, SampleLimits};
use crate::core::memory_budget::MemoryBudget;
use crate::core::reason::{Code, Reason};
use crate::core::topic_filter::{Captures, TopicFilter};
use crate::decode::{self, Decoder};
use crate::ingest::gatherer::{Gatherer, Part};
use crate::ingest::router::route_order::{NO_ROUTE, NO_TEXT, Selection, next_route, select};
use crate::ingest::row_filter::{RowFilter, kept};
use crate::mqtt::probe::Probe;
use crate::mqtt::session::Event;
use crate::mqtt::{Publish, Subscription, wider_filters};
use crate::transform::TransformHosts;

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sample {
    messages: usize,
    rows: usize,
    /// Messages that would be dead letters.
    dead_letters: usize,
    /// Messages that `where`, `dedupe` or `deadband` excludes.
    dropped: usize,
    seconds: f64,
    /// By route.
    routes: Vec<Seen>,
    /// The most frequent first.
    reasons: Vec<ReasonCount>,
}

#[derive(Debug, Default, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    messages: usize,
    rows: usize,
    /// Messages that `where`, `dedupe` or `deadband` excludes.
    dropped: usize,
    /// How many partitions the rows are of, if the table has some.
    #[serde(skip_serializing_if = "Option::is_none")]
    partitions: Option<usize>,
    /// How many of the rows are past a TTL, if the table has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    expired: Option<usize>,
    /// How times were understood.
    times: Vec<TimeExample>,
    /// The first ones, if the report is to have them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    payloads: Vec<KeptPayload>,
    /// The result of the transform, if the route has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    transform: Option<TransformReport>,
}

#[derive(Debug, Clone, Serialize)]
struct KeptPayload {
    topic: String,
    /// As base64.
    payload: String,
}

/// Dead letters of one kind, with the first of them.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ReasonCount {
    count: usize,
    code: &'static str,
    route: Option<usize>,
    message: String,
    topic: String,
    /// As much of it as fits a line.
    payload: String,
    #[serde(skip)]
    about: String,
}

const MAX_REASONS: usize = 100;
const MAX_PAYLOAD: usize = 200;

/// `None` if there is nothing to sample: the missing parts have been reported.
pub async fn take(
    config: &Config,
    options: &CheckOptions,
    limits: &SampleLimits,
    reached: &ReachableBroker,
    CheckedTables { mut decoders, plans, schema }: CheckedTables,
    hosts: &TransformHosts,
    report: &mut Report,
) -> Option<Sample> {
    let watched = config.routes.iter().zip(&decoders);
    let precision =
        watched.map(|(route, decoder)| Precision::of(&route.path, route, decoder.as_ref()?)).collect();
    let times = config.routes.iter().zip(&decoders).enumerate();
    let times = times
        .map(|(i, (route, decoder))| TimeExamples::of(&format!("routes[{i}]"), route, decoder.as_ref()?))
        .collect();
    let filters = config.routes.iter().zip(&decoders);
    let filters =
        filters.map(|(route, decoder)| RowFilter::of(route, decoder.as_ref()?).ok().flatten()).collect();
    let gatherers = config.routes.iter().zip(&mut decoders);
    let gatherers =
        gatherers.map(|(route, decoder)| Some((Gatherer::of(route, decoder.as_mut()?)?, HashSet::new())));
    let gatherers = gatherers.collect();
    let mut sampler = Sampler {
        gatherers,
        filters,
        memory: Arc::default(),
        times,
        config,
        subscriptions: &reached.subscriptions,
        precision,
        sampled: config.routes.iter().map(|_| SampledRows::default()).collect(),
        decoders,
        captures: Captures::default(),
        payloads: limits.payloads,
        wider: wider_filters(config),
        sample: Sample { routes: vec![Seen::default(); config.routes.len()], ..Sample::default() },
    };
    if reached.subscriptions.is_empty() {
        return None;
    }
    let mqtt = Mqtt { qos: 0, version: Some(reached.version), ..config.mqtt.clone() };
    let filters: Vec<_> =
        reached.subscriptions.iter().map(|subscription| subscription.filter.clone()).collect();
    let began = Instant::now();
    let listened = async {
        let mut probe = Probe::begin(&reached.url, &mqtt, client_id(options), filters).await?;
        let listened = probe.listen(began + limits.within, |event| {
            sampler.on_event(event);
            match sampler.sample.messages >= limits.messages {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        let listened = listened.await;
        probe.end().await;
        listened
    };
    if let Err(error) = listened.await {
        report.fail(&error, "mqtt", advice::for_error(&error));
    }
    let Sampler { mut sample, mut decoders, sampled, precision, .. } = sampler;
    sample.seconds = began.elapsed().as_secs_f64();
    for (at, precision) in precision.into_iter().enumerate() {
        if let Some(precision) = precision {
            precision.report(&config.route(at).path, report);
        }
    }
    for (at, sampled) in sampled.into_iter().enumerate() {
        let seen = &mut sample.routes[at];
        if let (Some(schema), Some(plan), Some(decoder)) = (&schema, &plans[at], &decoders[at]) {
            let asked = stored::ask(schema, config, at, (plan, decoder, &sampled.columns), report);
            let stored = tokio::time::timeout(config.clickhouse.request_timeout, asked).await;
            let StoredRows { partitions, expired } = stored.unwrap_or_default();
            (seen.partitions, seen.expired) = (partitions, expired);
        }
        seen.transform = transforms::run(config, at, sampled, &plans, hosts, report);
    }
    sample.reasons.sort_by_key(|dead_letters| std::cmp::Reverse(dead_letters.count));
    report_sample(&sample, config, report);
    for (i, decoder) in decoders.iter_mut().enumerate() {
        for (column, path) in decoder.iter_mut().flat_map(Decoder::take_scalar_paths) {
            report.add_finding(
                Level::Warning,
                "PATH_THROUGH_SCALAR",
                format!("routes[{i}].columns.{column}"),
                format!("the path {path} leads through a text, a number or a boolean; the column counts as missing"),
                "compare the path with a message; a text that is JSON is read with parse: 'json'",
            );
        }
        for column in decoder.iter_mut().flat_map(Decoder::take_truncated_times) {
            report.add_finding(
                Level::Warning,
                "TIME_PRECISION_CUT",
                format!("routes[{i}].columns.{column}"),
                format!("times for the column {column} have more digits than it keeps; they are cut towards the past"),
                "give the column more digits, such as DateTime64(6)",
            );
        }
    }
    Some(sample)
}

/// The keys of the rows that a route gathers.
type GatheredKeys = (Box<Gatherer>, HashSet<Vec<u8>>);

struct Sampler<'a> {
    config: &'a Config,
    subscriptions: &'a [Subscription],
    decoders: Vec<Option<Decoder>>,
    /// By route.
    sampled: Vec<SampledRows>,
    /// By route.
    precision: Vec<Option<Precision>>,
    /// By route.
    times: Vec<Option<TimeExamples>>,
    /// By route.
    filters: Vec<Option<Box<RowFilter>>>,
    /// By route, with the keys of its rows.
    gatherers: Vec<Option<GatheredKeys>>,
    memory: Arc<MemoryBudget>,
    captures: Captures,
    /// How many payloads are kept for each route.
    payloads: usize,
    /// Filters of routes that take a part of what they bring.
    wider: Vec<TopicFilter>,
    sample: Sample,
}

impl Sampler<'_> {
    fn on_event(&mut self, event: Event<'_>) {
        match event {
            Event::Message { publish, client_id, .. } => self.message(&publish, client_id),
            Event::TooLarge { topic, packet_bytes, .. } => {
                let limit = self.config.mqtt.max_packet_bytes;
                let message = format!("a packet of {packet_bytes} bytes is over maxPacketBytes, {limit}");
                self.sample.messages += 1;
                self.refuse(None, topic, &[], &Reason::new(Code::PacketTooLarge, message));
            }
            _ => {}
        }
    }

    /// Takes a message as `Router::accept` does, but for acknowledgements, batches and dead letters.
    fn message(&mut self, publish: &Publish<'_>, client_id: &str) {
        let config = self.config;
        let skip_retained = config.mqtt.skip_retained;
        let (first, topic) =
            match select(&config.routes, self.subscriptions, skip_retained, publish, &mut self.captures) {
                Selection::Route(at, topic) => (at, topic),
                Selection::Skipped => return,
                // The broker sends it for filters of others.
                Selection::Unrouted(_) if publish.retain => return,
                Selection::Unrouted(topic) if self.is_unasked(topic) => return,
                Selection::Unrouted(_) => {
                    self.sample.messages += 1;
                    let reason = Reason::new(Code::NoRoute, NO_ROUTE);
                    return self.refuse(None, publish.topic, publish.payload, &reason);
                }
                Selection::NoText => {
                    self.sample.messages += 1;
                    let reason = Reason::new(Code::TopicInvalid, NO_TEXT);
                    return self.refuse(None, publish.topic, publish.payload, &reason);
                }
            };
        self.sample.messages += 1;
        let mut next = Some(first);
        let mut is_dropped = true;
        while let Some(at) = next {
            is_dropped &= self.is_dropped_by(at, topic, publish, client_id);
            next = next_route(&config.routes, at, topic, &mut self.captures);
        }
        self.sample.dropped += usize::from(is_dropped);
    }

    /// Whether a route's subscription brings more topics than the route takes.
    fn is_unasked(&mut self, topic: &str) -> bool {
        let Sampler { wider, captures, .. } = self;
        wider.iter().any(|filter| filter.matches(topic, captures))
    }

    /// Decodes a message for one route, and says whether the route drops it.
    fn is_dropped_by(&mut self, at: usize, topic: &str, publish: &Publish<'_>, client_id: &str) -> bool {
        self.sample.routes[at].messages += 1;
        if self.sample.routes[at].payloads.len() < self.payloads {
            let payload = STANDARD.encode(publish.payload);
            self.sample.routes[at].payloads.push(KeptPayload { topic: topic.into(), payload });
        }
        // A route whose table cannot be filled has been reported.
        let Some(decoder) = &mut self.decoders[at] else { return false };
        let message = decode::Message {
            topic,
            captures: &self.captures,
            payload: publish.payload,
            qos: publish.qos,
            retain: publish.retain,
            received_at: SystemTime::now(),
            client_id,
            properties: publish.properties,
        };
        if let Some((gatherer, keys)) = &mut self.gatherers[at] {
            match gatherer.decode(decoder, &message) {
                // A row for each key, as if all came within its window.
                Ok(Part::Taken) => {
                    let rows = usize::from(keys.insert(gatherer.key().into()));
                    self.sample.rows += rows;
                    self.sample.routes[at].rows += rows;
                }
                Ok(Part::Nothing | Part::Excluded) => {
                    self.sample.routes[at].dropped += 1;
                    return true;
                }
                Err(reason) => self.refuse(Some(at), publish.topic, publish.payload, &reason),
            }
            return false;
        }
        let sampled = &mut self.sampled[at];
        let mut columns = match sampled.columns.is_empty() {
            false => std::mem::take(&mut sampled.columns),
            true => decoder.columns(),
        };
        let first = columns.first().map_or(0, Column::rows);
        let mut appended = decoder.append(&message, &mut columns);
        let mut is_repeated = false;
        if let (Ok(rows @ 1..), Some(filter)) = (&mut appended, &mut self.filters[at]) {
            let all = columns.first().map_or(0, Column::rows);
            *rows = filter.apply(decoder, &mut columns, *rows, Instant::now(), &self.memory);
            is_repeated = *rows == 0;
            if !is_repeated {
                let kept = kept(filter.dropped(), all);
                columns.iter_mut().for_each(|column| column.keep_rows(&kept));
            }
        }
        if is_repeated {
            sampled.columns = columns;
            self.sample.routes[at].dropped += 1;
            return true;
        }
        if let (Ok(_), Some(times)) = (&appended, &mut self.times[at]) {
            self.sample.routes[at].times.extend(times.of_message(&message, &columns, first));
        }
        if let (Ok(_), Some(precision)) = (&appended, &mut self.precision[at]) {
            precision.note(&message);
        }
        sampled.columns = columns;
        if let Ok(rows) = &appended {
            sampled.push(publish, *rows);
        }
        match appended {
            Ok(0) if decoder.has_excluded() => {
                self.sample.routes[at].dropped += 1;
                return true;
            }
            Ok(rows) => {
                self.sample.rows += rows;
                self.sample.routes[at].rows += rows;
            }
            Err(reason) => self.refuse(Some(at), publish.topic, publish.payload, &reason),
        }
        false
    }

    fn refuse(&mut self, route: Option<usize>, topic: &[u8], payload: &[u8], reason: &Reason) {
        self.sample.dead_letters += 1;
        let (code, about) = (reason.code.as_str(), about(reason));
        let reasons = &mut self.sample.reasons;
        let is_it =
            |known: &&mut ReasonCount| known.code == code && known.route == route && known.about == about;
        if let Some(known) = reasons.iter_mut().find(is_it) {
            known.count += 1;
        } else if reasons.len() < MAX_REASONS {
            reasons.push(ReasonCount {
                count: 1,
                code,
                route,
                message: reason.message.to_string(),
                topic: String::from_utf8_lossy(topic).into_owned(),
                payload: String::from_utf8_lossy(payload).chars().take(MAX_PAYLOAD).collect(),
                about,
            });
        }
    }
}

/// The common part of dead letters of one kind: the column, or the field, but not the value.
fn about(reason: &Reason) -> String {
    match reason.message.split_once(": ") {
        Some((column, _)) if column.starts_with("column ") => column.into(),
        _ if reason.code == Code::UnknownField => reason.message.to_string(),
        _ => String::new(),
    }
}

fn report_sample(sample: &Sample, config: &Config, report: &mut Report) {
    for dead_letters in &sample.reasons {
        let path = dead_letters.route.map_or_else(|| "routes".into(), |route| format!("routes[{route}]"));
        report.add_finding(
            Level::Warning,
            "SAMPLE_DEAD_LETTERS",
            path,
            format!(
                "{} of {} messages would be dead letters: {}: {}",
                dead_letters.count, sample.messages, dead_letters.code, dead_letters.message
            ),
            advice::for_dead_letter(dead_letters.code),
        );
    }
    if sample.messages == 0 {
        return report.add_finding(
            Level::Warning,
            "SAMPLE_EMPTY",
            "routes",
            format!("nothing came in {:.0} s", sample.seconds),
            "does anybody publish to these topics now? Some brokers (mosquitto) grant a subscription and then deliver nothing \
             to a user who may not read the topic",
        );
    }
    for (i, route) in config.routes.iter().enumerate() {
        let Seen { messages, dropped, .. } = sample.routes[i];
        if messages > 0 && dropped == messages {
            report.add_finding(
                Level::Warning,
                "SAMPLE_DROPPED",
                format!("routes[{i}].where"),
                format!("all {messages} messages of the sample would be dropped"),
                "compare the condition with a message: a number is never equal to a text, and a missing field only to none",
            );
        }
        if messages == 0 {
            let message = format!("no message of the sample came for {}", route.topic.as_str());
            report.add_finding(Level::Note, "ROUTE_NOT_SEEN", format!("routes[{i}].topic"), message, "");
        }
    }
}
