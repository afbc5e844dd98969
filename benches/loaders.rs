//! How fast recordings of each form are read, in bytes of the file and in records. This bounds a replay at
//! speed `max`, and the skipping to a later moment.
//!
//! The same simulated quotes are written in each form, one a record, so the forms can be compared by records.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use dbn::encode::{EncodeRecord, dbn::Encoder};
use dbn::{BidAskPair, FlagSet, MappingInterval, Mbp1Msg, MetadataBuilder, RecordHeader, SType, Schema};
use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::{fs, hint::black_box, num::NonZeroU32, path::Path, time::Duration};
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::feed::{Feed, sim};
use tickcast::hub::Replica;
use tickcast::market::{Event, Instruments, Quote, Timestamp};
use tickcast::record::{Export as _, ParquetExport, Rows};
use tickcast::recording::{RecordingHeader, RecordingWriter};
use tickcast::tape::{Batch, Epoch, Position};

const QUOTES: u32 = 50_000;
const SYMBOLS: usize = 100;
/// 2024-01-01T00:00:00Z, in ns.
const START: u64 = 1_704_067_200_000_000_000;

/// A simulated market: its definitions, and the quotes that follow.
struct Market {
    instruments: Instruments,
    opening: Vec<Event>,
    quotes: Vec<Event>,
}

impl Market {
    fn new() -> Self {
        let config = sim::SimConfig {
            symbols: SYMBOLS,
            rate: NonZeroU32::MIN.saturating_add(9_999),
            seed: 1,
            start: Timestamp::from_nanos(START.cast_signed()),
        };
        let mut simulator = sim::Simulator::new(&sim::default_universe(), config);
        let (mut instruments, mut opening, mut quotes) = (Instruments::default(), Vec::new(), Vec::new());
        simulator.next(&mut instruments, &mut opening).expect("the simulator never fails");
        opening.retain(|event| matches!(event, Event::Instrument(_)));
        while quotes.len() < QUOTES as usize {
            let begun = quotes.len();
            simulator.next(&mut instruments, &mut quotes).expect("the simulator never fails");
            if !matches!(quotes[begun..], [Event::Quote(..)]) {
                quotes.truncate(begun);
            }
        }
        Self { instruments, opening, quotes }
    }

    fn quotes(&self) -> impl Iterator<Item = (u32, Line<'_>)> {
        self.quotes.iter().map(|event| {
            let Event::Quote(id, quote) = event else { unreachable!("only quotes were kept") };
            let instrument = self.instruments.get(*id).expect("it is defined");
            let price = |price: tickcast::market::Price| {
                price.to_decimal(instrument.price_scale).map_or_else(String::new, |price| price.to_string())
            };
            let line = Line {
                quote,
                symbol: instrument.symbol.as_str(),
                bid: price(quote.bid),
                bid_size: quote.bid_size.to_decimal(instrument.size_scale).to_string(),
                ask: price(quote.ask),
                ask_size: quote.ask_size.to_decimal(instrument.size_scale).to_string(),
            };
            (id.0, line)
        })
    }
}

/// One quote as text.
struct Line<'a> {
    quote: &'a Quote,
    symbol: &'a str,
    bid: String,
    bid_size: String,
    ask: String,
    ask_size: String,
}

fn tape(market: &Market) -> Vec<u8> {
    let header = RecordingHeader { epoch: 1, ..RecordingHeader::default() };
    let mut writer = RecordingWriter::new(Vec::new(), &header).expect("memory takes it");
    let time = |event: &Event| match event {
        Event::Quote(_, quote) => quote.ts_recv,
        _ => Timestamp::from_nanos(START.cast_signed()),
    };
    writer.append(1, time(&market.opening[0]), &market.opening).expect("memory takes it");
    for (position, event) in (2..).zip(&market.quotes) {
        writer.append(position, time(event), std::slice::from_ref(event)).expect("memory takes it");
    }
    writer.finish().expect("memory takes it")
}

fn csv(market: &Market) -> Vec<u8> {
    let mut text = b"time,symbol,bid,bid_size,ask,ask_size\n".to_vec();
    for (_, Line { quote, symbol, bid, bid_size, ask, ask_size }) in market.quotes() {
        writeln!(text, "{},{symbol},{bid},{bid_size},{ask},{ask_size}", quote.ts_recv)
            .expect("memory takes it");
    }
    text
}

/// Lines as Binance's futures send them and a recorder keeps them.
fn capture(market: &Market) -> Vec<u8> {
    let mut text = Vec::new();
    for (number, (_, Line { quote, symbol, bid, bid_size, ask, ask_size })) in market.quotes().enumerate() {
        let (nanos, millis) = (quote.ts_recv.nanos(), quote.ts_event.micros() / 1000);
        writeln!(
            text,
            "{nanos} {{\"stream\":\"{}@bookTicker\",\"data\":{{\"e\":\"bookTicker\",\"u\":{number},\
             \"s\":\"{symbol}\",\"b\":\"{bid}\",\"B\":\"{bid_size}\",\"a\":\"{ask}\",\"A\":\"{ask_size}\",\
             \"T\":{millis},\"E\":{millis}}}}}",
            symbol.to_lowercase()
        )
        .expect("memory takes it");
    }
    text
}

/// Records of schema `mbp-1`. DBN's sizes are whole numbers, so fractions of coins are cut off.
fn dbn(market: &Market) -> Vec<u8> {
    let mut metadata = MetadataBuilder::new()
        .dataset("XNAS.ITCH".to_owned())
        .schema(Some(Schema::Mbp1))
        .start(START)
        .stype_in(Some(SType::RawSymbol))
        .stype_out(SType::InstrumentId)
        .build();
    let start_date = metadata.start().date();
    let end_date = start_date.next_day().expect("before the year 9999");
    for instrument in market.instruments.iter() {
        let interval = MappingInterval { start_date, end_date, symbol: instrument.id.0.to_string() };
        let raw_symbol = instrument.symbol.as_str().to_owned();
        metadata.mappings.push(dbn::SymbolMapping { raw_symbol, intervals: vec![interval] });
    }
    let nanos = |time: Timestamp| time.nanos().unsigned_abs();
    let letter = |letter: char| std::ffi::c_char::try_from(letter as u32).expect("ASCII");
    let price = |text: &str| -> i64 {
        text.parse::<rust_decimal::Decimal>().map_or(dbn::UNDEF_PRICE, |price| {
            let nanos = price * rust_decimal::Decimal::from(1_000_000_000);
            nanos.try_into().expect("prices are far below 9 billion")
        })
    };
    let size = |text: &str| text.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(u32::MAX);
    let mut encoder = Encoder::new(Vec::new(), &metadata).expect("memory takes it");
    for (id, Line { quote, bid, bid_size, ask, ask_size, .. }) in market.quotes() {
        let level = BidAskPair {
            bid_px: price(&bid),
            ask_px: price(&ask),
            bid_sz: size(&bid_size),
            ask_sz: size(&ask_size),
            ..BidAskPair::default()
        };
        let record = Mbp1Msg {
            hd: RecordHeader::new::<Mbp1Msg>(dbn::rtype::MBP_1, 1, id, nanos(quote.ts_event)),
            price: level.bid_px,
            size: level.bid_sz,
            action: letter('A'),
            side: letter('B'),
            flags: FlagSet::default(),
            depth: 0,
            ts_recv: nanos(quote.ts_recv),
            ts_in_delta: 0,
            sequence: 1,
            levels: [level],
        };
        encoder.encode_record(&record).expect("memory takes it");
    }
    encoder.get_ref().clone()
}

/// As `tickcast convert --only quotes` writes it.
fn parquet(market: &Market) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut export = Box::new(ParquetExport::new(&mut bytes, Rows::Quotes).expect("memory takes it"));
    let start = Timestamp::from_nanos(START.cast_signed());
    export.batch(start, market.opening.clone(), &market.instruments).expect("memory takes it");
    for event in &market.quotes {
        let Event::Quote(_, quote) = event else { unreachable!("only quotes were kept") };
        export.batch(quote.ts_recv, vec![event.clone()], &market.instruments).expect("memory takes it");
    }
    export.finish().expect("memory takes it");
    bytes
}

/// Reads a file to its end; returns the number of its quotes.
fn read(path: &Path) -> usize {
    let mut feed = open(path, &OpenOptions::default()).expect("it was just written");
    let (mut instruments, mut events, mut quotes) = (Instruments::default(), Vec::new(), 0);
    while feed.next(&mut instruments, &mut events).expect("it was just written").is_some() {
        quotes += events.iter().filter(|event| matches!(event, Event::Quote(..))).count();
        black_box(&events);
        events.clear();
    }
    quotes
}

fn loaders(c: &mut Criterion) {
    let market = Market::new();
    let folder = tempfile::tempdir().expect("a folder for the files");
    let mut group = c.benchmark_group("loaders");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    let [csv, capture, dbn] = [csv(&market), capture(&market), dbn(&market)];
    let packed = zstd::encode_all(&dbn[..], 3).expect("memory takes it");
    for (name, bytes) in [
        ("quotes.tape", tape(&market)),
        ("quotes.csv", csv),
        ("quotes.capture", capture),
        ("quotes.dbn", dbn),
        ("quotes.dbn.zst", packed),
        ("quotes.parquet", parquet(&market)),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).expect("the folder takes a few MB");
        assert_eq!(read(&path), QUOTES as usize, "{name} lost quotes");
        group.throughput(Throughput::ElementsAndBytes {
            elements: u64::from(QUOTES),
            bytes: bytes.len() as u64,
        });
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| read(&path)));
    }
    group.finish();
}

/// Events that a tape without a pace puts into one batch.
const BATCH: usize = 1024;

/// Reads a file to its end and folds it as a shard does, in the batches of a tape that plays it as fast as it
/// can.
fn fold(path: &Path) -> Position {
    let mut feed = open(path, &OpenOptions::default()).expect("it was just written");
    let (mut instruments, mut replica) = (Instruments::default(), Replica::new(Epoch::new(1)));
    let (mut events, mut touched) = (Vec::new(), Vec::new());
    loop {
        let time = feed.next(&mut instruments, &mut events).expect("it was just written");
        if events.len() >= BATCH || time.is_none() {
            let position = replica.position().next();
            let time = time.unwrap_or(replica.time());
            replica.apply(&Batch { position, time, events: std::mem::take(&mut events) }, &mut touched);
            touched.clear();
        }
        if time.is_none() {
            return replica.position();
        }
    }
}

fn into_the_hub(c: &mut Criterion) {
    let market = Market::new();
    let folder = tempfile::tempdir().expect("a folder for the files");
    let mut group = c.benchmark_group("into the hub");
    group.sample_size(10).warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
    for (name, bytes) in
        [("quotes.tape", tape(&market)), ("quotes.csv", csv(&market)), ("quotes.parquet", parquet(&market))]
    {
        let path = folder.path().join(name);
        fs::write(&path, &bytes).expect("the folder takes a few MB");
        group.throughput(Throughput::Elements(u64::from(QUOTES)));
        group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(|| fold(&path)));
    }
    match std::env::var_os("PYTHON") {
        None => eprintln!("PyArrow is not measured beside it: say PYTHON, see benches/README.md"),
        Some(python) => {
            let mut pyarrow = PyArrow::start(&python, &folder.path().join("quotes.parquet"));
            group.bench_function("quotes.parquet by PyArrow, into columns", |b| {
                b.iter_custom(|times| (0..times).map(|_| pyarrow.read()).sum());
            });
        }
    }
    group.finish();
}

/// Reads all columns, as is done here, on each request.
struct PyArrow {
    python: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl PyArrow {
    fn start(python: &OsStr, path: &Path) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/parquet/read.py");
        let mut python = Command::new(python)
            .arg(script)
            .arg(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("PYTHON is an interpreter");
        let (ask, answers) = (python.stdin.take().expect("piped"), python.stdout.take().expect("piped"));
        Self { python, ask, answers: BufReader::new(answers) }
    }

    /// How long it took, by its own report.
    fn read(&mut self) -> Duration {
        let mut answer = String::new();
        self.ask.write_all(b"\n").expect("it reads what it is asked");
        self.answers.read_line(&mut answer).expect("text");
        Duration::from_secs_f64(answer.trim().parse().expect("PyArrow reads the file: see benches/README.md"))
    }
}

impl Drop for PyArrow {
    fn drop(&mut self) {
        let _ = self.python.kill();
        let _ = self.python.wait();
    }
}

criterion_group!(benches, loaders, into_the_hub);
criterion_main!(benches);
