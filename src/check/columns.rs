//! A column of a route's table: where its value comes from, and what it gets where a message has nothing for it.

use serde::Serialize;

use crate::check::source::Source;
use crate::clickhouse::Kind;
use crate::clickhouse::schema::ColumnRow;
use crate::config::{Meta, Route};
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
        let is_configured = route.columns.iter().any(|(name, _)| *name == column.name);
        let source = Source::of(route, &column.name, taken);
        let text = match &source {
            Source::Payload { path, .. } if is_configured => format!("field {path}"),
            Source::Payload { .. } => format!("field {}", column.name),
            Source::Topic { name, .. } => format!("topic {{{name}}}"),
            Source::Document => meta_text(Meta::Payload).into(),
            Source::Meta { name } => meta_text(*name).into(),
            Source::UserProperty { name } => format!("user property {name}"),
            Source::Constant { value } => format!("always {value}"),
        };
        let may_be_missing = matches!(source, Source::Payload { .. } | Source::UserProperty { .. });
        let missing = may_be_missing.then(|| match &source {
            _ if required => "a dead letter".into(),
            Source::Payload { default: Some(value), .. } => value.to_string(),
            _ if column.default_kind == "DEFAULT" => format!("DEFAULT {}", column.default_expression),
            _ if taken.nullable || matches!(taken.kind, Kind::Variant(_)) => "NULL".into(),
            _ => "zero".into(),
        });
        ColumnReport::new(column, Some(text), required && may_be_missing, missing)
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

fn meta_text(meta: Meta) -> &'static str {
    match meta {
        Meta::Topic => "the topic",
        Meta::ReceivedAt => "when it was received",
        Meta::Payload => "the payload",
        Meta::Qos => "the QoS",
        Meta::Retain => "the retain flag",
        Meta::ClientId => "the client id",
    }
}
