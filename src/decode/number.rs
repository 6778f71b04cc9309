//! JSON numbers, read from their digits: what a number says is never taken through a float unless a float is wanted.

/// A number as it is written: `mantissa * 10^exponent`, if it has few enough digits to say so.
#[derive(Debug, Default, Clone, Copy)]
pub struct Number<'a> {
    /// As written, without a plus sign.
    text: &'a [u8],
    is_negative: bool,
    /// The digits without point and sign; `None` if there are more than fit.
    mantissa: Option<u64>,
    /// The exponent of the last digit.
    exponent: i32,
    /// Whether it is written with digits alone.
    is_plain: bool,
}

/// Why a number is not an integer of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NumberError {
    /// It has a fraction that is not zero.
    Fraction,
    TooLarge,
}

/// Any number of this many digits fits 64 bits.
const MAX_DIGITS: usize = 19;
/// Beyond it every exponent means the same: nothing that is left fits any type.
const MAX_EXPONENT: i32 = 100_000;

const POWERS_64: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18,
    1e19, 1e20, 1e21, 1e22,
];

/// Bytes of which the last is not a digit: a reader of digits ends there at the latest, and need not
/// check for the end at each of them.
#[derive(Debug, Clone, Copy)]
pub struct TerminatedBytes<'a>(&'a [u8]);

impl<'a> TerminatedBytes<'a> {
    #[inline(always)]
    pub fn new(bytes: &'a [u8]) -> Option<TerminatedBytes<'a>> {
        bytes.last().is_some_and(|last| !last.is_ascii_digit()).then_some(TerminatedBytes(bytes))
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

/// The most common form of numbers: a few digits with or without a point, and no exponent.
#[derive(Debug, Clone, Copy)]
pub struct SmallDecimal {
    is_negative: bool,
    /// At most 18 digits, so that it fits also with a sign.
    mantissa: u64,
    /// How many of them stand behind the point.
    decimals: usize,
}

/// Any number of this many digits fits 63 bits.
const MAX_SHORT_DIGITS: usize = 18;

impl SmallDecimal {
    /// Reads a number from `start`, if it is short; also says where it ends.
    #[inline(always)]
    pub fn scan(bytes: TerminatedBytes<'_>, start: usize) -> Option<(SmallDecimal, usize)> {
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
        let is_short = (1..=MAX_SHORT_DIGITS).contains(&count) && !has_exponent;
        is_short.then_some((SmallDecimal { is_negative, mantissa, decimals }, at))
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
        let mantissa = if count <= MAX_DIGITS { Some(mantissa) } else { None };
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
        let mantissa = if count <= MAX_DIGITS { Some(mantissa) } else { None };
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

    /// The same with its sign, if it fits 64 bits.
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

    /// The integer, if it is one of 64 bits with or without a sign.
    pub fn integer_64(&self) -> Option<i128> {
        let integer = match self.small() {
            Some(magnitude) if self.is_negative => -i128::from(magnitude),
            Some(magnitude) => i128::from(magnitude),
            None => {
                let bytes = self.scaled(0).ok()?.to_bytes(16, true, self.is_negative)?;
                i128::from_le_bytes(*bytes.first_chunk()?)
            }
        };
        (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&integer).then_some(integer)
    }

    /// The digits that say something, and the power of ten of the last of them: neither a sign nor zeros at the ends.
    pub fn digits(&self) -> (Vec<u8>, i32) {
        let written = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        let mut digits: Vec<u8> = written.filter(|byte| byte.is_ascii_digit()).copied().collect();
        let mut exponent = self.exponent;
        while digits.last() == Some(&b'0') {
            digits.pop();
            exponent = exponent.saturating_add(1);
        }
        let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
        digits.drain(..zeros);
        if digits.is_empty() { (digits, 0) } else { (digits, exponent) }
    }

    /// The magnitude times 10^`scale`, if that is an integer.
    pub fn scaled(&self, scale: u32) -> Result<U256, NumberError> {
        let digits = self.text.iter().take_while(|byte| !matches!(byte, b'e' | b'E'));
        let mut digits = digits.filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
        let exponent = self.exponent.saturating_add(scale as i32);
        let mut value = U256::default();
        if exponent >= 0 {
            digits.try_for_each(|digit| value.push_digit(digit)).ok_or(NumberError::TooLarge)?;
            if value == U256::default() {
                return Ok(value);
            }
            // One digit more and 256 bits are too few.
            for _ in 0..exponent.min(78) {
                value.push_digit(0).ok_or(NumberError::TooLarge)?;
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
            return Err(NumberError::Fraction);
        }
        if is_too_large { Err(NumberError::TooLarge) } else { Ok(value) }
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
                let mantissa = digits.by_ref().take(MAX_DIGITS).fold(0, |value, digit| value * 10 + digit);
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

/// The number behind the `e`, and where it ends.
fn power(bytes: &[u8], start: usize) -> Option<(i32, usize)> {
    let (is_negative, start) = match bytes.get(start) {
        Some(b'-') => (true, start + 1),
        Some(b'+') => (false, start + 1),
        _ => (false, start),
    };
    let mut power = 0;
    let mut at = start;
    while let Some(digit) = bytes.get(at).filter(|byte| byte.is_ascii_digit()) {
        power = (power * 10 + (digit - b'0') as i32).min(MAX_EXPONENT);
        at += 1;
    }
    (at > start).then_some((if is_negative { -power } else { power }, at))
}

/// An integer of a binary format, in digits.
pub struct IntegerText {
    bytes: [u8; 40],
    start: usize,
}

impl IntegerText {
    pub fn new(integer: i128) -> IntegerText {
        let mut text = IntegerText { bytes: [0; 40], start: 40 };
        let mut rest = integer.unsigned_abs();
        loop {
            text.start -= 1;
            text.bytes[text.start] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if integer < 0 {
            text.start -= 1;
            text.bytes[text.start] = b'-';
        }
        text
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[self.start..]).unwrap_or_default()
    }
}

/// An integer of at most 256 bits, the highest byte first, in digits; with `is_complement` it is -1 less that, as CBOR has
/// negative ones.
pub fn decimal_text(magnitude: &[u8], is_complement: bool) -> Option<String> {
    let significant =
        magnitude.iter().position(|byte| *byte != 0).map_or(&[][..], |start| &magnitude[start..]);
    if significant.len() > 32 {
        return None;
    }
    let mut digits = vec![0u8];
    let mut multiply_add = |factor: u32, more: u32| {
        let mut carry = more;
        for digit in &mut digits {
            let next = u32::from(*digit) * factor + carry;
            *digit = (next % 10) as u8;
            carry = next / 10;
        }
        while carry > 0 {
            digits.push((carry % 10) as u8);
            carry /= 10;
        }
    };
    significant.iter().for_each(|byte| multiply_add(256, (*byte).into()));
    if is_complement {
        multiply_add(1, 1);
    }
    let digits = digits.iter().rev().map(|digit| (b'0' + digit) as char);
    Some(is_complement.then_some('-').into_iter().chain(digits).collect())
}

/// An unsigned integer of 256 bits, the lowest first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct U256([u64; 4]);

impl U256 {
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
        let is_zero = self == U256::default();
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

    /// Whether it has at most `digits` decimal digits.
    pub fn has_digits(self, most: u32) -> bool {
        let mut limit = U256([1, 0, 0, 0]);
        for _ in 0..most {
            if limit.push_digit(0).is_none() {
                return true;
            }
        }
        self.0.iter().rev().lt(limit.0.iter().rev())
    }
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
