//! Checks the brokers: whether they accept the connection, which subscriptions they grant, and which limits they announce.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::Serialize;

use crate::check::advice;
use crate::check::tables::option;
use crate::check::tls_probe::{self, TlsInfo};
use crate::check::{Level, Report, RouteReport};
use crate::config::{AckAfter, BrokerUrl, CheckOptions, Config, Mqtt, ProtocolVersion};
use crate::core::error::{Error, Result};
use crate::mqtt::broker_kind::BrokerKind;
use crate::mqtt::connection::MIN_SILENCE;
use crate::mqtt::identify::{Identity, identify, random_client_id};
use crate::mqtt::probe::Probe;
use crate::mqtt::session::Event;
use crate::mqtt::transport::CONNECT_TIMEOUT;
use crate::mqtt::{ConnAck, Filters, Subscription, offers, subscriptions};

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Broker {
    url: String,
    reachable: bool,
    /// Its software, where that is recognised.
    name: Option<&'static str>,
    /// The version that it publishes below `$SYS`, if it does.
    version: Option<String>,
    /// 4 is MQTT 3.1.1.
    protocol_version: u8,
    /// The limits in CONNACK; MQTT 3.1.1 has none.
    limits: Option<Limits>,
    tls: Option<TlsInfo>,
    /// The filters that it granted.
    granted: Vec<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Limits {
    max_qos: u8,
    /// How many messages we may have in flight to it. No packet states how many it has in flight to us.
    receive_maximum: u16,
    /// `None`: no limit.
    max_packet_bytes: Option<usize>,
    session_expiry_seconds: u32,
    keep_alive_seconds: u64,
    topic_alias_maximum: u16,
    retained: bool,
    wildcard_subscriptions: bool,
    shared_subscriptions: bool,
    subscription_ids: bool,
}

/// A broker that accepts the connection, and the subscriptions that it grants.
pub struct ReachableBroker {
    pub url: BrokerUrl,
    pub version: ProtocolVersion,
    pub subscriptions: Vec<Subscription>,
}

/// Checks each broker and returns the first that accepts the connection.
pub async fn check_brokers(
    config: &Config,
    options: &CheckOptions,
    report: &mut Report,
) -> Option<ReachableBroker> {
    if config.mqtt.is_encrypted()
        && let Err(error) = config.mqtt.tls.client()
    {
        report.fail(&error, "mqtt.tls", "");
        return None;
    }
    let mut first = None;
    let mut errors = Vec::new();
    let mut kind = None;
    for (i, url) in config.mqtt.urls.iter().enumerate() {
        let mut broker = Broker {
            url: url.to_string(),
            reachable: false,
            name: None,
            version: None,
            protocol_version: config.mqtt.version.unwrap_or(ProtocolVersion::V5).number(),
            limits: None,
            tls: None,
            granted: Vec::new(),
        };
        if url.transport.is_encrypted() {
            broker.tls = tls_probe::probe(&url.host, url.port, &config.mqtt.tls, CONNECT_TIMEOUT).await;
        }
        let client_id = client_id(options);
        let mut prober = BrokerProber { config: config.clone(), url, client_id, refused_v5_silently: None };
        match prober.find_version().await {
            Ok((ack, version)) => {
                broker.reachable = true;
                broker.protocol_version = version.number();
                if config.mqtt.version.is_none() && version == ProtocolVersion::V4 {
                    report.add_finding(
                        Level::Note,
                        "MQTT_FALLBACK",
                        "mqtt.protocolVersion",
                        format!("{url} does not speak MQTT 5: a pipeline speaks MQTT 3.1.1 with it"),
                        "set mqtt.protocolVersion to 4 to have it so from the start",
                    );
                }
                if version == ProtocolVersion::V5 {
                    broker.limits = Some(limits(&config.mqtt, &ack));
                }
                let identity = prober.identify().await;
                compare_limits(&prober.config, &ack, identity.kind, report);
                let granted = prober.subscribe(report).await;
                prober.try_covers(&ack, report).await;
                prober.report_dots(report);
                broker.name = identity.kind.map(BrokerKind::name);
                broker.version = identity.version;
                kind = kind.or(identity.kind);
                broker.granted = granted.iter().map(|subscription| subscription.filter.clone()).collect();
                first = first
                    .or_else(|| Some(ReachableBroker { url: url.clone(), version, subscriptions: granted }));
            }
            Err(error) => errors.push((i, error)),
        }
        report.brokers.push(broker);
    }
    let level = if first.is_some() { Level::Warning } else { Level::Error };
    for (i, error) in errors {
        let path = match error {
            Error::MqttRefused { .. } => "mqtt".into(),
            _ => option("mqtt.url", i, config.mqtt.urls.len()),
        };
        let path = error.path().unwrap_or(&path);
        report.add_finding(level, error.code(), path, error.to_string(), advice::for_error(&error));
    }
    if first.is_some() {
        report_window(config, kind, report);
    }
    first
}

/// A client id of its own, so that a running pipeline keeps its session.
pub fn client_id(options: &CheckOptions) -> String {
    options.client_id.clone().unwrap_or_else(random_client_id)
}

/// The subscriptions without the shared group, so that the check receives copies and takes no message from a pipeline.
fn plain_subscriptions(config: &Config) -> Vec<Subscription> {
    let mqtt = Mqtt { shared_group: None, ..config.mqtt.clone() };
    subscriptions(&Config { mqtt, ..config.clone() })
}

struct BrokerProber<'a> {
    config: Config,
    url: &'a BrokerUrl,
    client_id: String,
    /// Whether it closes MQTT 5 connections without an answer, if it was asked: RabbitMQ 3.10 does so, and no other broker that
    /// was tried.
    refused_v5_silently: Option<bool>,
}

impl BrokerProber<'_> {
    async fn begin(&self, mqtt: &Mqtt, filters: impl Into<Filters>) -> Result<Probe> {
        Probe::begin(self.url, mqtt, self.client_id.clone(), filters).await
    }

    /// Connects and returns the CONNACK, and the version that the broker speaks; what follows uses that version.
    async fn find_version(&mut self) -> Result<(ConnAck, ProtocolVersion)> {
        if let Some(version) = self.config.mqtt.version {
            return Ok((self.connect().await?, version));
        }
        self.config.mqtt.version = Some(ProtocolVersion::V5);
        let refusal = match self.connect().await {
            Ok(ack) => return Ok((ack, ProtocolVersion::V5)),
            Err(error) => error,
        };
        self.config.mqtt.version = Some(ProtocolVersion::V4);
        let ack = self.connect().await?;
        // An answer in another version and silence are refusals.
        self.refused_v5_silently = Some(matches!(refusal, Error::MqttUnreachable { .. }));
        Ok((ack, ProtocolVersion::V4))
    }

    fn report_dots(&self, report: &mut Report) {
        if self.refused_v5_silently != Some(true) || self.config.mqtt.dots_become_slashes {
            return;
        }
        for (i, route) in self.config.routes.iter().enumerate() {
            if let Some(rewritten) = route.topic.with_slashes_for_dots() {
                let (filter, rewritten) = (route.topic.as_str(), rewritten.as_str());
                report.add_finding(
                    Level::Warning,
                    "TOPIC_REWRITTEN",
                    format!("routes[{i}].topic"),
                    format!(
                        "the broker closes connections of MQTT 5 without an answer, as RabbitMQ does, and RabbitMQ turns \
                         dots into slashes: what matches {filter} comes as {rewritten}, which the route does not take"
                    ),
                    "set mqtt.topicRewrite to 'rabbitmq' if it is a RabbitMQ",
                );
            }
        }
    }

    /// Connects and returns the CONNACK.
    async fn connect(&self) -> Result<ConnAck> {
        let filters = Filters::of(&self.config, &plain_subscriptions(&self.config));
        let mqtt = &self.config.mqtt;
        let mut probe = Probe::begin_persistent(self.url, mqtt, self.client_id.clone(), filters).await?;
        let until = Instant::now() + CONNECT_TIMEOUT;
        // The first event is CONNACK.
        let heard = probe.listen(until, |_| ControlFlow::Break(())).await;
        let ack = probe.broker().cloned();
        probe.end().await;
        match (ack, heard) {
            // `subscribe` reports the errors that follow it, such as a filter that the broker cannot grant.
            (Some(ack), _) => Ok(ack),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::MqttUnreachable {
                url: self.url.to_string(),
                message: "no answer within 5 s".into(),
            }),
        }
    }

    /// Subscribes as a pipeline would, without the shared group, and returns the granted subscriptions.
    async fn subscribe(&self, report: &mut Report) -> Vec<Subscription> {
        // Retained messages are not needed.
        let mqtt = Mqtt { skip_retained: true, ..self.config.mqtt.clone() };
        let mut wanted = plain_subscriptions(&self.config);
        while !wanted.is_empty() {
            let filters = Filters::of(&self.config, &wanted);
            let mut lowered = Vec::new();
            let asked = async {
                let mut probe = self.begin(&mqtt, filters).await?;
                let heard = probe.listen(Instant::now() + CONNECT_TIMEOUT * 2, |event| match event {
                    Event::Subscribed { downgraded: those } => {
                        lowered = those;
                        ControlFlow::Break(())
                    }
                    _ => ControlFlow::Continue(()),
                });
                let heard = heard.await;
                probe.end().await;
                heard
            };
            match asked.await {
                Ok(_) => {
                    self.report_lowered(&lowered, report);
                    return wanted;
                }
                // Mostly one of several filters: subscribes again to the others.
                Err(Error::SubscriptionRefused { filter, reason }) => {
                    let route = self
                        .config
                        .routes
                        .iter()
                        .position(|route| route.topic.subscribed().as_str() == filter);
                    let path = route.map_or_else(|| "routes".into(), |i| format!("routes[{i}].topic"));
                    wanted.retain(|subscription| subscription.filter != filter);
                    let error = Error::SubscriptionRefused { filter, reason };
                    report.fail(&error, &path, advice::for_error(&error));
                }
                Err(error) => {
                    report.fail(&error, "mqtt", advice::for_error(&error));
                    return Vec::new();
                }
            }
        }
        wanted
    }

    /// Tries the filters that cover several routes, where the broker has no subscription identifiers.
    async fn try_covers(&self, ack: &ConnAck, report: &mut Report) {
        let mqtt = Mqtt { shared_group: None, skip_retained: true, ..self.config.mqtt.clone() };
        let covers = offers(&Config { mqtt: mqtt.clone(), ..self.config.clone() });
        let covers: Vec<_> = covers.into_iter().filter(|offer| !offer.parts.is_empty()).collect();
        if ack.has_subscription_ids || covers.is_empty() {
            return;
        }
        let names: Vec<_> = covers.into_iter().map(|offer| offer.filter).collect();
        let listed = names.join(", ");
        let granted = async {
            let mut probe = self.begin(&mqtt, names).await?;
            let is_granted = |event: Event<'_>| match event {
                Event::Subscribed { .. } => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            };
            let granted = probe.listen(Instant::now() + CONNECT_TIMEOUT * 2, is_granted).await;
            probe.end().await;
            granted
        };
        match granted.await {
            Ok(_) => report.add_finding(
                Level::Note,
                "FILTERS_COVERED",
                "routes",
                format!(
                    "topics of the routes overlap in part, and the broker has no subscription identifiers: a pipeline \
                     subscribes to {listed}, and skips what no route takes"
                ),
                "",
            ),
            Err(error) => report.add_finding(
                Level::Warning,
                "FILTERS_OVERLAP",
                "routes",
                format!(
                    "topics of the routes overlap in part, and the broker refuses the subscription that covers them, \
                     {listed} ({error}): it may deliver a message once for each route, which doubles its rows"
                ),
                "allow that subscription at the broker, or use protocolVersion 5, where the copies are recognised",
            ),
        }
    }

    fn report_lowered(&self, lowered: &[String], report: &mut Report) {
        if lowered.is_empty() {
            return;
        }
        report.add_finding(
            Level::Warning,
            "QOS_LOWERED",
            "mqtt.qos",
            format!("less QoS was granted than the routes ask for: {}", lowered.join(", ")),
            "let the broker allow that QoS (max_qos in mosquitto), or set mqtt.qos or qos of the routes to what it grants; at QoS 0 messages are \
             lost whenever a connection breaks",
        );
    }

    /// Finds out which software it is.
    async fn identify(&self) -> Identity {
        identify(self.url, &self.config.mqtt, self.client_id.clone(), self.refused_v5_silently).await
    }
}

/// For how many seconds the broker would keep the pipeline's session.
fn session_expiry(mqtt: &Mqtt, ack: &ConnAck) -> u32 {
    let wished = if mqtt.is_persistent() { mqtt.session_expiry_seconds } else { 0 };
    ack.session_expiry_seconds.map_or(wished, |seconds| seconds.min(wished))
}

fn limits(mqtt: &Mqtt, ack: &ConnAck) -> Limits {
    Limits {
        max_qos: ack.max_qos,
        receive_maximum: ack.receive_maximum,
        max_packet_bytes: Some(ack.max_packet_bytes).filter(|bytes| *bytes < usize::MAX),
        session_expiry_seconds: session_expiry(mqtt, ack),
        keep_alive_seconds: ack.keep_alive_seconds.map_or(mqtt.keep_alive.as_secs(), u64::from),
        topic_alias_maximum: ack.topic_alias_maximum,
        retained: ack.has_retained,
        wildcard_subscriptions: ack.has_wildcards,
        shared_subscriptions: ack.has_shared,
        subscription_ids: ack.has_subscription_ids,
    }
}

/// Reports options that the limits of the broker do not allow.
fn compare_limits(config: &Config, ack: &ConnAck, kind: Option<BrokerKind>, report: &mut Report) {
    let mqtt = &config.mqtt;
    let is_v5 = mqtt.version == Some(ProtocolVersion::V5);
    if mqtt.shared_group.is_some() && !ack.has_shared {
        report.add_finding(
            Level::Error,
            "SUBSCRIPTION_REFUSED",
            "mqtt.sharedGroup",
            "the broker has no shared subscriptions",
            "leave sharedGroup out, with connections at 1, or allow them at the broker",
        );
    } else if mqtt.shared_group.is_some() {
        report.add_finding(
            Level::Note,
            "SHARED_GROUP_NOT_TRIED",
            "mqtt.sharedGroup",
            "the filters were tried outside of the shared group: a member of it would have taken messages from the others",
            "",
        );
        if !is_v5 {
            report_shared_group(kind, report);
        }
    }
    let seconds = session_expiry(mqtt, ack);
    if mqtt.is_persistent() && seconds < mqtt.session_expiry_seconds {
        report.add_finding(
            Level::Warning,
            "SESSION_SHORTENED",
            "mqtt.sessionExpirySeconds",
            format!("the broker keeps the session for {seconds} s only while we are away"),
            "raise the broker's limit, or be back sooner than that: what it collected is lost afterwards",
        );
    }
    let wished = mqtt.keep_alive.as_secs();
    if let Some(seconds) = ack.keep_alive_seconds.map(u64::from).filter(|seconds| *seconds != wished) {
        report.add_finding(
            Level::Note,
            "KEEP_ALIVE_CHANGED",
            "mqtt.keepAliveSeconds",
            format!("the broker wants a keep-alive of {seconds} s instead of {wished} s, and gets it"),
            "",
        );
    }
}

/// MQTT 3.1.1 does not say whether a broker has shared subscriptions; its software may.
fn report_shared_group(kind: Option<BrokerKind>, report: &mut Report) {
    match kind {
        Some(kind) if kind.has_shared() => {}
        Some(kind) => report.add_finding(
            Level::Error,
            "SUBSCRIPTION_REFUSED",
            "mqtt.sharedGroup",
            format!(
                "{} has no shared subscriptions with MQTT 3.1.1: it takes $share/… for an ordinary filter, and delivers nothing",
                kind.name()
            ),
            "leave sharedGroup out, with connections at 1",
        ),
        None => report.add_finding(
            Level::Warning,
            "SHARED_GROUP_SILENT",
            "mqtt.sharedGroup",
            "MQTT 3.1.1 has no shared subscriptions, and a broker without them takes $share/… for an ordinary filter and \
             delivers nothing",
            "see that your broker has them with MQTT 3.1.1, or leave sharedGroup out, with connections at 1",
        ),
    }
}

/// In flight to one client by default: 20 in mosquitto and VerneMQ, 32 in EMQX; a wider one to compare with.
const WINDOWS: [u32; 3] = [20, 32, 100];
/// How long arrivals must have stopped before a batch is sealed for a broker that waits, in ms.
const MIN_SILENCE_MS: f64 = MIN_SILENCE.as_millis() as f64;

/// Reports that no packet states the broker's window, and which rate each size of it allows.
fn report_window(config: &Config, kind: Option<BrokerKind>, report: &mut Report) {
    // aedes and amqtt have no limit.
    if kind.is_some_and(|kind| kind.window_setting().is_none()) {
        return;
    }
    if config.highest_qos() == 0 || config.mqtt.ack_after != AckAfter::Insert {
        return;
    }
    let slowest = report.routes.iter().filter_map(RouteReport::insert_ms).reduce(f64::max);
    let rates = slowest.map(|insert_ms| {
        let rate = |window: &u32| f64::from(*window) * 1000.0 / (MIN_SILENCE_MS + insert_ms);
        let rates: Vec<_> =
            WINDOWS.iter().map(|window| format!("{window} allow {:.0}", rate(window))).collect();
        format!("; of messages a second, at most: {}", rates.join(", "))
    });
    let settings = match kind.and_then(|kind| Some((kind, kind.window_setting()?))) {
        Some((kind, (setting, default))) => format!("{setting} in {} ({default} by default)", kind.name()),
        None => "max_inflight_messages in mosquitto (20 by default, 0 lifts it), mqtt.max_inflight in EMQX (32), mqtt.prefetch in \
                 RabbitMQ (10), max_ack_pending in NATS (1024)"
            .into(),
    };
    report.add_finding(
        Level::Note,
        "WINDOW_UNKNOWN",
        "mqtt.qos",
        format!(
            "no broker tells how many unacknowledged messages it keeps in flight to a client, and no batch can have more{}",
            rates.unwrap_or_default()
        ),
        format!("set it to {} or more, twice batch.maxRows: {settings}", config.batch.rows * 2),
    );
}
