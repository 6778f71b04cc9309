//! The `mqtt` section: where messages come from.

use std::time::Duration;

use crate::config::backoff;
use crate::config::broker_url::BrokerUrl;
use crate::config::ceiling::Ceiling;
use crate::config::credential::credential;
use crate::config::object_reader::ObjectReader;
use crate::config::tls;
use crate::core::backoff::Limits as Backoff;
use crate::core::credential::Credential;
use crate::core::error::{Error, Result};
use crate::core::secret::Secret;
use crate::core::tls::Tls;
use crate::core::topic_filter::TopicFilter;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtocolVersion {
    V4,
    V5,
}

impl ProtocolVersion {
    /// As the option names it.
    pub fn number(self) -> u8 {
        match self {
            ProtocolVersion::V4 => 4,
            ProtocolVersion::V5 => 5,
        }
    }

    /// As people name it.
    pub fn name(self) -> &'static str {
        match self {
            ProtocolVersion::V4 => "MQTT 3.1.1",
            ProtocolVersion::V5 => "MQTT 5",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckAfter {
    Receive,
    Spool,
    Insert,
}

#[derive(Debug, Clone)]
pub struct Mqtt {
    pub urls: Vec<BrokerUrl>,
    /// `None`: a random one, and the session ends with the connection.
    pub client_id: Option<String>,
    pub username: Option<Credential>,
    pub password: Option<Credential>,
    /// `None`: MQTT 5, and 3.1.1 where the broker has no 5.
    pub version: Option<ProtocolVersion>,
    pub qos: u8,
    pub shared_group: Option<String>,
    pub connections: usize,
    pub session_expiry_seconds: u32,
    pub keep_alive: Duration,
    pub receive_maximum: u16,
    pub topic_alias_maximum: u16,
    pub max_packet_bytes: usize,
    /// The longest rest between two reads; zero: none. `None`: it follows from other options.
    pub coalesce: Option<Duration>,
    pub ack_after: AckAfter,
    pub skip_retained: bool,
    /// Topics come with slashes in place of dots, as RabbitMQ delivers them.
    pub dots_become_slashes: bool,
    /// Filters that a session from before may have and that are unsubscribed from.
    pub unsubscribe: Vec<String>,
    /// The most filters of a SUBSCRIBE or an UNSUBSCRIBE.
    pub filters_per_subscribe: usize,
    pub reconnect: Backoff,
    pub tls: Tls,
}

/// The user and the password of a CONNECT.
#[derive(Debug, Clone)]
pub struct Login {
    pub username: String,
    pub password: Secret,
}

impl Mqtt {
    /// Asks for the user and the password of the next CONNECT.
    pub async fn login(&self) -> Result<Option<Login>> {
        let Some(username) = &self.username else { return Ok(None) };
        let username = username.ask().await?.expose().to_owned();
        let password = match &self.password {
            Some(password) => password.ask().await?,
            None => Secret::default(),
        };
        Ok(Some(Login { username, password }))
    }

    /// The same where both are texts.
    pub fn fixed_login(&self) -> Option<Login> {
        let username = self.username.as_ref()?.as_text()?.expose().to_owned();
        let password = match &self.password {
            Some(password) => password.as_text()?.clone(),
            None => Secret::default(),
        };
        Some(Login { username, password })
    }

    /// Whether the broker keeps the subscriptions and undelivered messages when the connection ends.
    pub fn is_persistent(&self) -> bool {
        self.client_id.is_some() && self.session_expiry_seconds > 0
    }

    /// The client id of a connection, counted from 0. `None`: a random name.
    pub fn client_id_of(&self, connection: usize) -> Option<String> {
        let client_id = self.client_id.as_ref()?;
        Some(match self.connections {
            1 => client_id.clone(),
            _ => format!("{client_id}-{}", connection + 1),
        })
    }

    pub fn is_encrypted(&self) -> bool {
        self.urls.iter().any(|url| url.transport.is_encrypted())
    }
}

pub fn mqtt(o: ObjectReader<'_>, has_spool: bool, memory: Ceiling) -> Result<Mqtt> {
    let urls = urls(&o)?;
    let client_id = o.text("clientId")?;
    let (username, password) = credentials(&o)?;
    let version = version(&o)?;
    let qos = o.integer_or_default("qos")? as u8;
    let (shared_group, connections) = sharing(&o)?;
    let session_expiry_seconds = session_expiry(&o, client_id.is_some())?;
    let is_encrypted = urls.iter().any(|url| url.transport.is_encrypted());
    let mqtt = Mqtt {
        urls,
        client_id,
        username,
        password,
        version,
        qos,
        shared_group,
        connections,
        session_expiry_seconds,
        keep_alive: o.duration_or_default("keepAliveSeconds")?,
        receive_maximum: o.integer_or_default("receiveMaximum")? as u16,
        topic_alias_maximum: o.integer_or_default("topicAliasMaximum")? as u16,
        max_packet_bytes: memory.within_share_always(&o, "maxPacketBytes")? as usize,
        coalesce: o.integer_unless_word("coalesceMs")?.map(Duration::from_millis),
        ack_after: ack_after(&o, has_spool)?,
        skip_retained: o.word_or_default("retained")? == "skip",
        dots_become_slashes: o.word_or_default("topicRewrite")? == "rabbitmq",
        unsubscribe: unsubscribe(&o)?,
        filters_per_subscribe: o.integer("filtersPerSubscribe")?.map_or(usize::MAX, |most| most as usize),
        reconnect: backoff::backoff(o.section("reconnect")?)?,
        tls: tls::broker_tls(o.section("tls")?, "mqtt.tls", is_encrypted)?,
    };
    o.finish()?;
    Ok(mqtt)
}

fn urls(o: &ObjectReader<'_>) -> Result<Vec<BrokerUrl>> {
    o.texts("url")?.iter().map(|(path, url)| BrokerUrl::parse(path, url)).collect()
}

fn credentials(o: &ObjectReader<'_>) -> Result<(Option<Credential>, Option<Credential>)> {
    let username = credential(o, "username", "mqtt.username")?;
    let password = credential(o, "password", "mqtt.password")?;
    if password.is_some() && username.is_none() {
        return Err(o.wrong("password", "needs a username"));
    }
    Ok((username, password))
}

fn version(o: &ObjectReader<'_>) -> Result<Option<ProtocolVersion>> {
    Ok(match o.integer_unless_word("protocolVersion")? {
        None => None,
        Some(4) => Some(ProtocolVersion::V4),
        Some(_) => Some(ProtocolVersion::V5),
    })
}

/// The shared group, and how many connections are in it.
fn sharing(o: &ObjectReader<'_>) -> Result<(Option<String>, usize)> {
    let group = o.text("sharedGroup")?;
    if group.as_ref().is_some_and(|g| g.is_empty() || g.len() > 1024 || g.contains(['/', '+', '#'])) {
        return Err(o.wrong("sharedGroup", "must be a name of at most 1024 bytes without '/', '+' and '#'"));
    }
    let connections = o.integer_or_default("connections")? as usize;
    if connections > 1 && group.is_none() {
        return Err(
            o.wrong("connections", "more than 1 needs a sharedGroup: else each would get every message")
        );
    }
    Ok((group, connections))
}

fn unsubscribe(o: &ObjectReader<'_>) -> Result<Vec<String>> {
    let check = |(path, filter): (String, String)| {
        let plain = match filter.strip_prefix("$share/") {
            Some(rest) => rest.split_once('/').map_or("", |(_, plain)| plain),
            None => &filter,
        };
        match TopicFilter::parse(plain) {
            Ok(topic) if topic.names().next().is_none() => Ok(filter),
            Ok(_) => Err(Error::config(path, "must be a filter of MQTT, with + and # in place of names")),
            Err(message) => Err(Error::config(path, message)),
        }
    };
    o.texts("unsubscribe")?.into_iter().map(check).collect()
}

fn session_expiry(o: &ObjectReader<'_>, has_client_id: bool) -> Result<u32> {
    let seconds = o.integer("sessionExpirySeconds")?;
    if !has_client_id && seconds.is_some_and(|seconds| seconds > 0) {
        return Err(o.wrong(
            "sessionExpirySeconds",
            "needs a clientId: a session without a name cannot be found again",
        ));
    }
    Ok(seconds.unwrap_or(if has_client_id { 86400 } else { 0 }) as u32)
}

fn ack_after(o: &ObjectReader<'_>, has_spool: bool) -> Result<AckAfter> {
    match o.word("ackAfter")? {
        Some("receive") => Ok(AckAfter::Receive),
        Some("spool") if !has_spool => Err(o.wrong("ackAfter", "'spool' needs a spool")),
        Some("insert") => Ok(AckAfter::Insert),
        _ if has_spool => Ok(AckAfter::Spool),
        _ => Ok(AckAfter::Insert),
    }
}
