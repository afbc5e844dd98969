//! Tests of captures: pcapng as well as pcap, and packets of other protocols.

use super::tests::{add, open, packet, pcap};
use crate::feed::Feed;
use crate::feed::formats::show::show;

/// A block of pcapng.
fn block(big_endian: bool, kind: u32, body: &[u8]) -> Vec<u8> {
    let number = |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() };
    let body = [body, &vec![0; body.len().next_multiple_of(4) - body.len()]].concat();
    let len = number(u32::try_from(body.len() + 12).unwrap());
    [&number(kind)[..], &len, &body, &len].concat()
}

/// The packets of a pcap as a section of pcapng, with times in units of 10^-`digits` s.
fn pcapng(big_endian: bool, digits: u8, packets: &[Vec<u8>]) -> Vec<u8> {
    let (u16, u32) = (
        |n: u16| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() },
        |n: u32| if big_endian { n.to_be_bytes() } else { n.to_le_bytes() },
    );
    let section = [&u32(0x1a2b_3c4d)[..], &u16(1), &u16(0), &[0xff; 8]].concat();
    let interface =
        [&u16(1)[..], &u16(0), &u32(0), &u16(9), &u16(1), &[digits, 0, 0, 0], &u16(0), &u16(0)].concat();
    let mut bytes = [block(big_endian, 0x0a0d_0d0a, &section), block(big_endian, 1, &interface)].concat();
    // Names, which hold no packets.
    bytes.extend(block(big_endian, 4, &[0; 4]));
    for packet in packets {
        let at = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let units = u64::from(at(0)) * 10_u64.pow(digits.into())
            + u64::from(at(4)) * 10_u64.pow(u32::from(digits) - 6);
        let (high, low) = (u32::try_from(units >> 32).unwrap(), u32::try_from(units & 0xffff_ffff).unwrap());
        let frame = &packet[16..];
        let len = u32(u32::try_from(frame.len()).unwrap());
        let body = [&u32(0)[..], &u32(high), &u32(low), &len, &len, frame].concat();
        bytes.extend(block(big_endian, 6, &body));
    }
    bytes
}

fn packets() -> Vec<Vec<u8>> {
    vec![
        packet(1, &[add(1, 1, b'B', 100, 100_000)]),
        packet(2, &[add(2, 2, b'S', 50, 100_500), add(3, 3, b'B', 1, 1)]),
    ]
}

#[test]
fn pcapng_is_read_as_pcap_is_in_any_byte_order_and_unit() {
    let expected = show(&mut open(pcap(&packets()), None));
    assert_eq!(expected.len(), 2, "{expected:?}");
    for (big_endian, digits) in [(false, 6), (false, 9), (true, 6), (true, 9)] {
        let bytes = pcapng(big_endian, digits, &packets());
        assert!(super::is_packets(&bytes));
        assert_eq!(show(&mut open(bytes, None)), expected);
    }
    // Sections one after the other, of either order.
    let both = [pcapng(true, 6, &packets()[..1]), pcapng(false, 9, &packets()[1..])].concat();
    assert_eq!(show(&mut open(both, None)), expected);
}

#[test]
fn a_capture_that_breaks_off_or_lies_about_a_length_ends_in_one_fault() {
    let bytes = pcapng(false, 6, &packets());
    for cut in 30..bytes.len() {
        let faults = show(&mut open(bytes[..cut].to_vec(), None));
        assert!(faults.iter().filter(|line| line.starts_with("x.itch")).count() <= 1, "{cut}: {faults:?}");
    }
    let mut wrong = bytes.clone();
    wrong.extend(block(false, 6, &[0; 20]));
    let second = bytes.len() + 4;
    wrong[second..second + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    let faults = show(&mut open(wrong, None));
    let expected = "a block of the capture says to be of 4294967295 bytes, which none can be";
    assert!(faults.last().unwrap().ends_with(expected), "{faults:?}");
}

#[test]
fn packets_of_iex_are_told_by_name() {
    // Header of IEX-TP: version 1, TOPS 1.6, channel, session, length, one message, and three numbers.
    let message = b"Q1234567";
    let header =
        [&[1, 0, 0x03, 0x80][..], &[0; 8], &[u8::try_from(message.len()).unwrap(), 0, 1, 0], &[0; 24]]
            .concat();
    let payload = [&header, &message[..]].concat();
    let mut iex = packet(1, &[]);
    // In place of the session, number and count of MoldUDP64.
    iex.truncate(iex.len() - 20);
    iex.extend(&payload);
    let (frame, udp) = (u32::try_from(iex.len() - 16).unwrap(), u16::try_from(payload.len() + 8).unwrap());
    iex[8..12].copy_from_slice(&frame.to_be_bytes());
    iex[12..16].copy_from_slice(&frame.to_be_bytes());
    let ip = 16 + 12 + 6;
    iex[ip + 2..ip + 4].copy_from_slice(&(udp + 20).to_be_bytes());
    iex[ip + 24..ip + 26].copy_from_slice(&udp.to_be_bytes());
    let mut feed = open(pcap(&[iex.clone(), iex]), None);
    assert!(show(&mut feed).is_empty());
    assert_eq!(feed.left_out_by_kind().to_string(), "IEX-TP packets of TOPS 1.6 (2)");
}
