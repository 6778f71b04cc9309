//! The meaning of ClickHouse's answer for a batch. No other file reads `Code: N`.
//!
//! An error is retried unless the data is known to cause it: to keep good rows is worth more than to
//! reject bad ones. Codes: ClickHouse, `src/Common/ErrorCodes.cpp`.

use std::error::Error as StdError;

use http::StatusCode;

use crate::clickhouse::insert_answer::RequestError;
use crate::core::error::Error;
use crate::core::tls;

/// Why an attempt failed, and what follows.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub class: ErrorClass,
}

impl Failure {
    /// Whether the rows may be in all the same: something was sent, and ClickHouse did not say no.
    pub fn may_be_in(&self) -> bool {
        match (self.class, &self.error) {
            (ErrorClass::RefusedByView | ErrorClass::ViewLimit, _) => true,
            (ErrorClass::Retry, Error::ClickHouseRejected { exception, .. }) => {
                exception.is_some_and(|code| UNKNOWN_OUTCOME.contains(&code))
            }
            (
                ErrorClass::Retry
                | ErrorClass::TimedOut
                | ErrorClass::Unconfirmed
                | ErrorClass::KeptConnectionEnded,
                _,
            ) => true,
            _ => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing was sent: another server may be asked at once.
    NotSent,
    /// May succeed later, or has succeeded unknown to us: the same bytes under the same token, to the same server.
    Retry,
    /// No answer came in time. As [`ErrorClass::Retry`].
    TimedOut,
    /// A connection that was kept open ended before a byte of an answer came, as balancers and servers end idle ones. As
    /// [`ErrorClass::Retry`], but at once, over a new connection, and without a warning.
    KeptConnectionEnded,
    /// Something answered that does not confirm the rows. As [`ErrorClass::Retry`].
    Unconfirmed,
    /// It is too large, and may be inserted in parts. None of its rows is in the table.
    TooLarge,
    /// May succeed later; if it keeps failing, it may be inserted in parts. None of its rows is in the
    /// table.
    MaybeTooLarge,
    /// An operator has to fix something: the same attempt again, but rarely.
    RetrySlowly,
    /// The table of a view exceeded a limit. The table itself may have the rows, so they stay under their token: the same
    /// attempt again, but rarely.
    ViewLimit,
    /// The rows may be at fault; none of them is in the table.
    Refused,
    /// A materialized view cannot take the rows. The table and other views behind it may have stored them.
    RefusedByView,
}

/// The class of an exception.
fn class_of(code: u32, text: &str) -> ErrorClass {
    match code {
        code if DATA.contains(&code) && text.contains(VIEW) => ErrorClass::RefusedByView,
        code if DATA.contains(&code) => ErrorClass::Refused,
        code if text.contains(VIEW)
            && (SIZE_LIMITS.contains(&code) || (code == TOO_MANY_PARTS && text.contains(PARTITIONS))) =>
        {
            ErrorClass::ViewLimit
        }
        TOO_MANY_PARTS if text.contains(PARTITIONS) => ErrorClass::TooLarge,
        code if OPERATOR_ERRORS.contains(&code) => ErrorClass::RetrySlowly,
        code if SIZE_LIMITS.contains(&code) => ErrorClass::MaybeTooLarge,
        _ => ErrorClass::Retry,
    }
}

/// The error of a query that got no answer.
pub(super) fn unanswered_query(url: &str, error: RequestError) -> Error {
    let is_incomplete = match &error {
        RequestError::Http { error, .. } => {
            hyper_error(error).is_some_and(hyper::Error::is_incomplete_message)
        }
        RequestError::Body(error) => error.is_incomplete_message(),
        RequestError::TimedOut | RequestError::Credentials(_) => false,
    };
    match error.failure(url).error {
        // A TLS server closes the connection, or answers with an alert, when a client does not speak TLS.
        Error::ClickHouseUnreachable { url, message } if is_incomplete => {
            let message = format!("{message}{}", encryption_hint(&url));
            Error::ClickHouseUnreachable { url, message }
        }
        error => error,
    }
}

/// The beginning of a body that is not ClickHouse's, to follow "it answered 502 Bad Gateway".
pub(super) fn quoted(text: &str) -> String {
    if text.is_empty() {
        return String::new();
    }
    let one_line: String =
        text.chars().take(MAX_QUOTED).map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!(": {one_line}")
}

/// The error of a request without an answer of HTTP.
pub(super) fn unanswered(url: &str, error: &(dyn StdError + 'static)) -> Error {
    let message = tls::explain(error).unwrap_or_else(|| chain(error));
    let url = url.to_owned();
    match hyper_error(error) {
        Some(fault) if fault.is_parse() => {
            let message = format!("it does not answer in HTTP: {message}{}", encryption_hint(&url));
            Error::ClickHouseAnswer { url, message }
        }
        _ => Error::ClickHouseUnreachable { url, message },
    }
}

fn encryption_hint(url: &str) -> &'static str {
    match url.starts_with("http://") {
        true => " (a server that is encrypted here wants https://)",
        false => "",
    }
}

/// The error of HTTP within an error.
pub(super) fn hyper_error<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a hyper::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// ClickHouse's codes do not distinguish the table from a view behind it; its text does.
const VIEW: &str = "while pushing to view ";

/// The rows may be at fault.
const DATA: [u32; 22] = [
    6,   // CANNOT_PARSE_TEXT
    26,  // CANNOT_PARSE_QUOTED_STRING
    27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
    33,  // CANNOT_READ_ALL_DATA
    38,  // CANNOT_PARSE_DATE
    41,  // CANNOT_PARSE_DATETIME
    69,  // ARGUMENT_OUT_OF_BOUND
    70,  // CANNOT_CONVERT_TYPE
    72,  // CANNOT_PARSE_NUMBER
    117, // INCORRECT_DATA
    131, // TOO_LARGE_STRING_SIZE
    153, // ILLEGAL_DIVISION
    190, // SIZES_OF_ARRAYS_DONT_MATCH
    321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    376, // CANNOT_PARSE_UUID
    395, // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
    407, // DECIMAL_OVERFLOW
    469, // VIOLATED_CONSTRAINT
    675, // CANNOT_PARSE_IPV4
    676, // CANNOT_PARSE_IPV6
    691, // UNKNOWN_ELEMENT_OF_ENUM
];

const TOO_MANY_PARTS: u32 = 252;
/// The text of code 252 where the INSERT itself has too many. Waiting does not change that.
const PARTITIONS: &str = "Too many partitions for single INSERT block";

/// The limit that stands in the text of such an exception, as in `… block (more than 100). …`. `None`: another text.
pub fn partition_limit(text: &str) -> Option<usize> {
    let (_, rest) = text.split_once(PARTITIONS)?;
    let digits = rest.trim_start().strip_prefix("(more than ")?.split_once(')')?.0;
    digits.parse().ok().filter(|limit| *limit > 0)
}

/// `max_execution_time` is over: nothing is in where no row was written.
pub const TIMEOUT_EXCEEDED: u32 = 159;

/// ClickHouse says that it does not know either, or that something on its own way did not answer.
const UNKNOWN_OUTCOME: [u32; 8] = [
    TIMEOUT_EXCEEDED,
    209, // SOCKET_TIMEOUT
    210, // NETWORK_ERROR
    225, // NO_ZOOKEEPER
    279, // ALL_CONNECTION_TRIES_FAILED
    285, // TOO_FEW_LIVE_REPLICAS
    319, // UNKNOWN_STATUS_OF_INSERT
    999, // KEEPER_EXCEPTION
];

/// Limits that an INSERT exceeds at times, or always.
const SIZE_LIMITS: [u32; 6] = [
    158, // TOO_MANY_ROWS
    TIMEOUT_EXCEEDED,
    173, // CANNOT_ALLOCATE_MEMORY
    241, // MEMORY_LIMIT_EXCEEDED
    307, // TOO_MANY_BYTES
    396, // TOO_MANY_ROWS_OR_BYTES
];

/// Characters of an exception that are kept.
const MAX_MESSAGE: usize = 2000;
/// Characters of a foreign answer that are quoted.
const MAX_QUOTED: usize = 200;

/// The user lacks a right. Source: ClickHouse, `src/Common/ErrorCodes.cpp`.
pub const ACCESS_DENIED: u32 = 497;

/// The user or the password is not taken: UNKNOWN_USER, WRONG_PASSWORD, REQUIRED_PASSWORD, AUTHENTICATION_FAILED.
pub const NO_LOGIN: [u32; 4] = [192, 193, 194, 516];

/// Whether an answer refuses the user or the password; a proxy may do so by the status alone.
pub(super) fn refuses_login(exception: Option<u32>, status: StatusCode) -> bool {
    match exception {
        Some(code) => NO_LOGIN.contains(&code),
        None => matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN),
    }
}

/// Mistakes of an operator, who may fix them while the rows wait.
const OPERATOR_ERRORS: [u32; 20] = [
    8,   // THERE_IS_NO_COLUMN
    10,  // NOT_FOUND_COLUMN_IN_BLOCK
    16,  // NO_SUCH_COLUMN_IN_TABLE
    44,  // ILLEGAL_COLUMN
    53,  // TYPE_MISMATCH: a column was of another type when the block was made
    60,  // UNKNOWN_TABLE
    81,  // UNKNOWN_DATABASE
    115, // UNKNOWN_SETTING
    164, // READONLY
    192, // UNKNOWN_USER
    193, // WRONG_PASSWORD
    194, // REQUIRED_PASSWORD
    195, // IP_ADDRESS_NOT_ALLOWED
    201, // QUOTA_EXCEEDED
    218, // TABLE_IS_DROPPED
    242, // TABLE_IS_READ_ONLY
    243, // NOT_ENOUGH_SPACE
    452, // SETTING_CONSTRAINT_VIOLATION
    ACCESS_DENIED,
    516, // AUTHENTICATION_FAILED
];

/// The failure that an exception means. Without a text, its code and the status are all that is known.
pub(super) fn rejected(code: u32, text: &str, status: StatusCode) -> Failure {
    let message = match text.trim() {
        "" => format!("Code: {code}"),
        text => text.chars().take(MAX_MESSAGE).collect(),
    };
    let (name, status) = (exception_name(text), status.as_u16());
    let error = Error::ClickHouseRejected { exception: Some(code), name, status, message };
    Failure { error, class: class_of(code, text) }
}

/// `TOO_MANY_PARTS` of `… Too many parts (3000). (TOO_MANY_PARTS) (version 26.7)`: only the version may stand behind it.
fn exception_name(text: &str) -> Option<String> {
    let mut rest = text;
    loop {
        let (before, last) = rest.rsplit_once('(')?;
        let inner = last.split_once(')').map_or("", |(inner, _)| inner);
        if inner.starts_with(|c: char| c.is_ascii_uppercase())
            && inner.len() > 1
            && inner.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
        {
            return Some(inner.to_owned());
        }
        rest = before;
    }
}

/// `Code: 60. DB::Exception: …`, as ClickHouse begins every exception.
pub(super) fn exception_code(text: &str) -> Option<u32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

/// An error and what caused it, in one line.
pub(super) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_has_a_name() {
        let name = |text: &str| exception_name(text);
        let parts = "Code: 252. DB::Exception: Too many parts (3000). (TOO_MANY_PARTS) (version 26.7.3.1 (official build))";
        assert_eq!(name(parts).as_deref(), Some("TOO_MANY_PARTS"));
        assert_eq!(
            name("Code: 60. DB::Exception: no table t (UNKNOWN_TABLE)").as_deref(),
            Some("UNKNOWN_TABLE")
        );
        assert_eq!(name("Code: 1. DB::Exception: (a) (A"), None);
        assert_eq!(name("Code: 1. DB::Exception: nothing"), None);
        assert_eq!(name(")("), None);
    }

    fn class_of(text: &str) -> ErrorClass {
        super::class_of(exception_code(text).unwrap(), text)
    }

    #[test]
    fn an_exception_has_a_class() {
        use ErrorClass::*;
        for (text, class) in [
            ("Code: 469. DB::Exception: Constraint `c` is violated", Refused),
            ("Code: 395. DB::Exception: five: while pushing to view default.v", RefusedByView),
            ("Code: 53. DB::Exception: Cannot convert: UInt32 to UInt8", RetrySlowly),
            ("Code: 60. DB::Exception: Table default.t does not exist", RetrySlowly),
            ("Code: 252. DB::Exception: Too many parts", Retry),
            (
                "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100)",
                TooLarge,
            ),
            (
                "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100): while pushing to view d.v",
                ViewLimit,
            ),
            ("Code: 241. DB::Exception: Memory limit: while pushing to view d.v", ViewLimit),
            ("Code: 241. DB::Exception: Memory limit (total) exceeded", MaybeTooLarge),
            ("Code: 424242. DB::Exception: Something new", Retry),
        ] {
            assert_eq!(class_of(text), class, "{text}");
        }
        assert_eq!(exception_code("502 Bad Gateway"), None);
        assert_eq!(exception_code("<html>Code: 469.</html>"), None);
    }

    #[test]
    fn the_limit_of_partitions_is_read() {
        let text = "Code: 252. DB::Exception: Too many partitions for single INSERT block (more than 100). The limit is";
        assert_eq!(partition_limit(text), Some(100));
        for other in ["Too many parts (3000)", "Too many partitions for single INSERT block", "(more than 3)"]
        {
            assert_eq!(partition_limit(other), None);
        }
        assert_eq!(partition_limit("Too many partitions for single INSERT block (more than 0)"), None);
    }

    #[test]
    fn the_tables_are_sorted_and_apart() {
        assert!(DATA.is_sorted() && OPERATOR_ERRORS.is_sorted() && SIZE_LIMITS.is_sorted());
        assert!(DATA.iter().all(|code| !OPERATOR_ERRORS.contains(code)));
    }
}
