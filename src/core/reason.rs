//! Why a message cannot become rows: a stable code and a text.

use std::sync::Arc;

/// The stable codes of dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Code {
    JsonInvalid,
    NotAnObject,
    FieldMissing,
    TypeMismatch,
    OutOfRange,
    UnknownField,
    NoRoute,
    RejectedByClickHouse,
    PacketTooLarge,
    /// The payload of a format other than JSON is invalid.
    PayloadInvalid,
    /// It unpacks to more than it may.
    PayloadTooLarge,
    /// A number in place of a name that no BIRTH of Sparkplug has said.
    AliasUnknown,
    /// MQTT does not allow the message.
    TopicInvalid,
    /// A transform does not want it, and says why.
    RejectedByTransform,
    /// A transform threw, or wrote what cannot be inserted.
    TransformFailed,
    /// Its INSERT failed for longer than `clickhouse.retry.maxAgeMs`.
    RetryExpired,
    /// The table that its topic names may not be filled.
    TableNotAllowed,
    /// Its table would be one more than there may be.
    TablesTooMany,
    /// The table that its topic names is not there, or cannot be filled.
    TableUnusable,
}

impl Code {
    pub const ALL: [Code; 19] = [
        Code::JsonInvalid,
        Code::NotAnObject,
        Code::FieldMissing,
        Code::TypeMismatch,
        Code::OutOfRange,
        Code::UnknownField,
        Code::NoRoute,
        Code::RejectedByClickHouse,
        Code::PacketTooLarge,
        Code::PayloadInvalid,
        Code::PayloadTooLarge,
        Code::AliasUnknown,
        Code::TopicInvalid,
        Code::RejectedByTransform,
        Code::TransformFailed,
        Code::RetryExpired,
        Code::TableNotAllowed,
        Code::TablesTooMany,
        Code::TableUnusable,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Code::JsonInvalid => "JSON_INVALID",
            Code::NotAnObject => "NOT_AN_OBJECT",
            Code::FieldMissing => "FIELD_MISSING",
            Code::TypeMismatch => "TYPE_MISMATCH",
            Code::OutOfRange => "OUT_OF_RANGE",
            Code::UnknownField => "UNKNOWN_FIELD",
            Code::NoRoute => "NO_ROUTE",
            Code::RejectedByClickHouse => "REJECTED_BY_CLICKHOUSE",
            Code::PacketTooLarge => "PACKET_TOO_LARGE",
            Code::PayloadInvalid => "PAYLOAD_INVALID",
            Code::PayloadTooLarge => "PAYLOAD_TOO_LARGE",
            Code::AliasUnknown => "ALIAS_UNKNOWN",
            Code::TopicInvalid => "TOPIC_INVALID",
            Code::RejectedByTransform => "REJECTED_BY_TRANSFORM",
            Code::TransformFailed => "TRANSFORM_FAILED",
            Code::RetryExpired => "RETRY_EXPIRED",
            Code::TableNotAllowed => "TABLE_NOT_ALLOWED",
            Code::TablesTooMany => "TABLES_TOO_MANY",
            Code::TableUnusable => "TABLE_UNUSABLE",
        }
    }
}

/// Why a message cannot become a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    pub code: Code,
    /// Shared by all messages of a batch that ClickHouse refused.
    pub message: Arc<str>,
    /// The column it is about, or the field that no column takes.
    pub column: Option<Arc<str>>,
}

impl Reason {
    #[cold]
    pub fn new(code: Code, message: impl Into<Arc<str>>) -> Reason {
        Reason { code, message: message.into(), column: None }
    }

    /// Whether the payload itself is broken, whatever the columns are.
    pub fn is_broken_payload(&self) -> bool {
        matches!(self.code, Code::JsonInvalid | Code::PayloadInvalid | Code::PayloadTooLarge)
    }

    /// Names the column it is about.
    #[cold]
    pub fn about(self, column: &str) -> Reason {
        Reason {
            message: format!("column {column}: {}", self.message).into(),
            column: Some(column.into()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_codes_are_in_their_places() {
        for (place, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, place);
        }
    }
}
