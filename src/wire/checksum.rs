//! The hash that a client's image is compared by. Pure; any thread.
//!
//! Invariant: it is a function of the topic and the fields in units, the same in every language.

use std::io::Write;

/// FNV-1a, 32 bits, over the topic, `=`, and the fields as decimal integers in units, separated by commas,
/// empty where there is none. A client compares its image by it.
#[must_use]
pub fn checksum(topic: &str, fields: impl IntoIterator<Item = Option<i128>>) -> u32 {
    let mut text = topic.as_bytes().to_vec();
    for (index, field) in fields.into_iter().enumerate() {
        text.push(if index == 0 { b'=' } else { b',' });
        if let Some(field) = field {
            write!(text, "{field}").expect("a Vec takes every byte");
        }
    }
    text.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_fnv_1a_of_the_text_in_the_protocol() {
        // Published test vectors of FNV-1a, 32 bits.
        assert_eq!(checksum("", []), 0x811c_9dc5);
        assert_eq!(checksum("foobar", []), 0xbf9c_f968);
        let fields = [Some(18941), Some(300), Some(18943), Some(200)];
        assert_eq!(checksum("quote:X", fields), checksum("quote:X=18941,300,18943,200", []));
        assert_eq!(checksum("quote:X", [None, Some(0)]), checksum("quote:X=,0", []));
    }
}
