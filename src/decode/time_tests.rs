//! Texts and numbers that are times, and such that are none.

use super::*;

fn utc(text: &str) -> Option<(i64, u32)> {
    from_text(text, &Zone::Utc).map(|(at, _)| (at.seconds, at.nanos))
}

#[test]
fn texts_are_read() {
    assert_eq!(utc("2024-10-27T03:33:20Z"), Some((1_730_000_000, 0)));
    assert_eq!(utc("2024-10-27 03:33:20"), Some((1_730_000_000, 0)));
    assert_eq!(utc("2024-10-27T05:33:20.123456789999+02:00"), Some((1_730_000_000, 123_456_789)));
    assert_eq!(utc("2024-10-26T22:33:20-0500"), Some((1_730_000_000, 0)));
    assert_eq!(utc("2024-10-27T03:33Z"), Some((1_729_999_980, 0)));
    assert_eq!(utc("1969-12-31T23:59:59.5Z"), Some((-1, 500_000_000)));
    assert_eq!(utc("2016-12-31T23:59:60Z"), Some((1_483_228_800, 0)));
    assert_eq!(utc("1970-01-01"), Some((0, 0)));
}

#[test]
fn texts_are_read_as_clickhouse_reads_them() {
    let noon = Some((1_796_040_000, 0));
    for text in [
        "2026-11-30 13:00:00 +0100",
        "2026-11-30 12:00:00 UTC",
        "2026-11-30 12:00:00 Z",
        "2026-11-30T13:00:00+1",
        "20261130T120000Z",
        "20261130 120000",
        "20261130120000",
        "2026-11-30T120000",
        "Mon, 30 Nov 2026 12:00:00 GMT",
        "Mon, 30 Nov 2026 13:00:00 +0100",
        "30 Nov 2026 12:00:00",
        "30 November 2026 12:00:00 UTC",
        "2026/11/30 12:00:00",
        "2026/11/30 12:0:0",
    ] {
        assert_eq!(utc(text), noon, "{text}");
    }
    assert_eq!(utc("2026-11-30T24:00:00"), utc("2026-12-01"));
    assert_eq!(utc("2026-1-5T2:3:4Z"), utc("2026-01-05T02:03:04Z"));
    assert_eq!(utc("20261130"), utc("2026-11-30"));
    assert_eq!(utc("9999-12-31").map(|(seconds, _)| seconds), Some(YEAR_10000 - 86400));
    for text in [
        "2026-11-30T24:00:01",
        "2026-11-30T24:30",
        "2026-11/30",
        "20261131",
        "2026113012000",
        "202611301200",
        "20261130T1200Z",
        "Mon, 30 Nov 2026 12:00:00 EST",
        "30 Nov 2026",
        "Nov 30 2026 12:00:00",
        "2026-11-30 12:00 PM",
        "2026-11-30 12:00:00 ",
        "2026-11-30  12:00:00  Z  ",
        "99999999",
    ] {
        assert_eq!(utc(text), None, "{text}");
    }
}

#[test]
fn the_common_form_is_read_as_all_others_are() {
    for (date, expected_date) in
        [("2026/11/30", "2026-11-30"), ("2024-2-29", "2024-02-29"), ("2025-2-29", "2025-02-29")]
    {
        for (time, expected_time) in [
            ("1:2:3", "01:02:03"),
            ("235960", "23:59:60"),
            ("24:0:00", "24:00:00"),
            ("24:0:1", "24:00:01"),
            ("1:60:0", "01:60:00"),
        ] {
            for rest in ["", ".5", ",123456789Z", ".0000000001", "Z", "+01:30", " UTC", ".", "x", " GMT+1"] {
                let usual = format!("{expected_date}T{expected_time}{rest}");
                assert_eq!(utc(&usual), utc(&format!("{date} {time}{rest}")), "{usual}");
            }
        }
    }
    // A character that is not a digit, at each position.
    let usual = "2026-11-30T12:00:00";
    assert!(utc(usual).is_some());
    for at in 0..usual.len() {
        for wrong in ["/", ":", "a", "٣"] {
            let text = format!("{}{wrong}{}", &usual[..at], &usual[at + 1..]);
            assert_eq!(utc(&text).is_some(), text == usual, "{text}");
        }
    }
}

#[test]
fn floats_are_rounded_to_what_a_column_keeps() {
    for (float, scale, expected) in [
        (1_730_000_000.123, 3, (1_730_000_000, 123_000_000)),
        (1_730_000_000.122_999_7, 3, (1_730_000_000, 123_000_000)),
        (1_730_000_000.999_9, 0, (1_730_000_001, 0)),
        (1_730_000_000_123.0, 3, (1_730_000_000, 123_000_000)),
        (1_730_000_000.123, 9, (1_730_000_000, 123_000_000)),
        (-0.25, 3, (-1, 750_000_000)),
    ] {
        let at = from_float(float, Unit::Auto, scale).unwrap();
        assert_eq!((at.seconds, at.nanos), expected, "{float}");
    }
    // All milliseconds of a second.
    for milli in 0..1000u32 {
        let at = from_float(1_730_000_000.0 + f64::from(milli) / 1000.0, Unit::Seconds, 3).unwrap();
        assert_eq!(at.nanos, milli * 1_000_000);
    }
    assert_eq!(from_float(f64::NAN, Unit::Auto, 3), None);
}

#[test]
fn an_instant_is_shown_as_rfc_3339_has_it() {
    let at = Instant { seconds: 1_730_000_000, nanos: 123_000_000 };
    assert_eq!(at.to_rfc3339(), "2024-10-27T03:33:20.123Z");
}

#[test]
fn a_text_that_is_not_a_time_is_refused() {
    for text in [
        "",
        "2024",
        "2024-W43",
        "2024-W43-7",
        "2024-300",
        "2024-13-01",
        "2024-02-30",
        "2024-10-27T",
        "2024-10-27T25:00",
        "2024-10-27T03:33:20.Z",
        "2024-10-27T03:33:20Zulu",
        "27.10.2024",
        "2024-10-27T03:61",
    ] {
        assert_eq!(utc(text), None, "{text}");
    }
}

#[test]
fn texts_without_an_offset_are_local() {
    let zone = Zone::Named(jiff::tz::TimeZone::get("America/New_York").unwrap());
    assert_eq!(from_text("2024-10-26 23:33:20", &zone).unwrap().0.seconds, 1_730_000_000);
    assert_eq!(from_text("2024-10-26T23:33:20Z", &zone).unwrap().0.seconds, 1_729_985_600);
}

#[test]
fn numbers_are_read_by_magnitude_or_unit() {
    for (text, unit, expected) in [
        ("1730000000", Unit::Auto, (1_730_000_000, 0)),
        ("1730000000123", Unit::Auto, (1_730_000_000, 123_000_000)),
        ("1730000000123456", Unit::Auto, (1_730_000_000, 123_456_000)),
        ("1730000000123456789", Unit::Auto, (1_730_000_000, 123_456_789)),
        ("5", Unit::Milliseconds, (0, 5_000_000)),
        ("-1", Unit::Milliseconds, (-1, 999_000_000)),
        ("1730000000.123", Unit::Auto, (1_730_000_000, 123_000_000)),
        ("1.73e12", Unit::Auto, (1_730_000_000, 0)),
        ("1730000000123.456", Unit::Auto, (1_730_000_000, 123_456_000)),
        ("-0.25", Unit::Seconds, (-1, 750_000_000)),
        ("1730000000.1234567891", Unit::Seconds, (1_730_000_000, 123_456_789)),
    ] {
        let (at, was_truncated) = from_number(&Number::from_text(text).unwrap(), unit).unwrap();
        assert_eq!((at.seconds, at.nanos), expected, "{text}");
        assert_eq!(was_truncated, text.ends_with("7891"), "{text}");
    }
    assert_eq!(from_number(&Number::from_text("1e300").unwrap(), Unit::Auto), None);
}

#[test]
fn digits_beyond_what_is_kept_are_noticed() {
    let cut = |text: &str| from_text(text, &Zone::Utc).unwrap().1;
    assert!(cut("2024-10-27T03:33:20.1234567891Z") && !cut("2024-10-27T03:33:20.1234567890Z"));
    let at = Instant { seconds: 0, nanos: 120_000_000 };
    assert!(!at.exceeds(2) && at.exceeds(1) && at.exceeds(0));
}

#[test]
fn times_of_day_are_read() {
    for (text, expected) in [
        ("00:00:00", Some(0)),
        ("12:34", None),
        ("12:34:56", Some(45_296_000_000_000)),
        ("9:00:00", Some(32_400_000_000_000)),
        ("-00:00:01.5", Some(-1_500_000_000)),
        ("999:59:59", Some(3_599_999_000_000_000)),
        ("1000:00:00", None),
        ("12:60", None),
        ("12", None),
        ("12:00:00Z", None),
        (":00", None),
    ] {
        assert_eq!(duration_from_text(text).map(|(nanos, _)| nanos), expected, "{text}");
    }
}

#[test]
fn days_agree_with_the_calendar_library() {
    for year in [1899, 1900, 1969, 1970, 2000, 2024, 2100, 2299] {
        for month in 1..=12 {
            let date = civil::Date::new(year, month, 28).unwrap();
            let expected = (date - civil::Date::constant(1970, 1, 1)).get_days() as i64;
            assert_eq!(days_since_1970(date), expected, "{date}");
        }
    }
}
