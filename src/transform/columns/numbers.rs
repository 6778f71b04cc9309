//! Rows without a value in columns of numbers: how they are marked for a host, and found when it gives the values back.
//!
//! These loops run over each row of each batch, so they know the width of a value as a constant: comparing or copying one is one
//! instruction then.

use crate::transform::columns::Cells;

/// The value of a row that is not filled.
pub fn unfilled(cells: Cells) -> &'static [u8] {
    match cells {
        Cells::Bool | Cells::U8 => &[0xff],
        Cells::I8 => &[0x80],
        Cells::U16 => &[0xff; 2],
        Cells::I16 => &[0, 0x80],
        Cells::U32 => &[0xff; 4],
        Cells::I32 => &[0, 0, 0, 0x80],
        Cells::U64 => &[0xff; 8],
        Cells::I64 => &[0, 0, 0, 0, 0, 0, 0, 0x80],
        // A NaN that no arithmetic gives.
        Cells::F32 => &[0x72, 0x6d, 0xc0, 0x7f],
        Cells::F64 => &[0x6c, 0x6c, 0x69, 0x6d, 0, 0, 0xf8, 0x7f],
        Cells::Text | Cells::Other => &[],
    }
}

/// Puts [`unfilled`] in the place of each NULL.
pub fn mark_unfilled(values: &mut [u8], width: usize, own_nulls: &[u8], cells: Cells) {
    fn mark<const WIDTH: usize>(values: &mut [u8], own_nulls: &[u8], unfilled: &[u8]) {
        let Ok(unfilled) = <[u8; WIDTH]>::try_from(unfilled) else { return };
        for (value, null) in values.as_chunks_mut::<WIDTH>().0.iter_mut().zip(own_nulls) {
            if *null == 1 {
                *value = unfilled;
            }
        }
    }
    match width {
        1 => mark::<1>(values, own_nulls, unfilled(cells)),
        2 => mark::<2>(values, own_nulls, unfilled(cells)),
        4 => mark::<4>(values, own_nulls, unfilled(cells)),
        _ => mark::<8>(values, own_nulls, unfilled(cells)),
    }
}

/// Decides which rows have no value, once the values are written, and gives those `zero`. `nulls` is what the host says, if it
/// said something; `unfilled` is empty where no value stands for "not filled".
pub fn take_nulls(data: &mut [u8], zero: &[u8], own_nulls: &mut [u8], nulls: Option<&[u8]>, unfilled: &[u8]) {
    match zero.len() {
        1 => take::<1>(data, zero, own_nulls, nulls, unfilled),
        2 => take::<2>(data, zero, own_nulls, nulls, unfilled),
        4 => take::<4>(data, zero, own_nulls, nulls, unfilled),
        _ => take::<8>(data, zero, own_nulls, nulls, unfilled),
    }
}

fn take<const WIDTH: usize>(
    data: &mut [u8],
    zero: &[u8],
    own_nulls: &mut [u8],
    nulls: Option<&[u8]>,
    unfilled: &[u8],
) {
    let unfilled = <[u8; WIDTH]>::try_from(unfilled).ok();
    let Ok(zero) = <[u8; WIDTH]>::try_from(zero) else { return };
    let values = data.as_chunks_mut::<WIDTH>().0;
    for (row, (own, value)) in own_nulls.iter_mut().zip(values).enumerate() {
        let was_null = *own != 0;
        let is_null = nulls.map_or(was_null, |nulls| nulls[row] != 0);
        let is_filled = was_null && unfilled.is_some_and(|unfilled| *value != unfilled);
        let is_null = is_null && !is_filled;
        *own = u8::from(is_null);
        *value = if is_null { zero } else { *value };
    }
}
