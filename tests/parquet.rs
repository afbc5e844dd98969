//! Parquet, which `--features parquet` brings: what was recorded can be read by others, with its types, exactly.
#![cfg(feature = "parquet")]

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::{Field, Row};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Converts, and gives the columns and the rows.
fn convert(folder: &Path, input: &str, args: &[&str]) -> (Vec<String>, Vec<Row>) {
    let (from, to) = (folder.join("in.csv"), folder.join("out.parquet"));
    std::fs::write(&from, input).unwrap();
    run(&[&[from.to_str().unwrap(), to.to_str().unwrap(), "--force", "--quiet"], args].concat());
    read(&to)
}

fn run(args: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_tickcast")).arg("convert").args(args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn read(path: &PathBuf) -> (Vec<String>, Vec<Row>) {
    let reader = SerializedFileReader::new(std::fs::File::open(path).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema();
    let names = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
    (names, reader.get_row_iter(None).unwrap().map(Result::unwrap).collect())
}

/// What of a row is there, as text. A decimal comes as its units, which have 18 decimals.
fn shown(row: &Row) -> String {
    let value = |field: &Field| match field {
        Field::Decimal(decimal) => {
            assert_eq!((decimal.precision(), decimal.scale()), (38, 18));
            let units = i128::from_be_bytes(decimal.data().try_into().expect("16 bytes"));
            let (sign, units) = (if units < 0 { "-" } else { "" }, units.unsigned_abs());
            let one = 10_u128.pow(18);
            let text = format!("{sign}{}.{:018}", units / one, units % one);
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    };
    let there = row.get_column_iter().filter(|(_, field)| **field != Field::Null);
    there.map(|(name, field)| format!("{name}={}", value(field))).collect::<Vec<_>>().join(" ")
}

const INPUT: &str = "\
type,time,ts_recv,symbol,bid,bid_size,ask,ask_size,price,size,side,conditions,state,name,sector,currency,tick_size,price_scale,size_scale,previous_close
instrument,,,SHIB,,,,,,,,,,\"Shiba, Inu\",crypto,USD,0.00000001,8,0,0.00001234
quote,2024-01-02T00:00:00.000000001Z,2024-01-02T00:00:00.000000003Z,SHIB,0.00001233,7,,,,,,,,,,,,,,
trade,2024-01-02T00:00:01Z,,SHIB,,,,,0.00001234,90071992547409,sell,F I,,,,,,,,
trade,2024-01-02T00:00:02Z,,BRK,,,,,-612345.5,0.25,,,,,,,,,,
status,2024-01-02T00:00:03Z,,SHIB,,,,,,,,,halted,,,,,,,
";

#[test]
fn every_column_has_its_type_and_its_exact_value() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), INPUT, &[]);
    let header: Vec<&str> = INPUT.lines().next().unwrap().split(',').collect();
    assert_eq!(names, header, "the columns of the CSV form");
    let rows: Vec<String> = rows.iter().map(shown).filter(|row| !row.contains("symbol=BRK name")).collect();
    let of = |kind: &str| rows.iter().filter(|row| row.starts_with(kind)).cloned().collect::<Vec<_>>();
    let definitions = of("type=instrument");
    assert_eq!(
        definitions[0],
        "type=instrument symbol=SHIB name=Shiba, Inu sector=crypto currency=USD tick_size=0.00000001 price_scale=8 \
         size_scale=0 previous_close=0.00001234"
    );
    let first = 1_704_153_600_000_000_000_i64;
    let at = |nanos: i64| format!("time={0} ts_recv={0}", first + nanos);
    assert_eq!(
        of("type=quote"),
        [format!(
            "type=quote time={} ts_recv={} symbol=SHIB bid=0.00001233 bid_size=7",
            first + 1,
            first + 3
        )]
    );
    assert_eq!(
        of("type=trade"),
        [
            format!(
                "type=trade {} symbol=SHIB price=0.00001234 size=90071992547409 side=sell conditions=F I",
                at(1_000_000_000)
            ),
            format!("type=trade {} symbol=BRK price=-612345.5 size=0.25", at(2_000_000_000)),
        ]
    );
    assert_eq!(
        of("type=status"),
        [format!("type=status time={} symbol=SHIB state=halted", first + 3_000_000_000)]
    );
}

#[test]
fn quotes_or_trades_alone_have_fewer_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), INPUT, &["--only", "trades"]);
    assert_eq!(names, ["time", "ts_recv", "symbol", "price", "size", "side", "conditions"]);
    assert_eq!(rows.len(), 2);
    let (names, rows) = convert(folder.path(), INPUT, &["--only", "quotes"]);
    assert_eq!(names, ["time", "ts_recv", "symbol", "bid", "bid_size", "ask", "ask_size"]);
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_recording_beyond_one_group_of_rows_comes_through_whole() {
    let folder = tempfile::tempdir().unwrap();
    let input: String =
        (0..300_000).map(|n| format!("{},A,{}.25,1\n", 1_704_153_600_000_000_000_i64 + n, n)).collect();
    let (_, rows) =
        convert(folder.path(), &format!("time,symbol,price,size\n{input}"), &["--only", "trades"]);
    assert_eq!(rows.len(), 300_000);
    for (n, row) in rows.iter().enumerate().step_by(9_973) {
        let time = 1_704_153_600_000_000_000 + n;
        assert_eq!(shown(row), format!("time={time} ts_recv={time} symbol=A price={n}.25 size=1"));
    }
}

#[test]
fn an_empty_recording_is_an_empty_table() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), "time,symbol,price,size\n", &[]);
    assert_eq!((names.len(), rows.len()), (20, 0));
}
