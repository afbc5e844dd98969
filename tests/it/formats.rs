//! Readers of recordings against files that are not what they seem: whatever a file holds, no reader panics,
//! loops, or takes memory that the file only claims to need.

use crate::allocator::Watch;
use dbn::encode::{DbnEncodable, EncodeRecord, dbn::Encoder};
use dbn::{
    BidAskPair, FlagSet, MappingInterval, MboMsg, Mbp1Msg, MetadataBuilder, RecordHeader, SType, Schema,
};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::data_type::{
    ByteArray, ByteArrayType, DoubleType, FixedLenByteArray, FixedLenByteArrayType, Int64Type,
};
use parquet::file::properties::{WriterProperties, WriterVersion};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::feed::{Feed, Recordings, Source, Strict, Translator};
use tickcast::hub::Replica;
use tickcast::market::{Event, Instruments, Symbol, Timestamp};
use tickcast::record::Recorder;
use tickcast::recording::{RecordingHeader, RecordingReader, RecordingWriter};
use tickcast::tape::{Batch, Epoch, Position};

/// Buffers have at most 128 KiB, and what grows with a file of a few KB stays below this, too.
const MOST: usize = 1 << 20;
/// A page of Parquet is unpacked at once, and may be what it says up to this.
const MOST_OF_PARQUET: usize = 4 << 20;

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
            "alpaca",
            concat!(
                "[{\"T\":\"q\",\"S\":\"A\",\"bp\":1.5,\"bs\":2,\"ap\":1.6,\"as\":1,\"t\":\"2024-01-01T00:00:00Z\",\"z\":\"C\"}]\n",
                "[{\"T\":\"t\",\"S\":\"A\",\"i\":1,\"x\":\"D\",\"p\":1.5,\"s\":9,\"c\":[\"@\",\"I\"],\"t\":\"2024-01-01T00:00:01Z\",\"z\":\"C\"}]\n",
                "[{\"T\":\"c\",\"S\":\"A\",\"x\":\"D\",\"oi\":1,\"ci\":2,\"cp\":1.55,\"cs\":8,\"cc\":[\"@\"],\"t\":\"2024-01-01T00:00:02Z\",\"z\":\"C\"}]\n",
                "[{\"T\":\"x\",\"S\":\"A\",\"i\":2,\"x\":\"D\",\"a\":\"C\",\"t\":\"2024-01-01T00:00:03Z\"}]\n",
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
    for index in [0, 11, 13] {
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
    let watch = Watch::start();
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
    (batches, errors, watch.largest())
}

#[test]
fn every_sample_is_read_as_it_is() {
    let folder = folder();
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
    /// A piece of itself at another place: from there, so much, over what is here.
    Splice(f64, usize, f64),
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
        (at(), 1..200_usize, at()).prop_map(|(from, n, at)| Damage::Splice(from, n, at)),
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
            Damage::Splice(from, n, at) => {
                let piece = content[upto(place(*from, len), *n)].to_vec();
                let at = place(*at, len);
                content.splice(upto(at, *n), piece);
            }
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
    b"PAR1\x15\0\x15\x80\x01\x15\x80\x01",
    b"[{\"T\":\"t\",",
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
        let folder = folder();
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
        let folder = folder();
        let (_, _, largest) = read(folder.path(), name, &[start, &bytes[..]].concat(), true, false);
        prop_assert!(largest <= MOST, "{largest} bytes at once");
    }
}

/// Where damage comes from: the same every time.
struct Random(u64);

impl Random {
    /// Splitmix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }

    fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[0]
    }
}

/// Another form of `content`, in some places. Bytes that are everywhere in these forms, or that a number is
/// extreme by, are tried more often.
fn spoil(mut content: Vec<u8>, others: &[Form], random: &mut Random) -> Vec<u8> {
    const LIKELY: &[u8] =
        b"\0\x01\x02\x03\x04\x0c\x12\x13\x14\x16\x17\x7f\x80\x81\xa0\xc1\xff\n\r,\".-+eE0123456789{}[]:\x1b";
    for _ in 0..=random.below(4) {
        let len = content.len();
        if len == 0 {
            break;
        }
        let at = random.below(len);
        let end = |n: usize| at..(at + n).min(len);
        match random.below(11) {
            0 => content[at] = random.byte(),
            1 => content[at] ^= 1 << random.below(8),
            2 | 3 => content[at] = LIKELY[random.below(LIKELY.len())],
            4 => {
                let range = end(1 << random.below(4));
                content[range].fill([0, 0xff, 0x7f, 0x80][random.below(4)]);
            }
            // The largest number of its width, from either end.
            5 => {
                let range = end(1 << random.below(4));
                let (first, last) = (range.start, range.end - 1);
                content[range].fill(0xff);
                content[[first, last][random.below(2)]] = 0x7f;
            }
            6 => {
                let some: Vec<u8> = (0..random.below(20)).map(|_| random.byte()).collect();
                content.splice(at..at, some);
            }
            7 => drop(content.drain(end(1 + random.below(40)))),
            8 => {
                let from = random.below(len);
                let piece = content[from..(from + 1 + random.below(200)).min(len)].to_vec();
                let range = if random.below(2) == 0 { end(piece.len()) } else { at..at };
                content.splice(range, piece);
            }
            9 => {
                let other = &others[random.below(others.len())].content;
                let from = random.below(other.len());
                content.splice(at.., other[from..].iter().copied());
            }
            _ => content.truncate(at),
        }
    }
    content
}

/// A file of a form: its name, and what is in it below its packing.
struct Form {
    name: &'static str,
    content: Vec<u8>,
    /// Whether it is always packed so: the damage comes below.
    is_zstd: bool,
}

/// What is read of each form: as many kinds of records as there are.
fn forms() -> Vec<Form> {
    let mut forms: Vec<Form> = samples()
        .into_iter()
        .filter(|(_, content)| !content.starts_with(b"PK") && !content.starts_with(b"\x1f\x8b"))
        .map(|(name, content)| Form { name, content, is_zstd: false })
        .collect();
    let mut add = |name, content: Vec<u8>| forms.push(Form { name, content, is_zstd: false });
    let usual = WriterProperties::builder().set_compression(Compression::SNAPPY);
    add("usual.parquet", parquet(usual.build()));
    let newer = WriterProperties::builder().set_writer_version(WriterVersion::PARQUET_2_0);
    let newer = newer.set_compression(Compression::ZSTD(ZstdLevel::default()));
    add("dictionaries.parquet", parquet(newer.clone().build()));
    // Without dictionaries integers and texts are told by their differences.
    add("deltas.parquet", parquet(newer.set_dictionary_enabled(false).build()));
    let lengths = WriterProperties::builder().set_dictionary_enabled(false);
    add(
        "lengths.parquet",
        parquet(lengths.set_column_encoding("symbol".into(), Encoding::DELTA_LENGTH_BYTE_ARRAY).build()),
    );
    let text = |text: &str| text.as_bytes().to_vec();
    add(
        "events.jsonl",
        text(concat!(
            "{\"type\":\"instrument\",\"symbol\":\"A\",\"name\":\"An A\",\"sector\":\"x\",\"tick_size\":\"0.01\",\"price_scale\":4,\"previous_close\":1.5}\n",
            "{\"type\":\"quote\",\"symbol\":\"A\",\"bid\":\"1.5\",\"bid_size\":2,\"ask\":null,\"ts_event\":1704067200000}\n",
            "{\"type\":\"trade\",\"symbol\":\"A\",\"price\":1.5,\"size\":2,\"side\":\"buy\",\"conditions\":\"I\",\"ts_event\":\"2024-01-01T00:00:01Z\"}\n",
            "{\"type\":\"status\",\"symbol\":\"A\",\"state\":\"halted\",\"ts_event\":1704067202}\n",
        )),
    );
    add(
        "events.csv",
        text(concat!(
            "type,time,ts_recv,symbol,bid,bid_size,ask,ask_size,price,size,side,conditions,state,name,sector,currency,tick_size,price_scale,size_scale,previous_close\n",
            "instrument,,,A,,,,,,,,,,An A,x,USD,0.01,2,0,1.00\n",
            "quote,2024-01-01T00:00:00Z,,A,1.00,2,,,,,,,,,,,,,,\n",
            "trade,2024-01-01T00:00:01Z,2024-01-01T00:00:02Z,A,,,,,1.10,3,sell,I,,,,,,,,\n",
            "status,2024-01-01T00:00:03Z,,,,,,,,,,,closed,,,,,,,\n",
        )),
    );
    add(
        "book.csv",
        text(concat!(
            "exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount\n",
            "d,X,1585699200245000,1585699200355684,12,1,10,1\nd,X,1585699200245000,1585699200355685,12,2,10,1\n",
        )),
    );
    add("all.itch", all_itch());
    for (name, content) in all_dbn() {
        add(name, content);
    }
    let tape = whole_tape();
    add("unpacked.tape", zstd::decode_all(&tape[..]).unwrap());
    forms.push(Form { name: "packed.tape", content: zstd::decode_all(&tape[..]).unwrap(), is_zstd: true });
    forms.push(Form { name: "whole.tape", content: tape, is_zstd: false });
    forms
}

/// A message of each type, in its length, of an order that is there.
fn all_itch() -> Vec<u8> {
    const LENGTHS: &[u8] = b"S\x0cR\x27H\x19Y\x14L\x1aV\x23W\x0cK\x1cJ\x23h\x15A\x24F\x28E\x1fC\x24X\x17U\x23D\x13P\x2cQ\x28B\x13I\x32N\x14";
    let mut messages = Vec::new();
    for pair in LENGTHS.chunks(2) {
        let mut message = vec![0; usize::from(pair[1])];
        message[..11].copy_from_slice(&[
            pair[0],
            0,
            7,
            0,
            0,
            0,
            0x1f,
            0,
            0,
            0,
            messages.len().to_le_bytes()[0],
        ]);
        // Its order, side, shares, symbol and price, where an order has them.
        let order = b"\x01B\0\0\0\x64ACME    \0\x18\0\x88";
        for (to, from) in message.iter_mut().skip(18).zip(order) {
            *to = *from;
        }
        if pair[0] == b'R' {
            message[11..19].copy_from_slice(b"ACME    ");
        }
        messages.extend(framed(&message));
    }
    messages
}

/// Quotes in two groups of rows.
fn parquet(properties: WriterProperties) -> Vec<u8> {
    const SCHEMA: &str = "message quotes {
        required int64 time (TIMESTAMP(MICROS, true));
        required binary symbol (UTF8);
        optional fixed_len_byte_array(9) bid (DECIMAL(20, 4));
        optional int64 bid_size (DECIMAL(18, 2));
        optional double ask;
        required double ask_size;
    }";
    const ROWS: usize = 40;
    let rows = 0..i64::try_from(ROWS).unwrap();
    let levels: Vec<i16> = rows.clone().map(|row| i16::from(row % 4 != 3)).collect();
    let there: Vec<i64> = rows.clone().filter(|row| row % 4 != 3).collect();
    let times: Vec<i64> = rows.map(|row| i64::try_from(DAY / 1000).unwrap() + row * 50_000).collect();
    let symbols: Vec<ByteArray> = (0..ROWS).map(|row| format!("A{}", row % 3).as_str().into()).collect();
    let bids = there.iter().map(|row| [&[0][..], &(15_000 + row).to_be_bytes()].concat());
    let bids: Vec<FixedLenByteArray> = bids.map(|bytes| ByteArray::from(bytes).into()).collect();
    let asks: Vec<f64> = there.iter().map(|_| 1.6).collect();
    let schema = Arc::new(parse_message_type(SCHEMA).unwrap());
    let mut writer = SerializedFileWriter::new(Vec::new(), schema, Arc::new(properties)).unwrap();
    for _ in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        let mut index = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let levels = Some(&levels[..]);
            match index {
                0 => column.typed::<Int64Type>().write_batch(&times, None, None),
                1 => column.typed::<ByteArrayType>().write_batch(&symbols, None, None),
                2 => column.typed::<FixedLenByteArrayType>().write_batch(&bids, levels, None),
                3 => column.typed::<Int64Type>().write_batch(&there, levels, None),
                4 => column.typed::<DoubleType>().write_batch(&asks, levels, None),
                _ => column.typed::<DoubleType>().write_batch(&[2.5; ROWS], None, None),
            }
            .unwrap();
            column.close().unwrap();
            index += 1;
        }
        group.close().unwrap();
    }
    writer.into_inner().unwrap()
}

/// A file of each schema, and live sessions of the versions.
fn all_dbn() -> Vec<(&'static str, Vec<u8>)> {
    use dbn::{BboMsg, CbboMsg, Cmbp1Msg, InstrumentDefMsg, Mbp10Msg, StatusMsg, TradeMsg, rtype, v1, v2};
    fn hd<T: dbn::HasRType>(kind: u8) -> RecordHeader {
        RecordHeader::new::<T>(kind, 1, 42, DAY)
    }
    let trade =
        TradeMsg { hd: hd::<TradeMsg>(rtype::MBP_0), price: 1, size: 1, ts_recv: DAY, ..TradeMsg::default() };
    let cmbp = Cmbp1Msg {
        hd: hd::<Cmbp1Msg>(rtype::CMBP_1),
        price: 1,
        ts_recv: DAY,
        ..Cmbp1Msg::default_for_schema(Schema::Cmbp1)
    };
    let bbo = BboMsg {
        hd: hd::<BboMsg>(rtype::BBO_1S),
        price: 1,
        ts_recv: DAY,
        ..BboMsg::default_for_schema(Schema::Bbo1S)
    };
    let cbbo = CbboMsg {
        hd: hd::<CbboMsg>(rtype::CBBO_1S),
        price: 1,
        ts_recv: DAY,
        ..CbboMsg::default_for_schema(Schema::Cbbo1S)
    };
    let mbp10 = Mbp10Msg { hd: hd::<Mbp10Msg>(rtype::MBP_10), price: 1, ts_recv: DAY, ..Mbp10Msg::default() };
    let status =
        StatusMsg { hd: hd::<StatusMsg>(rtype::STATUS), action: 7, ts_recv: DAY, ..StatusMsg::default() };
    let definition = InstrumentDefMsg {
        hd: hd::<InstrumentDefMsg>(rtype::INSTRUMENT_DEF),
        min_price_increment: 250_000_000,
        ts_recv: DAY,
        ..InstrumentDefMsg::default()
    };
    let mut files = vec![
        ("trades.dbn", dbn(Schema::Trades, &[trade.clone(), trade.clone()])),
        ("tbbo.dbn", dbn(Schema::Tbbo, &[mbp1(0), mbp1(1)])),
        ("cmbp.dbn", dbn(Schema::Cmbp1, &[cmbp.clone(), cmbp])),
        ("bbo.dbn", dbn(Schema::Bbo1S, &[bbo.clone(), bbo])),
        ("cbbo.dbn", dbn(Schema::Cbbo1S, &[cbbo.clone(), cbbo])),
        ("mbp10.dbn", dbn(Schema::Mbp10, &[mbp10.clone(), mbp10])),
        ("status.dbn", dbn(Schema::Status, &[status.clone(), status])),
        ("definition.dbn", dbn(Schema::Definition, &[definition.clone(), definition.clone()])),
    ];
    let mut mapping = dbn::SymbolMappingMsg {
        hd: hd::<dbn::SymbolMappingMsg>(rtype::SYMBOL_MAPPING),
        ..Default::default()
    };
    mapping.stype_out_symbol[0] = letter('X');
    let mut old_mapping =
        v1::SymbolMappingMsg { hd: hd::<v1::SymbolMappingMsg>(rtype::SYMBOL_MAPPING), ..Default::default() };
    old_mapping.stype_out_symbol[0] = letter('X');
    let old = v1::InstrumentDefMsg {
        hd: hd::<v1::InstrumentDefMsg>(rtype::INSTRUMENT_DEF),
        ts_recv: DAY,
        ..Default::default()
    };
    let second = v2::InstrumentDefMsg {
        hd: hd::<v2::InstrumentDefMsg>(rtype::INSTRUMENT_DEF),
        ts_recv: DAY,
        ..Default::default()
    };
    for (name, version, records) in [
        ("live1.dbn", 1, [old_mapping.as_ref(), old.as_ref(), trade.as_ref(), mbp1(3).as_ref()].concat()),
        ("live2.dbn", 2, [mapping.as_ref(), second.as_ref(), trade.as_ref(), mbp1(3).as_ref()].concat()),
        (
            "live3.dbn",
            3,
            [mapping.as_ref(), definition.as_ref(), trade.as_ref(), mbo(3, 'A', 'B').as_ref()].concat(),
        ),
    ] {
        let metadata = MetadataBuilder::new()
            .version(version)
            .dataset("GLBX.MDP3".to_owned())
            .schema(None)
            .start(DAY)
            .stype_in(Some(SType::RawSymbol))
            .stype_out(SType::InstrumentId)
            .build();
        let start = Encoder::new(Vec::new(), &metadata).unwrap().get_ref().clone();
        files.push((name, [start, records].concat()));
    }
    files
}

/// A recording with every kind of event in it, a checkpoint, and an index.
fn whole_tape() -> Vec<u8> {
    use tickcast::market::{Conditions, FeedKind, FeedState, FeedStatus, Side, Speed, Status, TradingState};
    let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
    let header = RecordingHeader { source: "here".to_owned(), ..RecordingHeader::default() };
    let mut writer = RecordingWriter::new(Vec::new(), &header).unwrap();
    for second in 0..8_i32 {
        let time = Timestamp::from_nanos(DAY.cast_signed() + i64::from(second) * 700_000_000);
        let mut events = Vec::new();
        if second == 0 {
            let speed = Speed::Times(2.0);
            events.push(Event::Feed(FeedStatus { kind: FeedKind::Replay, state: FeedState::Live, speed }));
            events.push(Event::Status(None, Status { state: TradingState::Open, ts_event: time }));
        }
        let id = instruments.intern(&Symbol::new("A").unwrap(), &mut events);
        let values = tickcast::market::QuoteValues {
            bid: Some(second.into()),
            bid_size: 3.into(),
            ..Default::default()
        };
        let quote = instruments.quote(id, &values, (time, time), &mut events).unwrap();
        events.push(Event::Quote(id, quote));
        let kind = (Side::Buy, Conditions::new("I").unwrap());
        let numbers = ((second + 5).into(), 2.into());
        let trade = instruments.trade(id, numbers, kind, (time.plus_nanos(-5), time), &mut events).unwrap();
        events.push(Event::Trade(id, trade));
        events.push(Event::Status(Some(id), Status { state: TradingState::Halted, ts_event: time }));
        let position = Position::new(u64::try_from(second).unwrap() + 1);
        writer.append(position.get(), time, &events).unwrap();
        replica.apply(&Batch { position, time, events }, &mut Vec::new());
        if second == 4 {
            writer.checkpoint(time, replica.checkpoint()).unwrap();
            // And as a batch, where damage reaches it below its packing.
            let state: Vec<Event> = replica.checkpoint().collect();
            writer.append(position.get(), time, &state).unwrap();
        }
    }
    writer.finish().unwrap()
}

/// A folder for files that are written by the ten thousand: in memory, where there is such a place.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

/// Each form is damaged so often, each time otherwise. In debug builds a sum that overflows panics, and so
/// does a record that is not aligned.
const DAMAGES: usize = 2000;
/// What a small file costs at once, with the market that it is folded into.
const MOST_AT_ONCE: usize = 24 << 20;

#[test]
fn each_form_bears_some_thousand_damages() {
    let forms = forms();
    let forms = &forms;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|worker| {
                scope.spawn(move || {
                    let folder = folder();
                    for (number, form) in forms.iter().enumerate().filter(|(number, _)| number % 4 == worker)
                    {
                        for case in 0..DAMAGES {
                            let mut random = Random((number * DAMAGES + case) as u64);
                            check_spoiled(folder.path(), form, forms, &mut random, case);
                        }
                    }
                })
            })
            .collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Damages a file of a form, reads it in one of the ways there are, folds what it gives, and writes that
/// down.
fn check_spoiled(folder: &Path, form: &Form, forms: &[Form], random: &mut Random, case: usize) {
    let content = spoiled(form, forms, random);
    std::fs::write(folder.join(form.name), &content).unwrap();
    let outcome = std::panic::catch_unwind(|| consume(&folder.join(form.name), case));
    let told = outcome.unwrap_or_else(|_| {
        panic!("{} panics at case {case}: {}", form.name, content.escape_ascii());
    });
    for line in told {
        let shows = line.chars().all(|c| matches!(c, '"' | '\'' | '\\') || c.escape_debug().count() == 1);
        assert!(shows, "{} case {case} tells {line:?}", form.name);
        assert!(line.len() < 1000, "{} case {case} tells {line}", form.name);
    }
}

/// A file of a form with damage below its packing or above.
fn spoiled(form: &Form, forms: &[Form], random: &mut Random) -> Vec<u8> {
    let packed = |content: &[u8], way| match way {
        0 => zstd::encode_all(content, 1).unwrap(),
        1 => {
            let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            packer.write_all(content).unwrap();
            packer.finish().unwrap()
        }
        2 => zip(form.name, content),
        _ => content.to_vec(),
    };
    let way = if form.is_zstd { 0 } else { random.below(8) };
    match random.below(4) {
        0 if !form.is_zstd => spoil(packed(&form.content, way), forms, random),
        _ => packed(&spoil(form.content.clone(), forms, random), way),
    }
}

/// Reads a file in the way of this number, to its end; what could not be read.
fn consume(path: &Path, way: usize) -> Vec<String> {
    let middle = Timestamp::from_nanos(DAY.cast_signed() + 3_000_000_000);
    let mut recordings = Recordings::new(
        vec![path.to_owned()],
        OpenOptions { best_quotes: way.is_multiple_of(2), ..OpenOptions::default() },
    );
    recordings.strict = way % 7 == 3;
    recordings.looped = way % 7 == 4;
    recordings.start = (way % 7 == 5).then_some(middle);
    recordings.only = if way % 7 == 6 { vec![Symbol::new("A").unwrap()] } else { Vec::new() };
    let watch = Watch::start();
    let mut told = Vec::new();
    let opened = match way % 5 {
        4 => recordings.open_at(middle),
        _ => recordings.open(),
    };
    match opened {
        Err(error) => told.push(error.to_string()),
        Ok(mut feed) => {
            let written = fold(&mut *feed, &mut told);
            drop(feed);
            // What is written of it can be read.
            let mut reader = RecordingReader::new(zstd::Decoder::new(&written[..]).unwrap()).unwrap();
            let mut events = Vec::new();
            while reader.next(&mut events).expect("what was written is within what is read").is_some() {
                events.clear();
            }
        }
    }
    let is_parquet = path.extension().is_some_and(|extension| extension == "parquet");
    let most = if is_parquet { MOST_OF_PARQUET } else { MOST };
    assert!(watch.largest() <= most, "{} bytes at once", watch.largest());
    assert!(watch.most_held() <= MOST_AT_ONCE, "{} bytes in all", watch.most_held());
    told
}

/// Folds a feed as a tape does, with numbers of its own for the instruments, and records it; up to a round or
/// two of one that never ends.
fn fold(feed: &mut dyn Feed, told: &mut Vec<String>) -> Vec<u8> {
    let (mut instruments, mut on_tape) = (Instruments::default(), Instruments::default());
    let mut translator = Translator::default();
    let mut recorder = Recorder::new(Vec::new(), &RecordingHeader::default()).unwrap();
    let mut position = Position::START;
    // Definitions may come with what could not be read, and count.
    let mut events = Vec::new();
    for _ in 0..200 {
        match feed.next(&mut instruments, &mut events) {
            Ok(None) => break,
            Ok(Some(time)) => {
                position = position.next();
                let mut translated = Vec::new();
                for event in events.drain(..) {
                    if let Err(error) = translator.translate(event, &mut on_tape, &mut translated) {
                        told.push(error.to_string());
                    }
                }
                recorder.append(&Batch { position, time, events: translated }).unwrap();
            }
            Err(error) => told.push(error.to_string()),
        }
    }
    let _ = recorder.opening();
    recorder.finish().unwrap()
}

#[test]
fn what_a_file_is_called_is_escaped_where_it_is_told() {
    let folder = folder();
    let name = "a\n\x1b[31m\u{202e}.csv";
    let (_, errors, _) = read(folder.path(), name, b"time,symbol,price,size\n1,A,\x1b[2J,1\n", false, false);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].contains(r"a\n\u{1b}[31m\u{202e}.csv line 2: "), "{errors:?}");
    assert!(!errors[0].contains(char::is_control), "{errors:?}");
    let (_, errors, _) = read(folder.path(), name, b"", false, false);
    assert!(errors[0].contains(r"a\n\u{1b}[31m\u{202e}.csv: the file is empty"), "{errors:?}");
}

/// As [`each_form_bears_some_thousand_damages`], in the program that people run, where sums wrap and nothing
/// is asserted.
#[test]
#[ignore = "needs the released program, which TICKCAST_BIN names"]
fn each_form_bears_some_thousand_damages_in_the_released_program() {
    const AT_ONCE: usize = 500;
    let forms = forms();
    for (number, form) in forms.iter().enumerate() {
        for first in (0..DAMAGES).step_by(AT_ONCE) {
            let folder = folder();
            let paths: Vec<_> = (first..first + AT_ONCE)
                .map(|case| {
                    let mut random = Random((number * DAMAGES + case) as u64);
                    let path = folder.path().join(format!("{case}")).join(form.name);
                    std::fs::create_dir(path.parent().unwrap()).unwrap();
                    std::fs::write(&path, spoiled(form, &forms, &mut random)).unwrap();
                    path
                })
                .collect();
            // With as much memory as any file may take, and what the program itself maps.
            let output = Command::new("sh")
                .args(["-c", "ulimit -v 500000; exec \"$0\" \"$@\""])
                .arg(crate::released())
                .args(["inspect", "--json"])
                .args(&paths)
                .output()
                .unwrap();
            let told = String::from_utf8(output.stderr).expect("text");
            assert!(
                matches!(output.status.code(), Some(0 | 1)) && !told.contains("panicked"),
                "{} from case {first}: {}: {told}",
                form.name,
                output.status
            );
            let answered = String::from_utf8_lossy(&output.stdout).lines().count() + told.lines().count();
            assert!(answered >= AT_ONCE, "{} from case {first}: {answered} answers: {told}", form.name);
            assert!(told.lines().all(|line| line.len() < 1000), "{} from case {first}: {told}", form.name);
        }
    }
}
