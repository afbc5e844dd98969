use super::MAX_DEPTH;
use rmp::Marker;

/// The bytes of the first `MessagePack` value, without reading it; `None` if it is truncated or nests too
/// deeply.
///
/// So the next event is found even after a bad one. (`rmp`'s own `MessageLen` panics on extensions.)
pub(super) fn value_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // How many values are still to come, at each level.
    let mut open = vec![1_u64];
    while let Some(left) = open.last_mut() {
        if *left == 0 {
            open.pop();
            continue;
        }
        *left -= 1;
        let (payload, values) = head(&mut rest)?;
        rest = rest.get(payload..)?;
        if values > 0 {
            open.push(values);
        }
        if open.len() > MAX_DEPTH {
            return None;
        }
    }
    Some(bytes.len() - rest.len())
}

/// Takes a value's marker and length: the bytes that follow it, and the values inside it.
fn head(rest: &mut &[u8]) -> Option<(usize, u64)> {
    let (&marker, after) = rest.split_first()?;
    *rest = after;
    let bytes = |len: u64| usize::try_from(len).ok().map(|len| (len, 0));
    match Marker::from_u8(marker) {
        Marker::FixPos(_) | Marker::FixNeg(_) | Marker::Null | Marker::True | Marker::False => Some((0, 0)),
        Marker::U8 | Marker::I8 => Some((1, 0)),
        Marker::U16 | Marker::I16 | Marker::FixExt1 => Some((2, 0)),
        Marker::FixExt2 => Some((3, 0)),
        Marker::U32 | Marker::I32 | Marker::F32 => Some((4, 0)),
        Marker::FixExt4 => Some((5, 0)),
        Marker::U64 | Marker::I64 | Marker::F64 => Some((8, 0)),
        Marker::FixExt8 => Some((9, 0)),
        Marker::FixExt16 => Some((17, 0)),
        Marker::FixStr(len) => bytes(len.into()),
        Marker::Str8 | Marker::Bin8 => bytes(length(rest, 1)?),
        Marker::Str16 | Marker::Bin16 => bytes(length(rest, 2)?),
        Marker::Str32 | Marker::Bin32 => bytes(length(rest, 4)?),
        Marker::Ext8 => bytes(length(rest, 1)? + 1),
        Marker::Ext16 => bytes(length(rest, 2)? + 1),
        Marker::Ext32 => bytes(length(rest, 4)? + 1),
        Marker::FixArray(len) => Some((0, len.into())),
        Marker::Array16 => Some((0, length(rest, 2)?)),
        Marker::Array32 => Some((0, length(rest, 4)?)),
        Marker::FixMap(len) => Some((0, u64::from(len) * 2)),
        Marker::Map16 => Some((0, length(rest, 2)? * 2)),
        Marker::Map32 => Some((0, length(rest, 4)? * 2)),
        Marker::Reserved => None,
    }
}

/// Takes a big-endian number of `width` bytes.
fn length(rest: &mut &[u8], width: usize) -> Option<u64> {
    let (number, after) = rest.split_at_checked(width)?;
    *rest = after;
    Some(number.iter().fold(0, |number, &byte| (number << 8) | u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u8], expected: Option<usize>) {
        assert_eq!(value_len(bytes), expected);
        // What follows a value does not change its length, and no prefix of it is a value.
        if let Some(len) = expected {
            assert_eq!(value_len(&[bytes, &[0xc1; 4]].concat()), Some(len));
            assert!((0..len).all(|cut| value_len(&bytes[..cut]).is_none()));
        }
    }

    #[test]
    fn every_kind_of_value_has_its_length() {
        check(&[0x07], Some(1));
        check(&[0xc0], Some(1));
        check(&[0xcb, 0, 0, 0, 0, 0, 0, 0, 0], Some(9));
        check(&[0xa2, b'a', b'b'], Some(3));
        check(&[0xd9, 1, b'a'], Some(3));
        check(&[0xc4, 2, 0, 0], Some(4));
        check(&[0xd4, 1, 0], Some(3));
        check(&[0xc7, 2, 1, 0, 0], Some(5));
        check(&[0x82, 1, 0x91, 2, 3, 0x80], Some(6));
        check(&[0xdc, 0, 2, 1, 2], Some(5));
        check(&[0xde, 0, 1, 1, 2], Some(5));
    }

    #[test]
    fn what_is_no_whole_value_has_none() {
        check(&[], None);
        check(&[0xc1], None);
        check(&[0xdf, 0xff, 0xff, 0xff, 0xff, 0], None);
        check(&[0xdb, 0xff, 0xff, 0xff, 0xff, 0], None);
        check(&[&[0x91; 100][..], &[0]].concat(), None);
    }
}
