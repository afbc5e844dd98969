use super::*;
use crate::feed::formats::show::show;
use proptest::prelude::*;
use std::io::Cursor;

/// A message at some ns after 09:30 in New York.
fn message(kind: u8, nanos: u64, fields: &[&[u8]]) -> Vec<u8> {
    let time = (34_200_000_000_000 + nanos).to_be_bytes();
    [&[kind, 0, 7, 0, 0], &time[2..], &fields.concat()].concat()
}

pub(super) fn add(nanos: u64, order: u64, side: u8, shares: u32, price: u32) -> Vec<u8> {
    let symbol = b"ACME    ";
    let fields: [&[u8]; 5] =
        [&order.to_be_bytes(), &[side], &shares.to_be_bytes(), symbol, &price.to_be_bytes()];
    message(b'A', nanos, &fields)
}

fn executed(nanos: u64, order: u64, shares: u32) -> Vec<u8> {
    message(b'E', nanos, &[&order.to_be_bytes(), &shares.to_be_bytes(), &[0; 8]])
}

fn system(nanos: u64, event: u8) -> Vec<u8> {
    let mut message = message(b'S', nanos, &[&[event]]);
    message[2] = 0;
    message
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let framed =
        |message: &Vec<u8>| [&u16::try_from(message.len()).unwrap().to_be_bytes(), &message[..]].concat();
    messages.iter().flat_map(framed).collect()
}

pub(super) fn open(bytes: Vec<u8>, date: Option<&str>) -> Itch {
    let date = date.map(|date| date.parse().unwrap());
    Itch::new("x.itch".to_owned(), Box::new(Cursor::new(bytes)), date).unwrap()
}

#[track_caller]
fn check(messages: &[Vec<u8>], expected: &[&str], left_out: u64) {
    let mut feed = open(framed(messages), Some("2023-08-22"));
    let shown: Vec<String> =
        show(&mut feed).iter().map(|line| line.replace("2023-08-22T13:30:00", "")).collect();
    assert_eq!(shown, expected);
    assert_eq!(feed.left_out(), left_out);
}

#[test]
fn orders_become_trades_and_the_best_bid_and_ask() {
    let shares = |shares: u32| shares.to_be_bytes();
    let id = |order: u64| order.to_be_bytes();
    check(
        &[
            add(1, 1, b'B', 100, 100_000),
            add(2, 2, b'S', 50, 100_500),
            add(3, 3, b'B', 40, 100_000),
            add(4, 4, b'B', 40, 99_900),
            executed(5, 1, 60),
            message(b'C', 6, &[&id(2), &shares(10), &[0; 8], b"Y", &100_400_u32.to_be_bytes()]),
            message(b'C', 7, &[&id(2), &shares(10), &[0; 8], b"N", &100_400_u32.to_be_bytes()]),
            message(b'X', 8, &[&id(3), &shares(15)]),
            message(b'U', 9, &[&id(2), &id(9), &shares(70), &100_600_u32.to_be_bytes()]),
            message(b'D', 10, &[&id(1)]),
            message(b'D', 11, &[&id(3)]),
        ],
        &[
            ".000000001Z quote ACME 10 x 100 / - x 0",
            ".000000002Z quote ACME 10 x 100 / 10.05 x 50",
            ".000000003Z quote ACME 10 x 140 / 10.05 x 50",
            ".000000005Z trade ACME 10 x 60 sell",
            ".000000005Z quote ACME 10 x 80 / 10.05 x 50",
            ".000000006Z trade ACME 10.04 x 10 buy",
            ".000000006Z quote ACME 10 x 80 / 10.05 x 40",
            ".000000007Z quote ACME 10 x 80 / 10.05 x 30",
            ".000000008Z quote ACME 10 x 65 / 10.05 x 30",
            ".000000009Z quote ACME 10 x 65 / 10.06 x 70",
            ".00000001Z quote ACME 10 x 25 / 10.06 x 70",
            ".000000011Z quote ACME 9.99 x 40 / 10.06 x 70",
        ],
        0,
    );
}

#[test]
fn what_is_broken_is_taken_back() {
    let traded = |nanos: u64, number: u64, shares: u32| {
        let price = 9_990_000_u32.to_be_bytes();
        let fields = [&[0; 8][..], b"B", &shares.to_be_bytes(), b"ACME    ", &price, &number.to_be_bytes()];
        message(b'P', nanos, &fields)
    };
    let broken = |nanos: u64, number: u64| message(b'B', nanos, &[&number.to_be_bytes()]);
    let executed = message(
        b'C',
        4,
        &[&1_u64.to_be_bytes(), &5_u32.to_be_bytes(), &77_u64.to_be_bytes(), b"N", &9_u32.to_be_bytes()],
    );
    check(
        &[
            traded(1, 902, 200),
            traded(2, 903, 7),
            broken(3, 902),
            add(3, 1, b'B', 100, 100_000),
            executed,
            broken(5, 77),
            broken(6, 902),
            // Of before the record began.
            broken(7, 1),
            system(8, b'O'),
            broken(9, 2),
        ],
        &[
            ".000000001Z trade ACME 999 x 200 none",
            ".000000002Z trade ACME 999 x 7 none",
            ".000000003Z trade ACME 999 x 200 none, counts for volume high_low last break, event .000000001Z",
            ".000000003Z quote ACME 10 x 100 / - x 0",
            ".000000004Z quote ACME 10 x 95 / - x 0",
            "x.itch message 10 (up to byte 287): trade 2 is broken, and was never told, or too many trades ago",
        ],
        4,
    );
}

#[test]
fn hidden_orders_and_crosses_are_trades_too() {
    let cross = |nanos: u64, shares: u64| {
        message(b'Q', nanos, &[&shares.to_be_bytes(), b"ACME    ", &123_400_u32.to_be_bytes(), &[0; 8], b"O"])
    };
    let hidden = [&[0; 8][..], b"B", &5_u32.to_be_bytes(), b"ACME    ", &111_100_u32.to_be_bytes(), &[0; 8]];
    check(
        &[message(b'P', 1, &hidden), cross(2, 5_000_000_000), cross(3, 0)],
        &[".000000001Z trade ACME 11.11 x 5 none", ".000000002Z trade ACME 12.34 x 5000000000 none \"O\""],
        1,
    );
}

#[test]
fn states_of_the_market_and_of_stocks_are_told() {
    let halt = |nanos: u64, state: &[u8]| message(b'H', nanos, &[b"ACME    ", state, b" ", b"    "]);
    let mut feed = open(
        framed(&[system(1, b'S'), system(2, b'Q'), halt(3, b"H"), halt(4, b"T"), system(5, b'M')]),
        Some("2023-08-22"),
    );
    let shown = show(&mut feed).join("\n");
    let states: Vec<_> = shown.split("state: ").skip(1).map(|rest| rest.split(',').next().unwrap()).collect();
    assert_eq!(states, ["PreOpen", "Open", "Halted", "Open", "Closed"], "{shown}");
}

#[test]
fn an_order_that_is_not_known_is_a_fault_only_where_the_day_was_seen_from_its_beginning() {
    check(&[executed(1, 5, 1)], &[], 1);
    check(
        &[system(1, b'O'), executed(2, 5, 1), add(3, 1, b'B', 1, 10_000)],
        &[
            "x.itch message 2 (up to byte 47): order 5 was never added",
            ".000000003Z quote ACME 1 x 1 / - x 0",
        ],
        1,
    );
}

#[test]
fn a_message_that_is_not_as_it_should_be_is_named_and_the_next_is_read() {
    let good = add(9, 1, b'B', 1, 10_000);
    let quote = ".000000009Z quote ACME 1 x 1 / - x 0";
    let bad = |message: Vec<u8>, reason: &str| {
        let expected = format!("x.itch message 1 (up to byte {}): {reason}", message.len() + 2);
        check(&[message, good.clone()], &[&expected, quote], 0);
    };
    bad(message(b'Z', 1, &[]), "'Z' is no type of message in ITCH 5.0");
    bad(message(b'A', 1, &[&[0; 3]]), "message 'A' has 14 bytes: expected 36");
    bad(add(1, 1, b'?', 1, 1), "side '?' is neither B nor S");
    bad(
        add(60_000_000_000_000, 1, b'B', 1, 1),
        "its time is 94200000000000 ns after midnight, which no day has",
    );
    let mut bytes = framed(&[good.clone(), good]);
    bytes.truncate(bytes.len() - 1);
    let mut feed = open(bytes, Some("2023-08-22"));
    assert_eq!(show(&mut feed)[1], "x.itch message 2 (up to byte 75): the file breaks off in a message");
}

/// Captured at 13:30:01 UTC; Ethernet with a VLAN's tag, IPv4, UDP, MoldUDP64.
pub(super) fn packet(first: u64, messages: &[Vec<u8>]) -> Vec<u8> {
    let count = u16::try_from(messages.len()).unwrap();
    let payload =
        [b"SESSION   ".as_slice(), &first.to_be_bytes(), &count.to_be_bytes(), &framed(messages)].concat();
    let udp = u16::try_from(payload.len() + 8).unwrap();
    let ip = [&[0x45, 0][..], &(udp + 20).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &[0; 8]].concat();
    let frame = [
        &[0; 12][..],
        &[0x81, 0, 0, 5, 0x08, 0x00],
        &ip,
        &[0, 1, 0, 2],
        &udp.to_be_bytes(),
        &[0, 0],
        &payload,
    ]
    .concat();
    let len = u32::try_from(frame.len()).unwrap().to_be_bytes();
    [&1_692_711_001_u32.to_be_bytes()[..], &[0, 0, 0, 9], &len, &len, &frame].concat()
}

pub(super) fn pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let header = [&[0xa1, 0xb2, 0xc3, 0xd4, 0, 2, 0, 4][..], &[0; 8], &[0, 4, 0, 0, 0, 0, 0, 1]].concat();
    [header, packets.concat()].concat()
}

#[test]
fn captured_packets_have_their_day_and_a_time_of_arrival() {
    let bytes = pcap(&[packet(1, &[add(1, 1, b'B', 1, 10_000), executed(2, 1, 1)])]);
    assert!(is_itch(&bytes));
    let mut feed = open(bytes, None);
    assert!(!feed.needs_date());
    assert_eq!(
        show(&mut feed),
        [
            "2023-08-22T13:30:01.000009Z quote ACME 1 x 1 / - x 0, event 2023-08-22T13:30:00.000000001Z",
            "2023-08-22T13:30:01.000009Z trade ACME 1 x 1 sell, event 2023-08-22T13:30:00.000000002Z",
            "2023-08-22T13:30:01.000009Z quote ACME - x 0 / - x 0, event 2023-08-22T13:30:00.000000002Z",
        ]
    );
}

#[test]
fn packets_that_come_twice_are_read_once_and_missing_ones_are_told() {
    let order = |number: u64| add(number, number, b'B', 1, 10_000 + u32::try_from(number).unwrap() * 100);
    let orders = |numbers: std::ops::Range<u64>| numbers.map(order).collect::<Vec<_>>();
    let mut arp = packet(1, &orders(1..3));
    arp[16 + 17] = 0x06;
    let bytes = pcap(&[
        packet(1, &orders(1..3)),
        packet(1, &orders(1..3)),
        packet(2, &orders(2..4)),
        arp,
        packet(9, &orders(9..10)),
    ]);
    let mut feed = open(bytes, None);
    let shown: Vec<String> =
        show(&mut feed).iter().map(|line| line.split(" / ").next().unwrap().to_owned()).collect();
    let quote = |bid: &str| format!("2023-08-22T13:30:01.000009Z quote ACME {bid} x 1");
    assert_eq!(shown[..3], [quote("1.01"), quote("1.02"), quote("1.03")]);
    let empty = "2023-08-22T13:30:01.000009Z quote ACME - x 0";
    assert_eq!(shown[3], empty, "it is told before the fault");
    let missing = "messages 4 to 8 are missing";
    assert!(shown[4].ends_with(missing), "{}", shown[4]);
    assert_eq!(shown[5..], [quote("1.09")]);
    assert_eq!(feed.left_out(), 1, "the packet that is none of the feed");
}

#[test]
fn a_file_of_messages_is_told_by_its_first_ones() {
    let bytes = framed(&[system(1, b'O'), add(2, 1, b'B', 1, 1)]);
    for cut in 3..bytes.len() {
        assert!(is_itch(&bytes[..cut]), "{cut}");
    }
    assert!(!is_itch(b"") && !is_itch(b"\0\x0c") && !is_itch(b"\0\x0dS") && !is_itch(b"time,bid,ask"));
    let mut wrong = bytes;
    wrong[14] = 1;
    assert!(!is_itch(&wrong));
}

proptest! {
    #[test]
    fn quotes_are_the_best_of_the_orders_that_stand(ops in prop::collection::vec((0..10_u64, any::<bool>(), 1..5_u32, 1..5_u32), 1..100)) {
        let mut stands = std::collections::BTreeMap::new();
        let mut messages = Vec::new();
        for (order, is_bid, shares, price) in ops {
            if stands.remove(&order).is_some() {
                messages.push(message(b'D', 0, &[&order.to_be_bytes()]));
            } else {
                stands.insert(order, (is_bid, price));
                messages.push(add(0, order, if is_bid { b'B' } else { b'S' }, shares, price * 10_000));
            }
        }
        let last = show(&mut open(framed(&messages), Some("2023-08-22"))).pop().unwrap();
        let best = |is_bid: bool, pick: fn(u32, u32) -> u32| {
            let prices = stands.values().filter(|order| order.0 == is_bid).map(|order| order.1);
            prices.reduce(pick).map_or_else(|| "-".to_owned(), |price| price.to_string())
        };
        let told = format!(" quote ACME {} x ", best(true, u32::max));
        prop_assert!(last.contains(&told), "{last}: expected {told}");
        let told = format!(" / {} x ", best(false, u32::min));
        prop_assert!(last.contains(&told), "{last}: expected {told}");
    }
}
