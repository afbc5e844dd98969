//! Parquet: what was recorded can be read by others, with its types, exactly.

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

/// What of a row is there, as text.
fn shown(row: &Row) -> String {
    let value = |field: &Field| match field {
        Field::Decimal(decimal) => {
            let bytes = decimal.data();
            let start = if bytes[0] & 0x80 == 0 { 0 } else { -1 };
            let units = bytes.iter().fold(start, |units: i128, &byte| (units << 8) | i128::from(byte));
            let scale = u32::try_from(decimal.scale()).unwrap();
            assert!(units.unsigned_abs() < 10_u128.pow(u32::try_from(decimal.precision()).unwrap()));
            rust_decimal::Decimal::from_i128_with_scale(units, scale).normalize().to_string()
        }
        Field::TimestampMicros(micros) => micros.to_string(),
        Field::Str(text) => text.clone(),
        other => other.to_string(),
    };
    let there = row.get_column_iter().filter(|(_, field)| **field != Field::Null);
    there.map(|(name, field)| format!("{name}={}", value(field))).collect::<Vec<_>>().join(" ")
}

const INPUT: &str = "\
type,time,ts_recv,symbol,bid,bid_size,ask,ask_size,price,size,side,conditions,state,name,sector,currency,tick_size,price_scale,size_scale,previous_close,counts
instrument,,,SHIB,,,,,,,,,,\"Shiba, Inu\",crypto,USD,0.00000001,8,0,0.00001234,
quote,2024-01-02T00:00:00.000000001Z,2024-01-02T00:00:00.000000003Z,SHIB,0.00001233,7,,,,,,,,,,,,,,,
trade,2024-01-02T00:00:01Z,,SHIB,,,,,0.00001234,90071992547409,sell,F I,,,,,,,,,volume
trade,2024-01-02T00:00:02Z,,BRK,,,,,-612345.5,0.25,,,,,,,,,,,
status,2024-01-02T00:00:03Z,,SHIB,,,,,,,,,halted,,,,,,,,
";

#[test]
fn every_column_has_its_type_and_its_exact_value() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), INPUT, &[]);
    let header: Vec<&str> = INPUT.lines().next().unwrap().split(',').collect();
    let expected = [&header[..], &["time_nanos", "ts_recv_nanos"]].concat();
    assert_eq!(names, expected, "the columns of the CSV form, and what is beyond a microsecond");
    let rows: Vec<String> = rows.iter().map(shown).filter(|row| !row.contains("symbol=BRK name")).collect();
    let of = |kind: &str| rows.iter().filter(|row| row.starts_with(kind)).cloned().collect::<Vec<_>>();
    let definitions = of("type=instrument");
    assert_eq!(
        definitions[0],
        "type=instrument symbol=SHIB name=Shiba, Inu sector=crypto currency=USD tick_size=0.00000001 price_scale=8 \
         size_scale=0 previous_close=0.00001234"
    );
    let first = 1_704_153_600_000_000_i64;
    let at = |micros: i64| format!("time={0} ts_recv={0}", first + micros);
    assert_eq!(
        of("type=quote"),
        [format!("type=quote {} symbol=SHIB bid=0.00001233 bid_size=7 time_nanos=1 ts_recv_nanos=3", at(0))]
    );
    assert_eq!(
        of("type=trade"),
        [
            format!(
                "type=trade {} symbol=SHIB price=0.00001234 size=90071992547409 side=sell conditions=F I \
                 counts=volume time_nanos=0 ts_recv_nanos=0",
                at(1_000_000)
            ),
            format!(
                "type=trade {} symbol=BRK price=-612345.5 size=0.25 time_nanos=0 ts_recv_nanos=0",
                at(2_000_000)
            ),
        ]
    );
    assert_eq!(
        of("type=status"),
        [format!("type=status time={} symbol=SHIB state=halted time_nanos=0", first + 3_000_000)]
    );
}

#[test]
fn quotes_or_trades_alone_have_fewer_columns() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), INPUT, &["--only", "trades"]);
    assert_eq!(names, ["time", "ts_recv", "symbol", "price", "size", "side", "conditions", "counts"]);
    assert_eq!(rows.len(), 2);
    let (names, rows) = convert(folder.path(), INPUT, &["--only", "quotes"]);
    assert_eq!(
        names,
        ["time", "ts_recv", "symbol", "bid", "bid_size", "ask", "ask_size", "time_nanos", "ts_recv_nanos"]
    );
    assert_eq!(rows.len(), 1);
}

#[test]
fn a_recording_beyond_one_group_of_rows_comes_through_whole() {
    let folder = tempfile::tempdir().unwrap();
    let input: String =
        (0..300_000).map(|n| format!("{},A,{}.25,1\n", 1_704_153_600_000_000_i64 + n, n)).collect();
    let (_, rows) =
        convert(folder.path(), &format!("time,symbol,price,size\n{input}"), &["--only", "trades"]);
    assert_eq!(rows.len(), 300_000);
    for (n, row) in rows.iter().enumerate().step_by(9_973) {
        let time = 1_704_153_600_000_000 + n;
        assert_eq!(shown(row), format!("time={time} ts_recv={time} symbol=A price={n}.25 size=1"));
    }
}

#[test]
fn an_empty_recording_is_an_empty_table() {
    let folder = tempfile::tempdir().unwrap();
    let (names, rows) = convert(folder.path(), "time,symbol,price,size\n", &[]);
    assert_eq!((names.len(), rows.len()), (21, 0));
}

#[test]
fn decimals_have_the_digits_that_the_file_needs() {
    let folder = tempfile::tempdir().unwrap();
    let check = |rows: &str, expected: [(i32, i32); 2]| {
        convert(folder.path(), &format!("time,symbol,price,size\n{rows}"), &["--only", "trades"]);
        let file = std::fs::File::open(folder.path().join("out.parquet")).unwrap();
        let reader = SerializedFileReader::new(file).unwrap();
        let schema = reader.metadata().file_metadata().schema_descr();
        let column = |name| schema.columns().iter().find(|column| column.name() == name).unwrap().clone();
        assert_eq!(
            ["price", "size"].map(|name| (column(name).type_precision(), column(name).type_scale())),
            expected
        );
    };
    check("1,A,94591.79,0.5\n2,A,1.5,12\n", [(7, 2), (3, 1)]);
    // Their product might need more than 64 bits.
    check("1,A,94591.79,0.0001\n2,A,1.5,12345678\n", [(19, 2), (12, 4)]);
    check("1,A,0.00001234,90071992547409\n", [(19, 8), (14, 0)]);
}

#[test]
fn what_is_exported_is_read_back_the_same() {
    let folder = tempfile::tempdir().unwrap();
    convert(folder.path(), INPUT, &[]);
    let jsonl = |file: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_tickcast"))
            .args(["convert", folder.path().join(file).to_str().unwrap(), "-", "--to", "jsonl"])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().filter(|line| !line.contains("\"instrument\"")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(jsonl("out.parquet"), jsonl("in.csv"));
}
