//! Numbers of every size, against what their digits say.

use super::*;

fn number(text: &str) -> Number<'_> {
    let (number, end) = Number::scan(text.as_bytes(), 0);
    assert_eq!(end, text.len(), "{text}");
    number.unwrap()
}

#[test]
fn a_short_number_says_what_the_number_says() {
    let texts =
        ["0", "7", "-3", "00", "-01", "-", "", ".5", "5.", "-.5", "1.x", "0.5", "-0", "-0.0", "1e5", "1.5E3"];
    let longer = ["25.123456", "-80.191780", "1730000000123", "123456789012345678", "1234567890123456789"];
    let odd = [
        "0.000000000000000001",
        "9007199254740993",
        "9007199254740993.5",
        "0.1234567890123456789",
        "--1",
        "+1",
    ];
    for text in texts.iter().chain(&longer).chain(&odd) {
        for (before, behind) in [("", "}"), ("[", ",1"), ("", "-"), ("12", " "), ("", "]}")] {
            let bytes = format!("{before}{text}{behind}}}");
            let short = SmallDecimal::scan(TerminatedBytes::new(bytes.as_bytes()).unwrap(), before.len());
            let (number, end) = Number::scan(bytes.as_bytes(), before.len());
            let Some((short, short_end)) = short else { continue };
            let number = number.unwrap_or_else(|| panic!("{bytes} is no number"));
            assert_eq!(short_end, end, "{bytes}");
            assert_eq!(short.integer(), number.small_integer().filter(|_| number.is_plain()), "{bytes}");
            assert_eq!(short.exact_f64().map(f64::to_bits), number.exact_f64().map(f64::to_bits), "{bytes}");
        }
    }
    let is_short = |text: &str| {
        SmallDecimal::scan(TerminatedBytes::new(format!("{text}}}").as_bytes()).unwrap(), 0).is_some()
    };
    for text in ["0", "-3", "0.5", "-0", "25.123456", "1730000000123", "123456789012345678"] {
        assert!(is_short(text), "{text}");
    }
    for text in ["00", "-01", "-", "", ".5", "5.", "1e5", "1234567890123456789", "--1", "+1"] {
        assert!(!is_short(text), "{text}");
    }
    assert!(TerminatedBytes::new(b"12").is_none() && TerminatedBytes::new(b"").is_none());
}

fn as_i128(text: &str, scale: u32) -> Result<i128, NumberError> {
    let number = number(text);
    let bytes =
        number.scaled(scale)?.to_bytes(16, true, number.is_negative()).ok_or(NumberError::TooLarge)?;
    Ok(i128::from_le_bytes(*bytes.first_chunk().unwrap()))
}

#[test]
fn integers_are_read_from_their_digits() {
    for (text, scale, expected) in [
        ("0", 0, Ok(0)),
        ("-0", 0, Ok(0)),
        ("18446744073709551616", 0, Ok(18_446_744_073_709_551_616)),
        ("1e3", 0, Ok(1000)),
        ("-2.5e3", 0, Ok(-2500)),
        ("1.50", 1, Ok(15)),
        ("1.50", 0, Err(NumberError::Fraction)),
        ("120e-1", 0, Ok(12)),
        ("0e99999999", 0, Ok(0)),
        ("0.000e-999999999999", 0, Ok(0)),
        ("1e99999999", 0, Err(NumberError::TooLarge)),
        ("1e-99999999", 0, Err(NumberError::Fraction)),
        ("170141183460469231731687303715884105727", 0, Ok(i128::MAX)),
        ("-170141183460469231731687303715884105728", 0, Ok(i128::MIN)),
        ("170141183460469231731687303715884105728", 0, Err(NumberError::TooLarge)),
        ("-170141183460469231731687303715884105729", 0, Err(NumberError::TooLarge)),
        ("1701411834604692317316873037158841057270000.0", 0, Err(NumberError::TooLarge)),
    ] {
        assert_eq!(as_i128(text, scale), expected, "{text}");
    }
}

#[test]
fn widths_have_limits() {
    let fits = |text: &str, width, signed| {
        let number = number(text);
        number.scaled(0).unwrap().to_bytes(width, signed, number.is_negative()).is_some()
    };
    assert!(fits("255", 1, false) && !fits("256", 1, false) && !fits("-1", 1, false) && fits("-0", 1, false));
    assert!(fits("127", 1, true) && !fits("128", 1, true) && fits("-128", 1, true) && !fits("-129", 1, true));
    let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
    assert!(fits(most, 32, false) && !fits(most, 32, true));
    assert_eq!(number(&format!("{most}0")).scaled(0), Err(NumberError::TooLarge));
    assert!(
        number("999").scaled(0).unwrap().has_digits(3) && !number("1000").scaled(0).unwrap().has_digits(3)
    );
}

#[test]
fn floats_are_the_nearest() {
    for text in [
        "0",
        "-0.0",
        "1.5",
        "25.76",
        "-80.19178",
        "9007199254740993",
        "1e22",
        "1e23",
        "5e-324",
        "1.7976931348623157e308",
        "1e400",
        "123456789012345678901234567890",
        "0.1000000000000000055511151231257827",
        "3.4028236e38",
        "1.00000017881393421514957253748434595763683319091797",
        "7.038531e-26",
        "1e-45",
        "16777217",
        "33554435",
    ] {
        let number = number(text);
        assert_eq!(number.to_f64().to_bits(), text.parse::<f64>().unwrap().to_bits(), "{text}");
        assert_eq!(number.to_f32().to_bits(), text.parse::<f32>().unwrap().to_bits(), "{text}");
    }
}

#[test]
fn cut_digits_round_down() {
    for (text, scale, expected) in [
        ("1730000000.123", 9, (1_730_000_000_123_000_000, false)),
        ("1730000000.1234567891", 9, (1_730_000_000_123_456_789, true)),
        ("-0.25", 0, (-1, true)),
        ("-1.0", 0, (-1, false)),
        ("1.73e9", 0, (1_730_000_000, false)),
        ("12345678901234567890.5", 0, (12_345_678_901_234_567_890, true)),
        ("-1.00000000000000000000001", 0, (-2, true)),
        ("1e-300", 9, (0, true)),
        ("-1e-300", 9, (-1, true)),
    ] {
        let (value, was_truncated) = number(text).floor(scale).unwrap();
        // Digits beyond the nineteenth are too many for any time: they are dropped before the point is looked for.
        if text.len() < 22 {
            assert_eq!((value, was_truncated), expected, "{text}");
        } else {
            assert!(was_truncated, "{text}");
        }
    }
    assert_eq!(number("1e40").floor(9), None);
}

#[test]
fn texts_are_numbers_more_freely() {
    for text in ["+5", "007", ".5", "5.", "-1e3", "1E+2"] {
        assert!(Number::from_text(text).is_some(), "{text}");
    }
    for text in ["", "+", "-", ".", "e3", "1e", " 1", "1 ", "0x1", "+-1", "1_000", "nan"] {
        assert!(Number::from_text(text).is_none(), "{text}");
    }
}
