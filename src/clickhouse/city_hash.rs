//! CityHash64 of version 1.0.2, which ClickHouse's `cityHash64` is. Crates have the 128 bits that Native frames carry, or a
//! later version with other results: <https://github.com/google/cityhash/blob/8af9b8c2b889d80c22d6bc26ba0df1afb79a30db/src/city.cc>.

const K0: u64 = 0xc3a5_c85c_97cb_3127;
const K1: u64 = 0xb492_b66f_be98_f273;
const K2: u64 = 0x9ae1_6a3b_2f90_404f;
const K3: u64 = 0xc949_d7c7_509e_6557;
const MUL: u64 = 0x9ddf_ea08_eb38_2d69;

pub fn city_hash_64(bytes: &[u8]) -> u64 {
    match bytes.len() {
        0..=16 => hash_0_to_16(bytes),
        17..=32 => hash_17_to_32(bytes),
        33..=64 => hash_33_to_64(bytes),
        _ => hash_more(bytes),
    }
}

/// The hash of two hashes: `Hash128to64`. ClickHouse combines the arguments of `cityHash64` with it.
pub fn combine(low: u64, high: u64) -> u64 {
    let first = shift_mix((low ^ high).wrapping_mul(MUL));
    shift_mix((high ^ first).wrapping_mul(MUL)).wrapping_mul(MUL)
}

fn shift_mix(value: u64) -> u64 {
    value ^ (value >> 47)
}

/// Eight bytes from a place, which the callers know to be there.
fn fetch(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |eight| u64::from_le_bytes(*eight))
}

fn fetch_32(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |four| u64::from(u32::from_le_bytes(*four)))
}

fn hash_0_to_16(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    match len {
        0 => K2,
        1..=3 => {
            let [first, middle, last] = [0, len / 2, len - 1].map(|at| u64::from(bytes[at]));
            let (y, z) = (first + (middle << 8), len as u64 + (last << 2));
            shift_mix(y.wrapping_mul(K2) ^ z.wrapping_mul(K3)).wrapping_mul(K2)
        }
        4..=8 => combine((len as u64).wrapping_add(fetch_32(bytes, 0) << 3), fetch_32(bytes, len - 4)),
        _ => {
            let (a, b) = (fetch(bytes, 0), fetch(bytes, len - 8));
            combine(a, b.wrapping_add(len as u64).rotate_right(len as u32)) ^ b
        }
    }
}

fn hash_17_to_32(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let (a, b) = (fetch(bytes, 0).wrapping_mul(K1), fetch(bytes, 8));
    let (c, d) = (fetch(bytes, len - 8).wrapping_mul(K2), fetch(bytes, len - 16).wrapping_mul(K0));
    combine(
        a.wrapping_sub(b).rotate_right(43).wrapping_add(c.rotate_right(30)).wrapping_add(d),
        a.wrapping_add((b ^ K3).rotate_right(20)).wrapping_sub(c).wrapping_add(len as u64),
    )
}

fn hash_33_to_64(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    // The first 32 bytes and the last 32, in the same way.
    let half = |start: u64, at: usize, z: u64| {
        let mut a = start;
        let b = a.wrapping_add(z).rotate_right(52);
        let mut c = a.rotate_right(37);
        a = a.wrapping_add(fetch(bytes, at));
        c = c.wrapping_add(a.rotate_right(7));
        a = a.wrapping_add(fetch(bytes, at + 8));
        (a.wrapping_add(z), b.wrapping_add(a.rotate_right(31)).wrapping_add(c))
    };
    let start =
        fetch(bytes, 0).wrapping_add((len as u64).wrapping_add(fetch(bytes, len - 16)).wrapping_mul(K0));
    let (vf, vs) = half(start, 8, fetch(bytes, 24));
    let start = fetch(bytes, 16).wrapping_add(fetch(bytes, len - 32));
    let (wf, ws) = half(start, len - 24, fetch(bytes, len - 8));
    let r =
        shift_mix(vf.wrapping_add(ws).wrapping_mul(K2).wrapping_add(wf.wrapping_add(vs).wrapping_mul(K0)));
    shift_mix(r.wrapping_mul(K0).wrapping_add(vs)).wrapping_mul(K2)
}

/// `WeakHashLen32WithSeeds`.
fn weak_hash(bytes: &[u8], at: usize, mut a: u64, mut b: u64) -> (u64, u64) {
    let [w, x, y, z] = [0, 8, 16, 24].map(|place| fetch(bytes, at + place));
    a = a.wrapping_add(w);
    b = b.wrapping_add(a).wrapping_add(z).rotate_right(21);
    let c = a;
    a = a.wrapping_add(x).wrapping_add(y);
    b = b.wrapping_add(a.rotate_right(44));
    (a.wrapping_add(z), b.wrapping_add(c))
}

fn hash_more(bytes: &[u8]) -> u64 {
    let len = bytes.len();
    let mut x = fetch(bytes, 0);
    let mut y = fetch(bytes, len - 16) ^ K1;
    let mut z = fetch(bytes, len - 56) ^ K0;
    let mut v = weak_hash(bytes, len - 64, len as u64, y);
    let mut w = weak_hash(bytes, len - 32, (len as u64).wrapping_mul(K1), K0);
    z = z.wrapping_add(shift_mix(v.1).wrapping_mul(K1));
    x = z.wrapping_add(x).rotate_right(39).wrapping_mul(K1);
    y = y.rotate_right(33).wrapping_mul(K1);
    for at in (0..(len - 1) & !63).step_by(64) {
        x = x.wrapping_add(y).wrapping_add(v.0).wrapping_add(fetch(bytes, at + 16));
        x = x.rotate_right(37).wrapping_mul(K1);
        y = y.wrapping_add(v.1).wrapping_add(fetch(bytes, at + 48)).rotate_right(42).wrapping_mul(K1);
        x ^= w.1;
        y ^= v.0;
        z = (z ^ w.0).rotate_right(33);
        v = weak_hash(bytes, at, v.1.wrapping_mul(K1), x.wrapping_add(w.0));
        w = weak_hash(bytes, at + 32, z.wrapping_add(w.1), y);
        std::mem::swap(&mut z, &mut x);
    }
    combine(
        combine(v.0, w.0).wrapping_add(shift_mix(y).wrapping_mul(K1)).wrapping_add(z),
        combine(v.1, w.1).wrapping_add(x),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `SELECT cityHash64(substring(repeat('millrace ', 30), 1, n))`, ClickHouse 26.7.
    #[test]
    fn hashes_are_those_of_clickhouse() {
        let text = "millrace ".repeat(30);
        for (len, hash) in HASHES {
            assert_eq!(city_hash_64(&text.as_bytes()[..len]), hash, "{len} bytes");
        }
    }

    const HASHES: [(usize, u64); 23] = [
        (0, 0x9ae1_6a3b_2f90_404f),
        (1, 0x1c68_5412_23dc_31b0),
        (3, 0x5711_a032_17d6_3924),
        (4, 0xccfe_3ea3_8b87_9e90),
        (7, 0xabe1_ac5d_f23e_ecc4),
        (8, 0xf1e6_d821_6506_ca6d),
        (9, 0x5e66_a053_913d_5382),
        (12, 0xed47_e289_1fd2_9512),
        (16, 0x610e_7bf7_592e_56ce),
        (17, 0x4b6b_fa3b_1cc7_4f8a),
        (24, 0x722d_434b_29d7_47c5),
        (31, 0x4160_d49e_4f08_814a),
        (32, 0x8840_4ca5_cbe1_43e5),
        (33, 0x5d51_58df_6847_a416),
        (40, 0xc6ad_ca96_80f0_72dd),
        (63, 0x38da_5441_a40b_db34),
        (64, 0xfa3d_6385_424b_c0e5),
        (65, 0x5be0_74dc_bbde_9db3),
        (127, 0x13ce_2268_25b9_f203),
        (128, 0x32d7_9b50_2f83_c975),
        (129, 0xb86a_a12d_dd09_08bc),
        (200, 0xf536_3421_0ca2_cf26),
        (270, 0x504d_dca9_b303_8ff1),
    ];
}
