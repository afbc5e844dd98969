//! Prices to 18 decimals and sizes in the quadrillions: every number and every sum comes through as it is, on
//! every way.
#![warn(clippy::pedantic)]

use num_bigint::BigInt;
use proptest::prelude::*;
use std::fmt::Write;
use std::path::Path;
use std::process::Command;
use tickcast::client::Image;
use tickcast::hub::{Kind, Replica, Since, Topic, TopicKey, Upto, tell};
use tickcast::market::{
    Bar, Conditions, Event, Instruments, NumberError, Side, Symbol, Timestamp, decimal_text, parse_decimal,
};
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::{BarFields, FULL_BYTES, Form, UpdateDecoder, UpdateEncoder};

const SYMBOL: &str = "SHIB";

/// A decimal number as a feed writes it.
#[derive(Clone, Debug)]
struct Number {
    units: i128,
    scale: u8,
}

impl Number {
    fn text(&self) -> String {
        decimal_text(self.units, self.scale)
    }

    /// In units of another scale, which holds it.
    fn at(&self, scale: u8) -> BigInt {
        BigInt::from(self.units) * BigInt::from(10).pow(18)
            / BigInt::from(10).pow(u32::from(18 + self.scale - scale))
    }
}

fn number(whole: i128, most_digits: u32) -> impl Strategy<Value = Number> {
    let scale = prop_oneof![Just(0_u8), Just(2), Just(8), 0..=18_u8, Just(18)];
    // Numbers of all lengths, and not mostly of the longest.
    (scale, 0..whole, 0..16_u32, any::<u64>()).prop_map(move |(scale, whole, shorter, fraction)| {
        let room = most_digits.saturating_sub(u32::from(scale));
        let whole = (whole / 10_i128.pow(shorter)) % 10_i128.pow(room);
        let one = 10_i128.pow(scale.into());
        Number { units: whole * one + i128::from(fraction) % one, scale }
    })
}

fn trades() -> impl Strategy<Value = Vec<(Number, Number)>> {
    let trade = (number(10_000_000_000, 28), number(9_000_000_000_000_000, 28));
    proptest::collection::vec(trade, 1..12)
}

/// What was traded, at the scales that the symbol has in the end.
struct Model {
    volume: BigInt,
    /// In hundredths of a price unit.
    vwap: BigInt,
}

impl Model {
    fn of(trades: &[(Number, Number)], scales: (u8, u8)) -> Self {
        let volume: BigInt = trades.iter().map(|(_, size)| size.at(scales.1)).sum();
        let turnover: BigInt =
            trades.iter().map(|(price, size)| price.at(scales.0) * size.at(scales.1)).sum();
        let vwap = if volume == BigInt::ZERO {
            (trades[0].0.at(scales.0) + trades[trades.len() - 1].0.at(scales.0)) * 50
        } else {
            (turnover * 200 + &volume) / (&volume * 2)
        };
        Self { volume, vwap }
    }

    #[track_caller]
    fn check(&self, what: &str, bar: &BarFields, trades: usize) {
        assert_eq!(BigInt::from(bar.volume.unwrap().units()), self.volume, "{what}: volume");
        assert_eq!(bar.trades, Some(trades as u64), "{what}: trades");
        let vwap = BigInt::from(bar.vwap.unwrap());
        assert_eq!(vwap, self.vwap, "{what}: VWAP");
        let [high, low] = [bar.high, bar.low].map(|price| BigInt::from(price.unwrap().units()) * 100);
        assert!(low <= vwap && vwap <= high, "{what}: {low} <= {vwap} <= {high}");
    }
}

/// A replica, and a client that is told now and then what came since.
struct World {
    instruments: Instruments,
    replica: Replica,
    batches: Vec<Batch>,
    encoder: UpdateEncoder,
    decoder: UpdateDecoder,
    image: Image,
    told: Upto,
}

impl World {
    fn new() -> Self {
        Self {
            instruments: Instruments::default(),
            replica: Replica::new(Epoch::new(1)),
            batches: Vec::new(),
            encoder: UpdateEncoder::new(FULL_BYTES),
            decoder: UpdateDecoder::new(Position::START, Timestamp::default()),
            image: Image::default(),
            told: Upto::default(),
        }
    }

    fn trade(&mut self, price: &Number, size: &Number) -> Result<(), NumberError> {
        let mut events = Vec::new();
        let at = Timestamp::from_nanos(1_700_000_000_000_000_000);
        let numbers = (parse_decimal(&price.text())?, parse_decimal(&size.text())?);
        let (id, trade) = self.instruments.trade_of(
            &Symbol::new(SYMBOL).unwrap(),
            numbers,
            (Side::None, Conditions::default()),
            (at, at),
            &mut events,
        )?;
        events.push(Event::Trade(id, trade));
        let batch = Batch { position: self.replica.position().next(), time: at, events };
        self.replica.apply(&batch, &mut Vec::new());
        self.batches.push(batch);
        Ok(())
    }

    /// Tells the client all that it is owed, in both forms.
    fn tell(&mut self) {
        let upto = Upto { position: self.replica.position(), time: self.replica.time() };
        let since = Since { position: self.told.position, numbered: self.told.position == Position::START };
        let Some(book) = self.replica.by_symbol(SYMBOL) else { return };
        let topics = Kind::ALL.map(|kind| TopicKey::of(book.definition.id, kind));
        let [binary, text] = [Form::MSGPACK, Form::JSON].map(|form| {
            let mut frame = Vec::new();
            self.encoder.begin(form, false, self.told, upto);
            let rest = tell(
                &self.replica,
                topics.into_iter().enumerate(),
                |_| since,
                upto.position,
                &mut self.encoder,
            );
            assert_eq!(rest, None);
            self.encoder.finish(true, &mut frame);
            frame.split_off(if frame[1] < 126 { 2 } else { 4 })
        });
        let update = self.decoder.decode(&binary).unwrap();
        assert_eq!(
            crate::update_json::update_json(&update),
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        );
        self.image.apply(&update);
        self.told = upto;
    }
}

fn fields(bar: Option<&Bar>) -> BarFields {
    BarFields::of(tickcast::hub::bar_field::BAR, bar, tickcast::market::Price::NONE)
}

proptest! {
    #[test]
    fn sums_are_exact_in_the_hub_and_on_the_wire(
        trades in trades(), told in proptest::collection::vec(any::<bool>(), 12), cut in any::<prop::sample::Index>(),
    ) {
        let mut world = World::new();
        let mut taken = Vec::new();
        for ((price, size), told) in trades.into_iter().zip(told) {
            match world.trade(&price, &size) {
                Ok(()) => taken.push((price, size)),
                // By chance they look like what a float leaves behind.
                Err(error) => prop_assert!(matches!(error, NumberError::TooPrecise { .. }), "{error}"),
            }
            if told {
                world.tell();
            }
        }
        prop_assume!(!taken.is_empty());
        world.tell();
        let book = world.replica.by_symbol(SYMBOL).unwrap();
        let scales = (book.definition.price_scale, book.definition.size_scale);
        let model = Model::of(&taken, scales);
        for (what, bar) in [("day", book.day.get()), ("second", book.bars_1s.latest.get()), ("minute", book.bars_1m.latest.get())] {
            model.check(what, &fields(bar), taken.len());
        }
        let known = world.image.book(SYMBOL).unwrap();
        for (what, bar) in [("told day", &known.day), ("told second", &known.bars_1s), ("told minute", &known.bars_1m)] {
            model.check(what, bar, taken.len());
        }
        for ((price, size), (_, kept)) in taken.iter().zip(book.trades.newest(100)) {
            prop_assert_eq!(BigInt::from(kept.price.units()), price.at(scales.0));
            prop_assert_eq!(BigInt::from(kept.size.units()), size.at(scales.1));
        }
        let topic = Topic::parse(&format!("day:{SYMBOL}")).unwrap();
        prop_assert!(world.image.checksum(&topic).is_some());

        // One that is taken up in the middle, as from a checkpoint.
        let (before, after) = world.batches.split_at(cut.index(world.batches.len()));
        let (mut first, mut second) = (Replica::new(Epoch::new(1)), Replica::new(Epoch::new(1)));
        for batch in before {
            first.apply(batch, &mut Vec::new());
        }
        let position = first.position();
        let checkpoint = Batch { position, time: first.time(), events: first.checkpoint().collect() };
        second.apply(&checkpoint, &mut Vec::new());
        for batch in after {
            second.apply(batch, &mut Vec::new());
        }
        model.check("taken up", &fields(second.by_symbol(SYMBOL).unwrap().day.get()), taken.len());
    }
}

fn convert(args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tickcast")).arg("convert").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

/// Price and size, without zeros at their ends.
fn shortest(price: &str, size: &str) -> (String, String) {
    let short = |text: &str| parse_decimal(text).unwrap().normalize().to_string();
    (short(price), short(size))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn numbers_are_exact_in_recordings_and_exports(trades in trades()) {
        let folder = tempfile::tempdir().unwrap();
        let [csv, tape, again, table] =
            ["in.csv", "out.tape", "again.tape", "out.parquet"].map(|name| path(folder.path(), name));
        let mut lines = "time,symbol,price,size\n".to_owned();
        let mut world = World::new();
        let mut expected = Vec::new();
        for (second, (price, size)) in trades.iter().enumerate() {
            if world.trade(price, size).is_ok() {
                let (time, price, size) = (1_700_000_000 + second, price.text(), size.text());
                writeln!(lines, "{time},{SYMBOL},{price},{size}").unwrap();
                expected.push(shortest(&price, &size));
            }
        }
        std::fs::write(&csv, lines).unwrap();
        convert(&[&csv, &tape]);
        convert(&[&tape, &again]);
        for from in [&csv, &tape, &again] {
            let text = convert(&["--to", "csv", "--only", "trades", from, "-"]);
            let found: Vec<_> = text.lines().skip(1).map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                shortest(cells[3], cells[4])
            }).collect();
            prop_assert_eq!(&found, &expected, "{}", from);
        }
        if !expected.is_empty() {
            convert(&[&tape, &table, "--only", "trades"]);
            prop_assert_eq!(rows(&table), expected);
        }
    }
}

/// Price and size of each row, whatever scale its columns have.
fn rows(path: &str) -> Vec<(String, String)> {
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use parquet::record::Field;

    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let rows = reader.get_row_iter(None).unwrap().map(Result::unwrap);
    let text = |row: &parquet::record::Row, name: &str| match row
        .get_column_iter()
        .find(|(column, _)| *column == name)
    {
        Some((_, Field::Decimal(decimal))) => {
            let units = BigInt::from_signed_bytes_be(decimal.data());
            decimal_text(units.try_into().unwrap(), decimal.scale().try_into().unwrap())
        }
        other => panic!("{other:?}"),
    };
    rows.map(|row| shortest(&text(&row, "price"), &text(&row, "size"))).collect()
}

/// Trades of one symbol, and what their day comes to: volume and VWAP.
#[track_caller]
fn check_day(trades: &[(&str, &str)], volume: &str, vwap: &str) {
    let mut world = World::new();
    for (price, size) in trades {
        let number = |text: &str| {
            let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
            Number {
                units: format!("{whole}{fraction}").parse().unwrap(),
                scale: fraction.len().try_into().unwrap(),
            }
        };
        world.trade(&number(price), &number(size)).unwrap();
        world.tell();
    }
    let book = world.image.book(SYMBOL).unwrap();
    assert_eq!(book.day.volume.unwrap().text(book.instrument.size_scale), volume);
    assert_eq!(decimal_text(book.day.vwap.unwrap(), book.instrument.price_scale + 2), vwap);
}

#[test]
fn a_day_beyond_2_53_units_has_its_volume_and_its_vwap() {
    let kraken = [
        ("0.0780000", "60000000.00000001"),
        ("0.0790000", "50000000.12345678"),
        ("0.0800000", "40000000.00000000"),
    ];
    check_day(&kraken, "150000000.12345679", "0.07887");
    let bitstamp = [("0.00000871", "60000000.00000000"), ("0.00000872", "50000000.12345678")];
    check_day(&bitstamp, "110000000.12345678", "0.0000087145");
}

#[test]
fn a_symbol_that_turns_out_finer_loses_nothing() {
    let trades = [
        ("0.15", "60000000"),
        ("0.15", "60000000"),
        ("0.16", "1000.12345678"),
        ("0.17", "2000.00000001"),
        ("0.17", "5"),
    ];
    check_day(&trades, "120003005.12345679", "0.1500");
    let coins = [("0.000000001", "4000000000000000"), ("0.000000001234567891", "0.000000000000000001")];
    check_day(&coins, "4000000000000000.000000000000000001", "0.00000000100000000000");
}

#[test]
fn a_price_has_up_to_18_decimals_above_one_as_below() {
    check_day(&[("0.000000001234", "1"), ("0.0000000012345", "1")], "2", "0.000000001234250");
    check_day(
        &[("1850.123456789012345678", "1"), ("1850.123456789012345679", "2")],
        "3",
        "1850.12345678901234567867",
    );
}
