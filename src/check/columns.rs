//! A column of a route's table: where its value comes from, and what it gets where a message has nothing for it.

use serde::Serialize;

use crate::clickhouse::Kind;
use crate::clickhouse::schema::ColumnRow;
use crate::config::{ColumnSource, Meta, Route};
use crate::decode::Decoder;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ColumnReport {
    name: String,
    #[serde(rename = "type")]
    column_type: String,
    /// `DEFAULT`, `MATERIALIZED`, `ALIAS`, `EPHEMERAL`, or nothing.
    default_kind: String,
    default_expression: String,
    /// Where its value comes from; `None` if it is ClickHouse's to compute.
    source: Option<String>,
    /// Whether a message must have it.
    required: bool,
    /// What it gets where the message has nothing for it.
    missing: Option<String>,
}

impl ColumnReport {
    pub fn of(column: ColumnRow, route: &Route, decoder: Option<&Decoder>) -> ColumnReport {
        let wanted = decoder.and_then(|decoder| decoder.wants().find(|(name, ..)| *name == column.name));
        let Some((_, taken, required)) = wanted else {
            return ColumnReport::new(column, None, false, None);
        };
        let given = route.columns.iter().find(|(name, _)| *name == column.name).map(|(_, source)| source);
        let is_captured = route.topic.names().any(|name| name == column.name);
        let source = match given {
            None if is_captured => format!("topic {{{}}}", column.name),
            None => format!("field {}", column.name),
            Some(ColumnSource::Path { path, .. }) => format!("field {path}"),
            Some(ColumnSource::Topic(name)) => format!("topic {{{name}}}"),
            Some(ColumnSource::Meta(meta)) => meta_name(*meta).into(),
            Some(ColumnSource::UserProperty(name)) => format!("user property {name}"),
            Some(ColumnSource::Value(value)) => format!("always {value}"),
        };
        let may_be_missing = match given {
            None => !is_captured,
            Some(source) => matches!(source, ColumnSource::Path { .. } | ColumnSource::UserProperty(_)),
        };
        let missing = may_be_missing.then(|| match given {
            _ if required => "a dead letter".into(),
            Some(ColumnSource::Path { default: Some(value), .. }) if !value.is_null() => value.to_string(),
            _ if column.default_kind == "DEFAULT" => format!("DEFAULT {}", column.default_expression),
            _ if taken.nullable || matches!(taken.kind, Kind::Variant(_)) => "NULL".into(),
            _ => "zero".into(),
        });
        ColumnReport::new(column, Some(source), required && may_be_missing, missing)
    }

    fn new(
        column: ColumnRow,
        source: Option<String>,
        required: bool,
        missing: Option<String>,
    ) -> ColumnReport {
        let ColumnRow { name, column_type, default_kind, default_expression, .. } = column;
        ColumnReport { name, column_type, default_kind, default_expression, source, required, missing }
    }
}

fn meta_name(meta: Meta) -> &'static str {
    match meta {
        Meta::Topic => "the topic",
        Meta::ReceivedAt => "when it was received",
        Meta::Payload => "the payload",
        Meta::Qos => "the QoS",
        Meta::Retain => "the retain flag",
        Meta::ClientId => "the client id",
    }
}
