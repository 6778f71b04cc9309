//! A column of a route's table: where its value comes from, and what it gets where a message has nothing for it.

use serde::Serialize;

use crate::clickhouse::schema::ColumnRow;
use crate::config::{Meta, Route};
use crate::decode::{Decoder, ValueSource};

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
    /// Its value where the message has none.
    missing: Option<String>,
}

impl ColumnReport {
    pub fn of(column: ColumnRow, route: &Route, decoder: Option<&Decoder>) -> ColumnReport {
        let Some(binding) = decoder.and_then(|decoder| decoder.binding(&column.name)) else {
            return ColumnReport::new(column, None, false, None);
        };
        let is_configured = route.columns.iter().any(|(name, _)| *name == column.name);
        let source = binding.source();
        let text = match source {
            ValueSource::Payload { path, .. } if is_configured => format!("field {path}"),
            ValueSource::Payload { .. } => format!("field {}", column.name),
            ValueSource::Topic { name, .. } => format!("topic {{{name}}}"),
            ValueSource::Document => meta_text(Meta::Payload).into(),
            ValueSource::Meta { name } => meta_text(*name).into(),
            ValueSource::UserProperty { name } => format!("user property {name}"),
            ValueSource::Constant { value } => format!("always {value}"),
            ValueSource::Lookup { name, key, field: Some(field), .. } => {
                format!("{field} of the lookup {name}, by {key}")
            }
            ValueSource::Lookup { name, key, field: None, .. } => format!("the lookup {name}, by {key}"),
            ValueSource::Key { path } => format!("field {path}"),
            ValueSource::Computed => "the transform".into(),
        };
        let may_be_missing = matches!(
            source,
            ValueSource::Payload { .. } | ValueSource::UserProperty { .. } | ValueSource::Lookup { .. }
        );
        let (taken, required) = (binding.column_type(), binding.is_required());
        let missing = may_be_missing.then(|| match source {
            _ if required => "a dead letter".into(),
            ValueSource::Payload { default: Some(value), .. }
            | ValueSource::Lookup { default: Some(value), .. } => value.to_string(),
            _ if column.default_kind == "DEFAULT" => format!("DEFAULT {}", column.default_expression),
            _ if taken.aggregate.is_some() => "the state of no value".into(),
            _ if taken.nullable || taken.kind.holds_null() => "NULL".into(),
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
