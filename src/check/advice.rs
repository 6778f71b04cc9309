//! Advice on how to fix an error.

use crate::clickhouse::error_class::NO_LOGIN;
use crate::core::error::Error;

/// ClickHouse's codes: src/Common/ErrorCodes.cpp.
pub const UNKNOWN_SETTING: u32 = 115;
pub const READONLY: u32 = 164;

pub fn for_error(error: &Error) -> &'static str {
    match error {
        Error::ClickHouseUnreachable { .. } => {
            "is ClickHouse running, and is this its HTTP interface? Its port is 8123 for http:// and 8443 for https://, \
             not 9000"
        }
        Error::ClickHouseRejected { exception: Some(code), .. } if NO_LOGIN.contains(code) => {
            "set clickhouse.username and clickhouse.password to those of a user of this server"
        }
        Error::ClickHouseRejected { exception: Some(READONLY), .. } => {
            "give the user a profile that is not readonly"
        }
        Error::ClickHouseRejected { exception: Some(UNKNOWN_SETTING), .. } => {
            "correct its name in clickhouse.settings, or leave it out"
        }
        Error::MqttUnreachable { .. } => {
            "is the broker running, and does the URL have its host and port? Ports are mostly 1883 for mqtt://, 8883 for \
             mqtts://, and for ws:// whatever the broker says, with the path /mqtt"
        }
        Error::MqttRefused { .. } => {
            "set mqtt.username and mqtt.password to those of a user of this broker; some also ask for a certain client id, \
             which a check takes as its clientId"
        }
        Error::CredentialsFailed { .. } => {
            "let the file be readable and hold the text alone, or the function give a string within 10 s"
        }
        Error::SubscriptionRefused { .. } => {
            "let the broker's access rules allow this user to subscribe to the filter, or correct the topic of the route"
        }
        Error::ColumnNotFound { .. } => {
            "correct the name of the column, add it to the table, or leave it out of the route; a MATERIALIZED or ALIAS \
             column is ClickHouse's to compute"
        }
        Error::TableDiscards { .. } => {
            "create the materialized view that is to have the rows, or set allowNullTable of the route"
        }
        Error::ShardsDiffer { .. } => {
            "create or alter the table on each shard, so that all have the same columns"
        }
        Error::ShardsChanged { .. } => "run the old configuration until nothing waits in the spool",
        Error::ColumnUnsupported { path, .. } if path.starts_with("clickhouse.shards") => {
            "name other columns in clickhouse.shards, or give the table a key of its own in clickhouse.shards.tables"
        }
        Error::ColumnUnsupported { path, .. }
            if [".pivot", ".dedupe", ".deadband"].iter().any(|option| path.contains(option)) =>
        {
            "name another column"
        }
        Error::ColumnUnsupported { .. } => "give the column a DEFAULT, and it is left to ClickHouse",
        _ => "",
    }
}

/// Advice about a message that would be a dead letter.
pub fn for_dead_letter(code: &str) -> &'static str {
    match code {
        "FIELD_MISSING" => {
            "name its place in the payload in the route's columns, or give the column a DEFAULT, make it Nullable, or set \
             missingFields to 'zero'"
        }
        "TYPE_MISMATCH" | "OUT_OF_RANGE" => {
            "give the column a type that holds such values, or name another place in the payload in the route's columns"
        }
        "UNKNOWN_FIELD" => "set unknownFields to 'ignore', or add a column for the field",
        "JSON_INVALID" | "NOT_AN_OBJECT" => {
            "narrow the topic of the route to messages that are JSON objects, or mend the publisher; { meta: 'payload' } \
             puts a payload of any kind into a String column"
        }
        "PACKET_TOO_LARGE" => "raise mqtt.maxPacketBytes",
        _ => "",
    }
}
