//! Readers of recordings against files that are not what they seem: whatever a file holds, no reader panics, loops, or takes memory that the
//! file only claims to need.

use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder};
use dbn::{
    BidAskPair, FlagSet, MappingInterval, MboMsg, Mbp1Msg, MetadataBuilder, RecordHeader, SType, Schema,
};
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Write;
use std::path::Path;
use tickcast::feed::Strict;
use tickcast::feed::formats::recording::{RecordingHeader, RecordingWriter};
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::market::{Event, Instruments, Symbol, Timestamp};

/// The system's allocator, which remembers the largest piece that each thread asked for.
struct Watching;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends may allocate when its locals are gone already.
    let _ = LARGEST.try_with(|largest| largest.set(largest.get().max(size)));
}

// SAFETY: each method hands its arguments on to `System` unchanged, whose contract is the same; noting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static WATCHING: Watching = Watching;

/// Buffers have at most 128 KiB, and what grows with a file of a few KB stays below this, too.
const MOST: usize = 1 << 20;

const DAY: u64 = 1_704_067_200_000_000_000; // 2024-01-01T00:00:00Z

/// One small file of each form: a name, and content that is right.
fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let text = |name, text: &str| (name, text.as_bytes().to_vec());
    let mut samples = vec![
        text(
            "quotes.csv",
            "time,symbol,bid,bid_size,ask,ask_size\n2024-01-01T00:00:00Z,A,1.5,2,1.6,3\n1704067201,B,,,2,1\n",
        ),
        text("trades.csv", "time,symbol,price,size,side\n2024-01-01T00:00:00Z,\"A\",1.5,2,buy\n"),
        text(
            "taq.csv",
            "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR\n2018-01-02T10:01:21.479000Z,P,XXX,F I,2,157.8,0\n",
        ),
        text(
            "levels.csv",
            "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount\n\
             d,X,1585699200245000,1585699200355684,true,bid,10,1\nd,X,1585699200245000,1585699200355685,false,ask,12,2\n",
        ),
        text("20140502_eurusd_tick_quote.csv", "611,1.38626,1.38627\n809.25,1.38626,1.38626\n"),
        text(
            "DAT_ASCII_EURUSD_T_202001.csv",
            "20200101 170000065,1.121200,1.121720,0\n20200101 170010447,1.1212,1.12192,0\n",
        ),
        text("truefx.csv", "EUR/USD,20090501 00:00:00.295,1.32378,1.32383\n"),
        text(
            "binance",
            concat!(
                "1723161254087891268 {\"stream\":\"a@bookTicker\",\"data\":{\"s\":\"A\",\"b\":\"1\",\"B\":\"1\",\"a\":\"2\",\"A\":\"1\"}}\n",
                "1723161254087891269 {\"stream\":\"a@trade\",\"data\":{\"s\":\"A\",\"p\":\"1.5\",\"q\":\"1\",\"T\":1723161255342,\"m\":true}}\n",
                "1723161254087891270 {\"stream\":\"a@depth\",\"data\":{\"s\":\"A\",\"U\":1,\"u\":2,\"b\":[[\"1\",\"1\"]],\"a\":[]}}\n",
                "1723161254087891271 {\"lastUpdateId\":1,\"bids\":[[\"1\",\"2\"]],\"asks\":[[\"2\",\"2\"]]}\n",
            ),
        ),
        text(
            "cryptofeed",
            concat!(
                "wss://x <-> 1618678132.368463\nwss://x <- 1618678132.5: {}\n",
                "1618678142.592855: [993,[[\"354.11\",\"0.8\",\"1618678142.5\",\"s\",\"l\",\"\"]],\"trade\",\"XMR/USD\"]\n",
                "1618678142.6: [1,{\"as\":[[\"2\",\"1\",\"1.5\"]],\"bs\":[[\"1\",\"1\",\"1.5\"]]},\"book-10\",\"X/Y\"]\n",
                "1618678142.7: [1,{\"a\":[[\"2\",\"0\",\"1.5\"]]},{\"b\":[[\"1\",\"2\",\"1.5\"]],\"c\":\"7\"},\"book-10\",\"X/Y\"]\n",
                "1618678143: {\"type\":\"snapshot\",\"product_id\":\"A-B\",\"bids\":[[\"9\",\"1\"]],\"asks\":[]}\n",
                "1618678144: {\"type\":\"l2update\",\"product_id\":\"A-B\",\"changes\":[[\"buy\",\"9\",\"0\"]],\"time\":\"2021-04-17T16:43:30Z\"}\n",
                "1618678145: {\"table\":\"orderBookL2\",\"action\":\"partial\",\"data\":[{\"symbol\":\"X\",\"id\":1,\"side\":\"Buy\",\"size\":9,\"price\":3.5e-7}]}\n",
                "1618678146: {\"data\":{\"amount_str\":\"1\",\"price_str\":\"2\",\"type\":0,\"microtimestamp\":\"1641343699596000\"},\"channel\":\"live_trades_x\",\"event\":\"trade\"}\n",
            ),
        ),
    ];
    samples.push(("x.tape", tape()));
    samples.push(("mbp.dbn", dbn(Schema::Mbp1, &[mbp1(0), mbp1(1)])));
    samples.push(("mbo.dbn", dbn(Schema::Mbo, &[mbo(0, 'R', 'N'), mbo(1, 'A', 'B'), mbo(2, 'C', 'B')])));
    samples.push(("20230822.itch", itch()));
    samples.push(("x.pcap", pcap()));
    for index in [0, 10, 12] {
        let (name, content) = samples[index].clone();
        samples.push((name, zstd::encode_all(&content[..], 1).unwrap()));
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&content).unwrap();
        samples.push((name, packer.finish().unwrap()));
    }
    let (name, content) = samples[0].clone();
    samples.push(("x.zip", zip(name, &content)));
    samples
}

fn tape() -> Vec<u8> {
    let (mut instruments, mut events) = (Instruments::default(), Vec::new());
    let id = instruments.intern(&Symbol::new("A").unwrap(), &mut events);
    let time = Timestamp::from_nanos(DAY.cast_signed());
    let values =
        tickcast::market::QuoteValues { bid: Some(1.into()), ask: Some(2.into()), ..Default::default() };
    let quote = instruments.quote(id, &values, (time, time), &mut events).unwrap();
    events.push(Event::Quote(id, quote));
    let mut writer = RecordingWriter::new(Vec::new(), &RecordingHeader::default()).unwrap();
    writer.append(1, time, &events).unwrap();
    writer.finish().unwrap()
}

fn letter(letter: char) -> std::ffi::c_char {
    std::ffi::c_char::try_from(letter as u32).unwrap()
}

fn mbp1(nanos: u64) -> Mbp1Msg {
    Mbp1Msg {
        hd: RecordHeader::new::<Mbp1Msg>(dbn::rtype::MBP_1, 1, 42, DAY + nanos),
        price: 1_000_000_000,
        size: 1,
        action: letter('T'),
        side: letter('A'),
        flags: FlagSet::default(),
        depth: 0,
        ts_recv: DAY + nanos,
        ts_in_delta: 0,
        sequence: 1,
        levels: [BidAskPair {
            bid_px: 1_000_000_000,
            ask_px: 2_000_000_000,
            bid_sz: 1,
            ask_sz: 1,
            ..BidAskPair::default()
        }],
    }
}

fn mbo(nanos: u64, action: char, side: char) -> MboMsg {
    MboMsg {
        hd: RecordHeader::new::<MboMsg>(dbn::rtype::MBO, 1, 42, DAY + nanos),
        order_id: 1,
        price: 1_000_000_000,
        size: 1,
        flags: FlagSet::from(0x80),
        channel_id: 0,
        action: letter(action),
        side: letter(side),
        ts_recv: DAY + nanos,
        ts_in_delta: 0,
        sequence: 1,
    }
}

fn dbn<T: DbnEncodable>(schema: Schema, records: &[T]) -> Vec<u8> {
    let mut metadata = MetadataBuilder::new()
        .dataset("GLBX.MDP3".to_owned())
        .schema(Some(schema))
        .start(DAY)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let start_date = metadata.start().date();
    let end_date = start_date.next_day().unwrap();
    let intervals = vec![MappingInterval { start_date, end_date, symbol: "42".to_owned() }];
    metadata.mappings.push(dbn::SymbolMapping { raw_symbol: "ESH4".to_owned(), intervals });
    let mut encoder = Encoder::new(Vec::new(), &metadata).unwrap();
    encoder.encode_records(records).unwrap();
    encoder.get_ref().clone()
}

/// An order that is added and executed, each message behind its length.
fn itch() -> Vec<u8> {
    let header = |kind: u8| [&[kind, 0, 7, 0, 0], &[0, 0, 0x1f, 0, 0, 0][..]].concat();
    let add = [
        &header(b'A')[..],
        &1_u64.to_be_bytes(),
        b"B",
        &100_u32.to_be_bytes(),
        b"ACME    ",
        &1_573_000_u32.to_be_bytes(),
    ];
    let executed = [&header(b'E')[..], &1_u64.to_be_bytes(), &40_u32.to_be_bytes(), &9_u64.to_be_bytes()];
    [add.concat(), executed.concat()].iter().flat_map(|message| framed(message)).collect()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
}

/// The same as one captured packet.
fn pcap() -> Vec<u8> {
    let payload = [b"SESSION   ".as_slice(), &1_u64.to_be_bytes(), &2_u16.to_be_bytes(), &itch()].concat();
    let udp = u16::try_from(payload.len() + 8).unwrap();
    let ip = [&[0x45, 0][..], &(udp + 20).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0], &[0; 8]].concat();
    let packet =
        [&[0; 12][..], &[0x08, 0x00], &ip, &[0, 1, 0, 2], &udp.to_be_bytes(), &[0, 0], &payload].concat();
    let len = u32::try_from(packet.len()).unwrap().to_le_bytes();
    let header = [&[0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0][..], &[0; 8], &[0, 0, 4, 0, 1, 0, 0, 0]].concat();
    [&header[..], &1_692_711_000_u32.to_le_bytes(), &[0; 4], &len, &len, &packet].concat()
}

fn zip(name: &str, content: &[u8]) -> Vec<u8> {
    let mut crc = flate2::Crc::new();
    crc.update(content);
    let len = u32::try_from(content.len()).unwrap().to_le_bytes();
    let name_len = u16::try_from(name.len()).unwrap().to_le_bytes();
    let fields = [
        &[20, 0, 0, 0, 0, 0, 0, 0, 0x21, 0x28][..],
        &crc.sum().to_le_bytes(),
        &len,
        &len,
        &name_len,
        &[0, 0],
    ]
    .concat();
    let local = [b"PK\x03\x04".as_slice(), &fields, name.as_bytes(), content].concat();
    let directory = [b"PK\x01\x02\x14\0".as_slice(), &fields, &[0; 14], name.as_bytes()].concat();
    let [at, size] = [local.len(), directory.len()].map(|n| u32::try_from(n).unwrap().to_le_bytes());
    [&local[..], &directory, b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &size, &at, &[0, 0]].concat()
}

/// Reads a file to its end: how many batches and errors came, and the largest piece of memory it took.
fn read(
    folder: &Path,
    name: &str,
    content: &[u8],
    best_quotes: bool,
    strict: bool,
) -> (usize, Vec<String>, usize) {
    let path = folder.join(name);
    std::fs::write(&path, content).unwrap();
    LARGEST.set(0);
    let options = OpenOptions { best_quotes, ..OpenOptions::default() };
    let (mut batches, mut errors) = (0, Vec::new());
    match open(&path, &options) {
        Err(error) => {
            errors.push(error.to_string());
        }
        Ok(feed) => {
            let mut feed = if strict { Box::new(Strict::new(feed)) } else { feed };
            let (mut instruments, mut events) = (Instruments::default(), Vec::new());
            let mut latest = None;
            loop {
                match feed.next(&mut instruments, &mut events) {
                    Ok(None) => break,
                    Ok(Some(time)) => {
                        assert!(latest.is_none_or(|latest| latest <= time), "time runs back");
                        latest = Some(time);
                        batches += 1;
                    }
                    Err(error) => errors.push(error.to_string()),
                }
                events.clear();
                assert!(batches + errors.len() <= content.len() * 1024 + 16, "it does not end");
            }
        }
    }
    (batches, errors, LARGEST.get())
}

#[test]
fn every_sample_is_read_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in samples() {
        let (batches, errors, largest) = read(folder.path(), name, &content, false, false);
        // Of the captured book, the checksum is made up.
        assert_eq!(errors.len(), usize::from(name == "cryptofeed"), "{name}: {errors:?}");
        assert!(batches > 0 && largest <= MOST, "{name}: {batches} batches, {largest} bytes");
    }
}

/// A change to a file: at a place between 0 and 1.
#[derive(Clone, Debug)]
enum Damage {
    Set(f64, u8),
    Flip(f64, u8),
    Insert(f64, Vec<u8>),
    Remove(f64, usize),
    Repeat(f64, usize),
    Cut(f64),
    /// The largest or smallest number in four bytes: what a length or a count looks like when it lies.
    Lie(f64, bool),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = || 0.0..1.0_f64;
    prop_oneof![
        (at(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
        (at(), 0..8_u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
        (at(), prop::collection::vec(any::<u8>(), 1..20)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (at(), 1..20_usize).prop_map(|(at, len)| Damage::Remove(at, len)),
        (at(), 1..200_usize).prop_map(|(at, len)| Damage::Repeat(at, len)),
        at().prop_map(Damage::Cut),
        (at(), any::<bool>()).prop_map(|(at, large)| Damage::Lie(at, large)),
    ]
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a place in a small file"
)]
fn place(at: f64, len: usize) -> usize {
    (at * len as f64) as usize
}

fn damaged(mut content: Vec<u8>, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        let len = content.len();
        let upto = |at: usize, n: usize| at..(at + n).min(len);
        match damage {
            _ if len == 0 => {}
            Damage::Set(at, byte) => content[place(*at, len)] = *byte,
            Damage::Flip(at, bits) => content[place(*at, len)] ^= bits,
            Damage::Insert(at, bytes) => {
                let at = place(*at, len);
                content.splice(at..at, bytes.iter().copied());
            }
            Damage::Remove(at, n) => drop(content.drain(upto(place(*at, len), *n))),
            Damage::Repeat(at, n) => {
                let at = place(*at, len);
                let again = content[upto(at, *n)].to_vec();
                content.splice(at..at, again);
            }
            Damage::Cut(at) => content.truncate(place(*at, len)),
            Damage::Lie(at, large) => {
                let at = place(*at, len);
                content[upto(at, 4)].fill(if *large { 0xff } else { 0 });
            }
        }
    }
    content
}

/// What files of each form begin with.
const STARTS: &[&[u8]] = &[
    b"",
    b"DBN\x03",
    b"PK\x03\x04",
    b"\x1f\x8b\x08\0",
    b"\x28\xb5\x2f\xfd",
    b"\x82\xa6format",
    b"\x4d\x3c\xb2\xa1\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\x04\0\x01\0\0\0",
    b"\0\x0cS\0\0\0\0\0\0\0\0\0\0O",
    b"1 {",
    b"1.5: [",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_file_costs_nothing_but_what_is_damaged(
        sample in 0..samples().len(),
        damages in prop::collection::vec(damage(), 1..6),
        best_quotes: bool,
        strict: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (name, content) = samples().swap_remove(sample);
        let content = damaged(content, &damages);
        let (_, errors, largest) = read(folder.path(), name, &content, best_quotes, strict);
        prop_assert!(largest <= MOST, "{name}: {largest} bytes at once");
        prop_assert!(errors.iter().all(|error| error.contains(name) && !error.ends_with(": ")), "{errors:?}");
        prop_assert!(!strict || errors.len() <= 1, "{name}: a strict feed ends at its first error");
    }

    #[test]
    fn bytes_without_sense_are_refused_or_read_to_their_end(
        start in prop::sample::select(STARTS),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
        name in prop_oneof![Just("x.csv"), Just("x.dbn"), Just("x.tape"), Just("x"), Just("20240101.itch"), Just("20140502_x_tick_quote.csv")],
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (_, _, largest) = read(folder.path(), name, &[start, &bytes[..]].concat(), true, false);
        prop_assert!(largest <= MOST, "{largest} bytes at once");
    }
}
