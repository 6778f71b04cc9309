//! What ClickHouse's answer means for a batch: the one place that reads `Code: N`.
//!
//! What is not known to be the data's own fault is retried: keeping rows that could go is worth more than dropping
//! rows that could not. Codes: ClickHouse, `src/Common/ErrorCodes.cpp`.

use crate::core::error::Error;
use crate::core::tls;

/// Why an attempt failed, and what follows.
#[derive(Debug)]
pub struct Failure {
    pub error: Error,
    pub verdict: Verdict,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was sent: another server may be asked at once.
    NotSent,
    /// May succeed later, or has succeeded unknown to us: the same bytes under the same token, to the same server.
    Retry,
    /// Somebody has to mend something: the same, but not often.
    RetrySlowly,
    /// The rows themselves cannot be inserted; none of them is in the table.
    Refused,
    /// A materialized view cannot take the rows. The table and other views behind it may have stored them.
    RefusedByView,
}

pub fn classify(url: &str, error: clickhouse::error::Error) -> Failure {
    use clickhouse::error::Error as E;
    if let E::BadResponse(text) = &error
        && let Some(code) = exception_code(text)
    {
        let verdict = match code {
            code if DATA.contains(&code) && text.contains(VIEW) => Verdict::RefusedByView,
            code if DATA.contains(&code) => Verdict::Refused,
            code if MISTAKES.contains(&code) => Verdict::RetrySlowly,
            _ => Verdict::Retry,
        };
        return Failure { error: rejected(code, text), verdict };
    }
    let verdict = match &error {
        E::Network(source) if is_connect(source.as_ref()) => Verdict::NotSent,
        _ => Verdict::Retry,
    };
    let message = tls::explain(&error).unwrap_or_else(|| chain(&error));
    Failure { error: Error::ClickHouseUnreachable { url: url.into(), message }, verdict }
}

/// ClickHouse's codes do not tell whether the table or a view behind it is at fault; its text does.
const VIEW: &str = "while pushing to view ";

/// The error of a request that is not an INSERT of rows.
pub fn error(url: &str, error: clickhouse::error::Error) -> Error {
    classify(url, error).error
}

/// The rows are at fault.
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

/// The user lacks a right. Source: ClickHouse, `src/Common/ErrorCodes.cpp`.
pub const ACCESS_DENIED: u32 = 497;

/// Mistakes of an operator that may be mended while we keep the rows.
const MISTAKES: [u32; 18] = [
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
    218, // TABLE_IS_DROPPED
    243, // NOT_ENOUGH_SPACE
    452, // SETTING_CONSTRAINT_VIOLATION
    ACCESS_DENIED,
    516, // AUTHENTICATION_FAILED
];

fn rejected(code: u32, text: &str) -> Error {
    Error::ClickHouseRejected { exception: Some(code), message: text.trim().chars().take(2000).collect() }
}

/// `Code: 60. DB::Exception: …`, as ClickHouse begins every exception.
fn exception_code(text: &str) -> Option<u32> {
    let rest = text.trim_start().strip_prefix("Code: ")?;
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..digits].parse().ok()
}

fn is_connect(source: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    source.downcast_ref::<hyper_util::client::legacy::Error>().is_some_and(|error| error.is_connect())
}

/// An error and what caused it, in one line.
fn chain(error: &dyn std::error::Error) -> String {
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

    fn verdict(text: &str) -> Verdict {
        classify("http://x", clickhouse::error::Error::BadResponse(text.into())).verdict
    }

    #[test]
    fn only_the_datas_own_faults_are_refused() {
        assert_eq!(verdict("Code: 469. DB::Exception: Constraint `c` is violated"), Verdict::Refused);
        assert_eq!(
            verdict("Code: 395. DB::Exception: five: while pushing to view default.v"),
            Verdict::RefusedByView
        );
        assert_eq!(verdict("Code: 53. DB::Exception: Cannot convert: UInt32 to UInt8"), Verdict::RetrySlowly);
        assert_eq!(verdict("Code: 60. DB::Exception: Table default.t does not exist"), Verdict::RetrySlowly);
        assert_eq!(verdict("Code: 252. DB::Exception: Too many parts"), Verdict::Retry);
        assert_eq!(verdict("Code: 424242. DB::Exception: Something new"), Verdict::Retry);
        assert_eq!(verdict("502 Bad Gateway"), Verdict::Retry);
        assert_eq!(verdict("<html>Code: 469.</html>"), Verdict::Retry);
    }

    #[test]
    fn the_tables_are_sorted_and_apart() {
        assert!(DATA.is_sorted() && MISTAKES.is_sorted());
        assert!(DATA.iter().all(|code| !MISTAKES.contains(code)));
    }
}
