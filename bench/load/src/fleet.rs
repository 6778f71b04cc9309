//! The simulated drivers: where each one is, and the JSON that it sends.
//!
//! Positions are integers of 1e-7 degrees, as GPS receivers give them: twelve bytes a driver, so that ten million
//! fit, and digits that need no float formatting.

/// The area the drivers stay in, around Miami, in 1e-7 degrees.
const SOUTH: i32 = 255_000_000;
const NORTH: i32 = 262_000_000;
const WEST: i32 = -805_000_000;
const EAST: i32 = -801_000_000;

/// Metres in 1e-7 degrees of latitude, and of longitude at the latitude of the area.
const METRES_TO_LATITUDE: f32 = 1e7 / 111_320.0;
const METRES_TO_LONGITUDE: f32 = METRES_TO_LATITUDE / 0.9;

/// In decimetres per second: 0 to 33.3 m/s, 120 km/h.
const MAX_SPEED: i32 = 333;

#[derive(Clone, Copy)]
struct Driver {
    latitude: i32,
    longitude: i32,
    speed: i16,
    heading: i16,
}

pub struct Fleet {
    drivers: Vec<Driver>,
    /// Seconds between two messages of one driver.
    interval: f32,
    numbered: bool,
    random: Random,
    /// (north, east) for each heading in degrees.
    directions: Vec<(f32, f32)>,
}

impl Fleet {
    /// `interval` is the time in seconds between two messages of one driver; `numbered` adds `"seq"` to each.
    pub fn new(drivers: usize, interval: f32, numbered: bool) -> Self {
        let mut random = Random(0x9E37_79B9_7F4A_7C15);
        let drivers = (0..drivers)
            .map(|_| Driver {
                latitude: random.between(SOUTH, NORTH),
                longitude: random.between(WEST, EAST),
                speed: random.between(0, MAX_SPEED) as i16,
                heading: random.between(0, 360) as i16,
            })
            .collect();
        let directions = (0..360).map(|degrees| (degrees as f32).to_radians()).map(|a| (a.cos(), a.sin()));
        Self { drivers, interval, numbered, random, directions: directions.collect() }
    }

    /// Moves one driver and writes its next message. `seq` is used when messages are numbered.
    pub fn report(&mut self, id: usize, now_ms: u64, seq: u64, topic: &mut Vec<u8>, payload: &mut Vec<u8>) {
        let driver = &mut self.drivers[id];
        driver.advance(self.interval, &mut self.random, &self.directions);

        let mut digits = itoa::Buffer::new();
        let id = digits.format(id).as_bytes();
        topic.clear();
        join(topic, &[b"drivers/driver-", id, b"/position"]);

        payload.clear();
        join(payload, &[b"{\"driver_id\":\"driver-", id, b"\",\"lat\":"]);
        decimal(payload, driver.latitude / 10, 6);
        payload.extend_from_slice(b",\"lng\":");
        decimal(payload, driver.longitude / 10, 6);
        payload.extend_from_slice(b",\"speed\":");
        decimal(payload, i32::from(driver.speed), 1);
        join(payload, &[b",\"heading\":", digits.format(driver.heading).as_bytes()]);
        join(payload, &[b",\"ts\":", digits.format(now_ms).as_bytes()]);
        if self.numbered {
            join(payload, &[b",\"seq\":", digits.format(seq).as_bytes()]);
        }
        payload.push(b'}');
    }
}

impl Driver {
    fn advance(&mut self, seconds: f32, random: &mut Random, directions: &[(f32, f32)]) {
        let (north, east) = directions[self.heading as usize];
        let metres = f32::from(self.speed) * 0.1 * seconds;
        self.latitude += (metres * north * METRES_TO_LATITUDE) as i32;
        self.longitude += (metres * east * METRES_TO_LONGITUDE) as i32;

        let inside = (SOUTH..=NORTH).contains(&self.latitude) && (WEST..=EAST).contains(&self.longitude);
        let turn = match random.between(0, 32) {
            _ if !inside => 180,
            0 => 90,
            1 => -90,
            _ => random.between(-3, 4),
        };
        self.latitude = self.latitude.clamp(SOUTH, NORTH);
        self.longitude = self.longitude.clamp(WEST, EAST);
        self.heading = (i32::from(self.heading) + turn).rem_euclid(360) as i16;
        self.speed = (i32::from(self.speed) + random.between(-10, 11)).clamp(0, MAX_SPEED) as i16;
    }
}

/// xorshift64*: small, fast, and the same drive at every run.
struct Random(u64);

impl Random {
    /// A number in `low..high`.
    fn between(&mut self, low: i32, high: i32) -> i32 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let bits = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 32;
        low + ((bits * (high - low) as u64) >> 32) as i32
    }
}

fn join(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// Writes `value` as a number with `places` decimals: 25761234 with 6 places is 25.761234.
fn decimal(out: &mut Vec<u8>, value: i32, places: u32) {
    let scale = 10_u32.pow(places);
    let magnitude = value.unsigned_abs();
    if value < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(itoa::Buffer::new().format(magnitude / scale).as_bytes());
    out.push(b'.');
    // The leading 1 keeps the zeros of the fraction, and is then left out.
    out.extend_from_slice(&itoa::Buffer::new().format(scale + magnitude % scale).as_bytes()[1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_keep_their_zeros_and_sign() {
        for (value, places, expected) in
            [(25_761_234, 6, "25.761234"), (-80_000_001, 6, "-80.000001"), (-5, 1, "-0.5"), (120, 1, "12.0")]
        {
            let mut out = Vec::new();
            decimal(&mut out, value, places);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }

    #[test]
    fn a_message_has_the_fields_of_a_position() {
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        for numbered in [false, true] {
            Fleet::new(43, 0.5, numbered).report(42, 1_730_000_000_000, 7, &mut topic, &mut payload);
            assert_eq!(topic, b"drivers/driver-42/position");
            let text = String::from_utf8(payload.clone()).unwrap();
            let keys: Vec<_> = text.split(['{', ',']).filter_map(|pair| pair.split_once(':')).collect();
            assert_eq!(keys[0], ("\"driver_id\"", "\"driver-42\""));
            let names = ["\"lat\"", "\"lng\"", "\"speed\"", "\"heading\"", "\"ts\"", "\"seq\""];
            assert!(
                keys[1..].iter().map(|pair| pair.0).eq(names.into_iter().take(5 + usize::from(numbered)))
            );
            assert!(text.ends_with(if numbered { ",\"seq\":7}" } else { ",\"ts\":1730000000000}" }));
        }
    }

    #[test]
    fn drivers_move_no_further_than_they_can_and_stay_in_the_area() {
        let mut fleet = Fleet::new(10, 0.5, false);
        let (mut topic, mut payload) = (Vec::new(), Vec::new());
        let most = (MAX_SPEED as f32 * 0.1 * 0.5 * METRES_TO_LONGITUDE) as i32 + 1;
        for step in 0..10_000 {
            let before = fleet.drivers[step % 10];
            fleet.report(step % 10, 0, 0, &mut topic, &mut payload);
            let after = fleet.drivers[step % 10];
            assert!((after.latitude - before.latitude).abs() <= most);
            assert!((after.longitude - before.longitude).abs() <= most);
            assert!((SOUTH..=NORTH).contains(&after.latitude) && (WEST..=EAST).contains(&after.longitude));
            assert!((0..360).contains(&after.heading) && (0..=MAX_SPEED as i16).contains(&after.speed));
        }
    }
}
