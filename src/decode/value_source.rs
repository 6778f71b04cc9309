//! Where the value of a column comes from: decided here for the decoder, for what `check` reports, and for generated types.

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::clickhouse::{ColumnType, Kind};
use crate::config::{ColumnSource, LookupKey, LookupSource, Meta, Route, Unit};
use crate::core::json_path::{Path, Segment};

/// A column that millrace fills, so never one that ClickHouse computes.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum ValueSource {
    /// A place of the payload.
    Payload {
        path: Path,
        /// A column of a Nested: `path` is a member of the objects in the list of this name.
        #[serde(skip_serializing_if = "Option::is_none")]
        list: Option<String>,
        /// `s`, `ms`, `us` or `ns`; `None`: found by the size of the number.
        #[serde(skip_serializing_if = "Option::is_none")]
        unit: Option<&'static str>,
        /// Its value where the message has none; `None` for none, and for null.
        #[serde(skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
    },
    /// The document of the payload, read as JSON.
    Document,
    /// A level of the topic.
    Topic {
        name: String,
        /// The configuration says so; otherwise the column has the name of the level.
        is_named: bool,
    },
    /// Metadata of a message, under the name of the option: `receivedAt`.
    Meta {
        #[serde(serialize_with = "meta_name")]
        name: Meta,
    },
    UserProperty {
        name: String,
    },
    Constant {
        value: Value,
    },
    /// A map of the program's.
    Lookup {
        name: String,
        /// In words: `field device_id`.
        key: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        default: Option<Value>,
    },
    /// The key of a lookup, which no column of the table has.
    Key {
        path: Path,
    },
    /// The transform of the route.
    Computed,
}

impl ValueSource {
    /// `filled` is the type that a message fills.
    pub fn of(route: &Route, column: &str, filled: &ColumnType) -> ValueSource {
        let configured = route.source_of(column);
        match configured {
            None if route.topic.names().any(|name| name == column) => {
                ValueSource::Topic { name: column.into(), is_named: false }
            }
            None => ValueSource::by_group(route, column, filled)
                .unwrap_or_else(|| ValueSource::by_name(column, filled)),
            Some(ColumnSource::Path { path, default, unit, .. }) => ValueSource::Payload {
                path: path.clone(),
                list: None,
                unit: unit_name(*unit),
                default: default.clone().filter(|value| !value.is_null()),
            },
            Some(ColumnSource::Topic(name)) => ValueSource::Topic { name: name.clone(), is_named: true },
            // Such a column reads the payload, rather than keeping its bytes.
            Some(ColumnSource::Meta(Meta::Payload)) if matches!(filled.kind, Kind::Json(_)) => {
                ValueSource::Document
            }
            Some(ColumnSource::Meta(meta)) => ValueSource::Meta { name: *meta },
            Some(ColumnSource::UserProperty(name)) => ValueSource::UserProperty { name: name.clone() },
            Some(ColumnSource::Value(value)) => ValueSource::Constant { value: value.clone() },
            Some(ColumnSource::Lookup(source)) => ValueSource::by_lookup(source),
            Some(ColumnSource::Computed) => ValueSource::Computed,
        }
    }

    /// A column `n.a Array(…)` of a Nested `n` for which the route gives a path: the member `a` of what is there.
    fn by_group(route: &Route, column: &str, filled: &ColumnType) -> Option<ValueSource> {
        let (group, part) = column.split_once('.').filter(|_| matches!(filled.kind, Kind::Array(_)))?;
        let (_, source) = route.columns.iter().find(|(name, _)| name == group)?;
        let ColumnSource::Path { path, unit, .. } = source else { return None };
        let mut path = path.clone();
        path.segments.push(Segment::Field(part.into()));
        Some(ValueSource::Payload { path, list: None, unit: unit_name(*unit), default: None })
    }

    fn by_lookup(source: &LookupSource) -> ValueSource {
        let LookupSource { lookup, field, key, default, .. } = source;
        let key = match key {
            LookupKey::Path(path) => format!("field {path}"),
            LookupKey::Level(name) => format!("topic {{{name}}}"),
            LookupKey::Topic => "the topic".into(),
            LookupKey::ClientId => "the client id".into(),
            LookupKey::UserProperty(name) => format!("user property {name}"),
        };
        let default = default.clone().filter(|value| !value.is_null());
        ValueSource::Lookup { name: lookup.name().into(), key, field: field.clone(), default }
    }

    /// The field that is named like the column. A column `n.a Array(…)` is one of a Nested: a list `n` has it as `a`.
    fn by_name(column: &str, filled: &ColumnType) -> ValueSource {
        match (column.split_once('.'), &filled.kind) {
            (Some((list, part)), Kind::Array(_)) => {
                ValueSource::payload(Path::field(part), Some(list.into()))
            }
            _ => ValueSource::payload(Path::field(column), None),
        }
    }

    fn payload(path: Path, list: Option<String>) -> ValueSource {
        ValueSource::Payload { path, list, unit: None, default: None }
    }
}

fn unit_name(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Auto => None,
        Unit::Seconds => Some("s"),
        Unit::Milliseconds => Some("ms"),
        Unit::Microseconds => Some("us"),
        Unit::Nanoseconds => Some("ns"),
    }
}

fn meta_name<S: Serializer>(meta: &Meta, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match meta {
        Meta::Topic => "topic",
        Meta::ReceivedAt => "receivedAt",
        Meta::Payload => "payload",
        Meta::Qos => "qos",
        Meta::Retain => "retain",
        Meta::ClientId => "clientId",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use serde_json::json;

    fn source(column: &str, column_type: &str, columns: Value) -> Value {
        let config = json!({
            "mqtt": { "url": "mqtt://x" },
            "clickhouse": { "url": "http://x" },
            "routes": [{ "topic": "a/{id}/{unit}", "table": "t", "columns": columns }],
        });
        let config = Config::parse(&config.to_string()).unwrap();
        let filled = ColumnType::parse(column_type, "UTC").unwrap();
        serde_json::to_value(ValueSource::of(&config.routes[0], column, &filled)).unwrap()
    }

    #[test]
    fn the_configuration_takes_precedence_over_names() {
        let path = |root: &str, segments: Value| json!({ "root": root, "segments": segments });
        assert_eq!(
            source("id", "String", json!({})),
            json!({ "kind": "topic", "name": "id", "isNamed": false })
        );
        assert_eq!(
            source("unit", "String", json!({ "unit": { "topic": "id" } })),
            json!({ "kind": "topic", "name": "id", "isNamed": true })
        );
        assert_eq!(
            source("id", "DateTime", json!({ "id": { "path": "$.at[0]", "unit": "ms", "default": 7 } })),
            json!({ "kind": "payload", "path": path("Document", json!(["at", 0])), "unit": "ms", "default": 7 })
        );
        assert_eq!(
            source("lat", "Nullable(Float64)", json!({ "lat": { "path": "lat", "default": null } })),
            json!({ "kind": "payload", "path": path("Either", json!(["lat"])) })
        );
        assert_eq!(
            source("q", "UInt8", json!({ "q": { "meta": "qos" } })),
            json!({ "kind": "meta", "name": "qos" })
        );
        assert_eq!(
            source("v", "UInt8", json!({ "v": { "value": 1 } })),
            json!({ "kind": "constant", "value": 1 })
        );
    }

    #[test]
    fn a_column_of_a_nested_is_a_member_of_a_list() {
        let path = json!({ "root": "Either", "segments": ["a"] });
        assert_eq!(
            source("n.a", "Array(UInt8)", json!({})),
            json!({ "kind": "payload", "path": path, "list": "n" })
        );
        let path = json!({ "root": "Either", "segments": ["n.a"] });
        assert_eq!(source("n.a", "UInt8", json!({})), json!({ "kind": "payload", "path": path }));
    }

    #[test]
    fn the_payload_is_read_only_for_a_json_column() {
        let columns = json!({ "p": { "meta": "payload" } });
        assert_eq!(source("p", "String", columns.clone()), json!({ "kind": "meta", "name": "payload" }));
        assert_eq!(source("p", "JSON", columns), json!({ "kind": "document" }));
    }
}
