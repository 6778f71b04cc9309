//! JSON numbers, read from their digits: what a number says is never taken through a float unless a float is wanted.

/// A number as it is written: `mantissa * 10^exponent`, if it has few enough digits to say so.
#[derive(Debug, Clone, Copy)]
pub struct Number<'a> {
    /// As written, without a plus sign.
    text: &'a [u8],
    is_negative: bool,
    /// The digits without point and sign; `None` if there are more than fit.
    mantissa: Option<u64>,
    /// Of the last digit.
    exponent: i32,
    /// Whether it is written with digits alone.
    is_plain: bool,
}

/// Why a number is no integer of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// It has a fraction that is not zero.
    Fraction,
    TooLarge,
}

/// So many digits fit 64 bits whatever they are.
const MOST_DIGITS: usize = 19;
/// Beyond it every exponent means the same: nothing that is left fits any type.
const MOST_EXPONENT: i32 = 100_000;

const POWERS_64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Bytes of which the last is no digit: whoever reads digits ends there at the latest, and need not look for the end at
/// each of them.
#[derive(Debug, Clone, Copy)]
pub struct Guarded<'a>(&'a [u8]);

impl<'a> Guarded<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Option<Guarded<'a>> {
        bytes.last().is_some_and(|last| !last.is_ascii_digit()).then_some(Guarded(bytes))
    }

    #[inline(always)]
    pub fn bytes(self) -> &'a [u8] {
        self.0
    }

    /// Reads digits from `start` on into `value`, which may overflow; says where they end, and what stands there, less `0`.
    #[inline(always)]
    fn digits(self, start: usize, value: &mut u64) -> Option<(usize, u8)> {
        if start >= self.0.len() {
            return None;
        }
        let mut at = start;
        loop {
            // SAFETY: `at` begins within the bytes, and goes on only from a digit, which the last byte is not.
            let digit = unsafe { *self.0.get_unchecked(at) }.wrapping_sub(b'0');
            if digit > 9 {
                return Some((at, digit));
            }
            *value = value.wrapping_mul(10).wrapping_add(digit as u64);
            at += 1;
        }
    }
}

/// What most numbers are: a few digits with or without a point, and no exponent.
#[derive(Debug, Clone, Copy)]
pub struct Short {
    is_negative: bool,
    /// At most 18 digits, so that it fits also with a sign.
    mantissa: u64,
    /// How many of them stand behind the point.
    decimals: usize,
}

/// So many digits fit 63 bits whatever they are.
const MOST_SHORT_DIGITS: usize = 18;

impl Short {
    /// Reads a number from `start`, if it is short; also says where it ends.
    #[inline(always)]
    pub fn scan(bytes: Guarded<'_>, start: usize) -> Option<(Short, usize)> {
        let first = *bytes.0.get(start)?;
        let is_negative = first == b'-';
        let whole = start + is_negative as usize;
        let mut mantissa = 0;
        let (mut at, mut behind) = bytes.digits(whole, &mut mantissa)?;
        let mut count = at - whole;
        // A zero ahead of others; or else the sign, or no number at all.
        if first <= b'0' && count != 1 && (!is_negative || count == 0 || bytes.0[whole] == b'0') {
            return None;
        }
        let mut decimals = 0;
        if behind == b'.'.wrapping_sub(b'0') {
            let point = at;
            (at, behind) = bytes.digits(point + 1, &mut mantissa)?;
            decimals = at - point - 1;
            count += decimals;
            if decimals == 0 {
                return None;
            }
        }
        let has_exponent = (behind.wrapping_add(b'0')) | 0x20 == b'e';
        let is_short = (1..=MOST_SHORT_DIGITS).contains(&count) && !has_exponent;
        is_short.then_some((Short { is_negative, mantissa, decimals }, at))
    }

    #[inline(always)]
    pub fn integer(self) -> Option<i64> {
        let magnitude = self.mantissa as i64;
        (self.decimals == 0).then_some(if self.is_negative { -magnitude } else { magnitude })
    }

    /// The magnitude of an integer.
    #[inline(always)]
    pub fn count(self) -> Option<u64> {
        (self.decimals == 0 && !self.is_negative).then_some(self.mantissa)
    }

    /// See [`Number::exact_f64`].
    #[inline(always)]
    pub fn exact_f64(self) -> Option<f64> {
        let power = POWERS_64.get(self.decimals).filter(|_| self.mantissa <= 1 << 53)?;
        let magnitude = self.mantissa as f64 / power;
        Some(if self.is_negative { -magnitude } else { magnitude })
    }

    /// See [`Number::exact_f32`].
    #[inline(always)]
    pub fn exact_f32(self) -> Option<f32> {
        narrowed(self.exact_f64()?)
    }
}

/// Rounding twice goes wrong only where the first rounding ends in the middle between two of the narrow floats, and these
/// have 29 bits less. Below the normal ones they have even fewer bits, beyond the largest none.
#[inline(always)]
fn narrowed(wide: f64) -> Option<f32> {
    let is_normal = (f32::MIN_POSITIVE as f64..f32::MAX as f64).contains(&wide.abs()) || wide == 0.0;
    (is_normal && wide.to_bits() & 0x1fff_ffff != 0x1000_0000).then_some(wide as f32)
}

impl<'a> Number<'a> {
    /// Reads a number as JSON has it from `start`; also says where it ended, or where it went wrong.
    #[inline]
    pub fn scan(bytes: &'a [u8], start: usize) -> (Option<Number<'a>>, usize) {
        let is_negative = bytes.get(start) == Some(&b'-');
        let whole = start + is_negative as usize;
        let mut mantissa = 0;
        let mut at = digits(bytes, whole, &mut mantissa);
        if at == whole || (bytes[whole] == b'0' && at > whole + 1) {
            return (None, at);
        }
        let mut count = at - whole;
        let mut exponent = 0;
        let mut is_plain = true;
        if bytes.get(at) == Some(&b'.') {
            let end = digits(bytes, at + 1, &mut mantissa);
            let decimals = end - at - 1;
            if decimals == 0 {
                return (None, end);
            }
            // A packet has fewer than 2^28 bytes.
            exponent = -(decimals as i32);
            count += decimals;
            at = end;
            is_plain = false;
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let Some((power, end)) = power(bytes, at + 1) else { return (None, at + 1) };
            exponent += power;
            at = end;
            is_plain = false;
        }
        let mantissa = if count <= MOST_DIGITS { Some(mantissa) } else { None };
        (Some(Number { text: &bytes[start..at], is_negative, mantissa, exponent, is_plain }), at)
    }

    /// A number in a text. Unlike JSON, a text may have a plus sign, leading zeros, and nothing on one side of the
    /// point.
    pub fn from_text(text: &'a str) -> Option<Number<'a>> {
        let text = text.strip_prefix('+').filter(|rest| !rest.starts_with('-')).unwrap_or(text);
        let bytes = text.as_bytes();
        let is_negative = bytes.first() == Some(&b'-');
        let whole = is_negative as usize;
        let mut mantissa = 0;
        let mut at = digits(bytes, whole, &mut mantissa);
        let mut count = at - whole;
        let mut exponent = 0;
        if bytes.get(at) == Some(&b'.') {
            let end = digits(bytes, at + 1, &mut mantissa);
            exponent = -i32::try_from(end - at - 1).ok()?;
            count += end - at - 1;
            at = end;
        }
        if count == 0 {
            return None;
        }
        let is_plain = at == bytes.len() && exponent == 0;
        if let Some(b'e' | b'E') = bytes.get(at) {
            let (power, end) = power(bytes, at + 1)?;
            exponent = exponent.saturating_add(power);
            at = end;
        }
        let mantissa = if count <= MOST_DIGITS { Some(mantissa) } else { None };
        (at == bytes.len()).then_some(Number { text: bytes, is_negative, mantissa, exponent, is_plain })
    }

    /// As it is written.
    pub fn text(&self) -> &'a str {
        // A number is ASCII: nothing else was scanned.
        std::str::from_utf8(self.text).unwrap_or_default()
    }

    pub fn is_negative(&self) -> bool {
        self.is_negative
    }

    /// Whether it is written with digits alone, neither a point nor an exponent.
    pub fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The magnitude, if it is an integer of few digits. Most are.
    #[inline(always)]
    pub fn small(&self) -> Option<u64> {
        self.mantissa.filter(|_| self.exponent == 0)
    }

    /// The same with its sign, if 64 bits have room for it.
    #[inline(always)]
    pub fn small_integer(&self) -> Option<i64> {
        let magnitude = i64::try_from(self.small()?).ok()?;
        Some(if self.is_negative { -magnitude } else { magnitude })
    }

    /// The nearest float; infinite beyond the largest.
    pub fn to_f64(self) -> f64 {
        self.exact_f64().unwrap_or_else(|| self.text().parse().unwrap_or(f64::NAN))
    }

    /// The nearest float of 32 bits; infinite beyond the largest.
    pub fn to_f32(self) -> f32 {
        self.exact_f32().unwrap_or_else(|| self.text().parse().unwrap_or(f32::NAN))
    }

    /// The nearest float if one rounding makes it: the mantissa and the power of ten are exact. Source: W. D. Clinger,
    /// How to read floating point numbers accurately.
    #[inline(always)]
    pub fn exact_f64(self) -> Option<f64> {
        let mantissa = self.mantissa.filter(|mantissa| *mantissa <= 1 << 53)? as f64;
        let power = POWERS_64.get(self.exponent.unsigned_abs() as usize)?;
        let magnitude = if self.exponent < 0 { mantissa / power } else { mantissa * power };
        Some(if self.is_negative { -magnitude } else { magnitude })
    }

    /// The same for 32 bits.
    #[inline(always)]
    pub fn exact_f32(self) -> Option<f32> {
        narrowed(self.exact_f64()?)
    }

    /// The magnitude times 10^`scale`, if that is an integer.
    pub fn scaled(&self, scale: u32) -> Result<Wide, Misfit> {
        let digits = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        let mut digits = digits.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
        let exponent = self.exponent.saturating_add(scale as i32);
        let mut value = Wide::default();
        if exponent >= 0 {
            digits.try_for_each(|digit| value.push_digit(digit)).ok_or(Misfit::TooLarge)?;
            if value == Wide::default() {
                return Ok(value);
            }
            // One digit more and 256 bits are too few.
            for _ in 0..exponent.min(78) {
                value.push_digit(0).ok_or(Misfit::TooLarge)?;
            }
            return Ok(value);
        }
        let count = digits.clone().count();
        let kept = count.saturating_sub(exponent.unsigned_abs() as usize);
        let mut is_too_large = false;
        for digit in digits.by_ref().take(kept) {
            is_too_large |= value.push_digit(digit).is_none();
        }
        if digits.any(|digit| digit != 0) {
            return Err(Misfit::Fraction);
        }
        if is_too_large { Err(Misfit::TooLarge) } else { Ok(value) }
    }

    /// The number times 10^`scale`, what is behind the point cut towards minus infinity, and whether anything was.
    /// `None` beyond 10^38.
    pub fn floor(&self, scale: u32) -> Option<(i128, bool)> {
        let (mantissa, exponent, dropped) = match self.mantissa {
            Some(mantissa) => (mantissa as i128, self.exponent, false),
            None => {
                let digits = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
                let digits = digits.filter(|byte| byte.is_ascii_digit()).map(|byte| (byte - b'0') as i128);
                let mut digits = digits.skip_while(|digit| *digit == 0);
                let mantissa = digits.by_ref().take(MOST_DIGITS).fold(0, |value, digit| value * 10 + digit);
                let (count, dropped) =
                    digits.fold((0, false), |(count, dropped), digit| (count + 1, dropped || digit != 0));
                (mantissa, self.exponent.saturating_add(count), dropped)
            }
        };
        let exponent = exponent.saturating_add(scale as i32);
        let signed = if self.is_negative { -mantissa } else { mantissa };
        if exponent >= 0 {
            if mantissa == 0 {
                return Some((0, dropped));
            }
            let power = 10i128.checked_pow(exponent.unsigned_abs())?;
            return Some((signed.checked_mul(power)? - (dropped && self.is_negative) as i128, dropped));
        }
        let Some(power) = 10i128.checked_pow(exponent.unsigned_abs()) else {
            let is_zero = mantissa == 0;
            return Some((if self.is_negative && !is_zero { -1 } else { 0 }, !is_zero));
        };
        let exact = signed.rem_euclid(power) == 0;
        let below = exact && dropped && self.is_negative;
        Some((signed.div_euclid(power) - below as i128, !exact || dropped))
    }
}

/// Reads digits from `start` on into `value`, which may overflow; says where they end.
#[inline(always)]
fn digits(bytes: &[u8], start: usize, value: &mut u64) -> usize {
    let mut at = start;
    while let Some(byte) = bytes.get(at) {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        *value = value.wrapping_mul(10).wrapping_add(digit as u64);
        at += 1;
    }
    at
}

/// What stands behind the `e`, and where it ends.
fn power(bytes: &[u8], start: usize) -> Option<(i32, usize)> {
    let (is_negative, start) = match bytes.get(start) {
        Some(b'-') => (true, start + 1),
        Some(b'+') => (false, start + 1),
        _ => (false, start),
    };
    let mut power = 0;
    let mut at = start;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        power = (power * 10 + (digit - b'0') as i32).min(MOST_EXPONENT);
        at += 1;
    }
    (at > start).then_some((if is_negative { -power } else { power }, at))
}

/// An unsigned integer of 256 bits, the lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wide([u64; 4]);

impl Wide {
    /// `None`: it does not fit.
    fn push_digit(&mut self, digit: u8) -> Option<()> {
        let mut carry = digit as u128;
        for limb in &mut self.0 {
            let next = *limb as u128 * 10 + carry;
            *limb = next as u64;
            carry = next >> 64;
        }
        (carry == 0).then_some(())
    }

    /// As an integer of `width` bytes in two's complement, little-endian; `None` if it does not fit.
    pub fn to_bytes(self, width: usize, is_signed: bool, is_negative: bool) -> Option<[u8; 32]> {
        let mut bytes = [0; 32];
        for (chunk, limb) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(self.0) {
            *chunk = limb.to_le_bytes();
        }
        let is_zero = self == Wide::default();
        if bytes[width..].iter().any(|byte| *byte != 0) || (is_negative && !is_signed && !is_zero) {
            return None;
        }
        if is_negative {
            let mut carry = true;
            for byte in &mut bytes {
                let (negated, overflowed) = (!*byte).overflowing_add(carry as u8);
                (*byte, carry) = (negated, overflowed);
            }
        }
        let has_sign_bit = bytes[width - 1] & 0x80 != 0;
        (!is_signed || is_zero || has_sign_bit == is_negative).then_some(bytes)
    }

    /// Whether it has at most so many decimal digits.
    pub fn has_digits(self, most: u32) -> bool {
        let mut limit = Wide([1, 0, 0, 0]);
        for _ in 0..most {
            if limit.push_digit(0).is_none() {
                return true;
            }
        }
        self.0.iter().rev().lt(limit.0.iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number<'_> {
        let (number, end) = Number::scan(text.as_bytes(), 0);
        assert_eq!(end, text.len(), "{text}");
        number.unwrap()
    }

    #[test]
    fn a_short_number_says_what_the_number_says() {
        let texts = [
            "0", "7", "-3", "00", "-01", "-", "", ".5", "5.", "-.5", "1.x", "0.5", "-0", "-0.0", "1e5",
            "1.5E3",
        ];
        let longer =
            ["25.123456", "-80.191780", "1730000000123", "123456789012345678", "1234567890123456789"];
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
                let short = Short::scan(Guarded::new(bytes.as_bytes()).unwrap(), before.len());
                let (number, end) = Number::scan(bytes.as_bytes(), before.len());
                let Some((short, short_end)) = short else { continue };
                let number = number.unwrap_or_else(|| panic!("{bytes} is no number"));
                assert_eq!(short_end, end, "{bytes}");
                assert_eq!(short.integer(), number.small_integer().filter(|_| number.is_plain()), "{bytes}");
                assert_eq!(
                    short.exact_f64().map(f64::to_bits),
                    number.exact_f64().map(f64::to_bits),
                    "{bytes}"
                );
            }
        }
        let is_short =
            |text: &str| Short::scan(Guarded::new(format!("{text}}}").as_bytes()).unwrap(), 0).is_some();
        for text in ["0", "-3", "0.5", "-0", "25.123456", "1730000000123", "123456789012345678"] {
            assert!(is_short(text), "{text}");
        }
        for text in ["00", "-01", "-", "", ".5", "5.", "1e5", "1234567890123456789", "--1", "+1"] {
            assert!(!is_short(text), "{text}");
        }
        assert!(Guarded::new(b"12").is_none() && Guarded::new(b"").is_none());
    }

    fn as_i128(text: &str, scale: u32) -> Result<i128, Misfit> {
        let number = number(text);
        let bytes = number.scaled(scale)?.to_bytes(16, true, number.is_negative()).ok_or(Misfit::TooLarge)?;
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
            ("1.50", 0, Err(Misfit::Fraction)),
            ("120e-1", 0, Ok(12)),
            ("0e99999999", 0, Ok(0)),
            ("0.000e-999999999999", 0, Ok(0)),
            ("1e99999999", 0, Err(Misfit::TooLarge)),
            ("1e-99999999", 0, Err(Misfit::Fraction)),
            ("170141183460469231731687303715884105727", 0, Ok(i128::MAX)),
            ("-170141183460469231731687303715884105728", 0, Ok(i128::MIN)),
            ("170141183460469231731687303715884105728", 0, Err(Misfit::TooLarge)),
            ("-170141183460469231731687303715884105729", 0, Err(Misfit::TooLarge)),
            ("1701411834604692317316873037158841057270000.0", 0, Err(Misfit::TooLarge)),
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
        assert!(
            fits("255", 1, false) && !fits("256", 1, false) && !fits("-1", 1, false) && fits("-0", 1, false)
        );
        assert!(
            fits("127", 1, true) && !fits("128", 1, true) && fits("-128", 1, true) && !fits("-129", 1, true)
        );
        let most = "115792089237316195423570985008687907853269984665640564039457584007913129639935";
        assert!(fits(most, 32, false) && !fits(most, 32, true));
        assert_eq!(number(&format!("{most}0")).scaled(0), Err(Misfit::TooLarge));
        assert!(
            number("999").scaled(0).unwrap().has_digits(3)
                && !number("1000").scaled(0).unwrap().has_digits(3)
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
    fn what_is_cut_is_cut_downwards() {
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
            let (value, was_cut) = number(text).floor(scale).unwrap();
            // Digits beyond the nineteenth are too many for any time: they are dropped before the point is looked for.
            if text.len() < 22 {
                assert_eq!((value, was_cut), expected, "{text}");
            } else {
                assert!(was_cut, "{text}");
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
}
