//! Headers of CSV files that are recognised by themselves, and what their columns hold.

use super::columns::{ColumnError, ColumnMapping, Field};
use crate::market::Timestamp;

/// Exactly these columns, in any order.
const KNOWN: &[(&str, &str)] = &[
    (
        TAQ_QUOTES,
        "time=DT,venue=EX,symbol=SYMBOL,bid=BID,bid_size=BIDSIZ,ask=OFR,ask_size=OFRSIZ,\
         size_unit=100,zero_is_empty=true",
    ),
    (
        // NYSE TAQ trades.
        "DT,EX,SYMBOL,COND,SIZE,PRICE,CORR",
        "time=DT,venue=EX,symbol=SYMBOL,price=PRICE,size=SIZE,conditions=COND,correction=CORR,\
         conditions_of=us",
    ),
    (
        // Tardis quotes.
        "exchange,symbol,timestamp,local_timestamp,ask_amount,ask_price,bid_price,bid_amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,venue=exchange,\
         bid=bid_price,bid_size=bid_amount,ask=ask_price,ask_size=ask_amount",
    ),
    (
        // Tardis trades.
        "exchange,symbol,timestamp,local_timestamp,id,side,price,amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,trade_id=id,price=price,size=amount,side=side",
    ),
    (
        // Tardis changes of order books, and the snapshots they start from.
        "exchange,symbol,timestamp,local_timestamp,is_snapshot,side,price,amount",
        "time=timestamp,ts_recv=local_timestamp,symbol=symbol,snapshot=is_snapshot,side=side,price=price,size=amount",
    ),
    ("timestamp,bid,ask", "time=timestamp,bid=bid,ask=ask"), // TrueFX, with a header
    (
        // MetaTrader 5 writes what has changed.
        "<DATE>,<TIME>,<BID>,<ASK>,<LAST>,<VOLUME>,<FLAGS>",
        "date=<DATE>,time=<TIME>,bid=<BID>,ask=<ASK>,price=<LAST>,size=<VOLUME>,side=<FLAGS>,\
         empty_is_unchanged=true,side_is_flags=true",
    ),
    (
        "<DATE>,<TIME>,<BID>,<ASK>,<LAST>,<VOLUME>",
        "date=<DATE>,time=<TIME>,bid=<BID>,ask=<ASK>,price=<LAST>,size=<VOLUME>,empty_is_unchanged=true",
    ),
    // Dukascopy's JForex, its web page, and dukascopy-node.
    (
        "Gmt time,Ask,Bid,AskVolume,BidVolume",
        "time=Gmt time,bid=Bid,bid_size=BidVolume,ask=Ask,ask_size=AskVolume",
    ),
    (
        "Local time,Ask,Bid,AskVolume,BidVolume",
        "time=Local time,bid=Bid,bid_size=BidVolume,ask=Ask,ask_size=AskVolume",
    ),
    (
        "Time (UTC),Ask,Bid,AskVolume,BidVolume",
        "time=Time (UTC),bid=Bid,bid_size=BidVolume,ask=Ask,ask_size=AskVolume",
    ),
    (
        "Time (EET),Ask,Bid,AskVolume,BidVolume",
        "time=Time (EET),bid=Bid,bid_size=BidVolume,ask=Ask,ask_size=AskVolume",
    ),
    (
        "timestamp,askPrice,bidPrice,askVolume,bidVolume",
        "time=timestamp,bid=bidPrice,bid_size=bidVolume,ask=askPrice,ask_size=askVolume",
    ),
    // Binance's archive of futures. That of spot has no header: see `sniff`.
    (
        "id,price,qty,quote_qty,time,is_buyer_maker",
        "trade_id=id,price=price,size=qty,time=time,buyer_is_maker=is_buyer_maker",
    ),
    (
        "agg_trade_id,price,quantity,first_trade_id,last_trade_id,transact_time,is_buyer_maker",
        "trade_id=agg_trade_id,price=price,size=quantity,time=transact_time,buyer_is_maker=is_buyer_maker",
    ),
    (
        "update_id,best_bid_price,best_bid_qty,best_ask_price,best_ask_qty,transaction_time,event_time",
        "bid=best_bid_price,bid_size=best_bid_qty,ask=best_ask_price,ask_size=best_ask_qty,\
         time=transaction_time,zero_is_empty=true",
    ),
    // Bybit's archive, of derivatives and of spot.
    (
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional",
        "time=timestamp,symbol=symbol,side=side,size=size,price=price,trade_id=trdMatchID",
    ),
    (
        "timestamp,symbol,side,size,price,tickDirection,trdMatchID,grossValue,homeNotional,foreignNotional,RPI",
        "time=timestamp,symbol=symbol,side=side,size=size,price=price,trade_id=trdMatchID",
    ),
    ("id,timestamp,price,volume,side", "trade_id=id,time=timestamp,price=price,size=volume,side=side"),
    ("id,timestamp,price,volume,side,rpi", "trade_id=id,time=timestamp,price=price,size=volume,side=side"),
];

/// NYSE TAQ quotes: sizes in round lots, 0 is no quote on that side.
const TAQ_QUOTES: &str = "DT,EX,BID,BIDSIZ,OFR,OFRSIZ,SYMBOL";
/// 2025-11-03 in New York, in ns: from then on the SIPs send the sizes of quotes in shares.
pub(super) const SHARES_SINCE: Timestamp = Timestamp::from_nanos(1_762_146_000_000_000_000);

/// Tardis snapshots of order books of any depth, of which the best level is read.
const SNAPSHOTS: (&[&str], &str) = (
    &[
        "exchange",
        "symbol",
        "timestamp",
        "local_timestamp",
        "asks[0].price",
        "asks[0].amount",
        "bids[0].price",
        "bids[0].amount",
    ],
    "time=timestamp,ts_recv=local_timestamp,symbol=symbol,venue=exchange,\
     bid=bids[0].price,bid_size=bids[0].amount,ask=asks[0].price,ask_size=asks[0].amount",
);

/// Kinds of files in archives: part of the name between the symbol and the date.
const ARCHIVED: [&str; 3] = ["-trades-", "-aggTrades-", "-bookTicker-"];

/// The mapping of a known header, or of our own form, whose columns have the names of the fields; others are
/// not read.
pub(super) fn mapping(header: &[&str]) -> Result<ColumnMapping, ColumnError> {
    let is_header = |known: &str| {
        known.split(',').count() == header.len() && known.split(',').all(|name| header.contains(&name))
    };
    if let Some((known, mapping)) = KNOWN.iter().find(|(known, _)| is_header(known)) {
        let mut mapping = ColumnMapping::parse(mapping)?;
        mapping.size_unit_until = (*known == TAQ_QUOTES).then_some(SHARES_SINCE);
        return Ok(mapping);
    }
    if SNAPSHOTS.0.iter().all(|name| header.contains(name)) {
        return ColumnMapping::parse(SNAPSHOTS.1);
    }
    let own = |name: &&&str| **name != "time" && Field::ALL.iter().any(|field| field.name() == **name);
    let pairs: Vec<_> = header.iter().filter(own).map(|name| format!("{name}={name}")).collect();
    if ["open", "high", "low", "close"].iter().all(|name| header.contains(name)) {
        return Err(ColumnError::Bars);
    }
    header
        .contains(&"time")
        .then(|| ColumnMapping::parse(&format!("time=time,{}", pairs.join(","))).ok())
        .flatten()
        .ok_or_else(|| ColumnError::UnknownHeader { header: header.join(",").chars().take(200).collect() })
}

/// `BTCUSDT` of Binance's `BTCUSDT-trades-2025-01-02.csv`, and of Bybit's `BTCUSDT_2025-01-02.csv`.
pub(super) fn archive_symbol(stem: &str) -> Option<&str> {
    if let Some(symbol) = ARCHIVED.iter().find_map(|kind| stem.split_once(kind)).map(|(symbol, _)| symbol) {
        return Some(symbol);
    }
    let (symbol, date) = stem.split_once(['_', '-'])?;
    let is_date =
        !date.is_empty() && date.bytes().all(|b| b.is_ascii_digit() || b == b'-') && date.starts_with("20");
    is_date.then_some(symbol)
}

/// Whether a header is one of those archives whose files are named by their symbol.
pub(super) fn is_archive(header: &str) -> bool {
    let known =
        KNOWN.iter().map(|(known, _)| *known).filter(|known| !known.split(',').any(|name| name == "symbol"));
    known.filter(|known| *known != "timestamp,bid,ask").any(|known| known == header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(header: &str, expected: Option<&str>) {
        let columns: Vec<_> = header.split(',').collect();
        let kind = mapping(&columns)
            .and_then(|mapping| mapping.layout(&columns))
            .map(|layout| format!("{:?}", layout.kind));
        assert_eq!(kind.ok().as_deref(), expected, "{header}");
    }

    #[test]
    fn known_headers_are_recognised_in_any_order_and_others_are_not() {
        check("SYMBOL,DT,EX,BID,BIDSIZ,OFR,OFRSIZ", Some("Quotes"));
        check("DT,EX,SYMBOL,COND,SIZE,PRICE,CORR", Some("Trades"));
        for (header, _) in KNOWN {
            assert!(mapping(&header.split(',').collect::<Vec<_>>()).is_ok(), "{header}");
        }
        check("time,symbol,price,size,side,venue", Some("Trades"));
        check("time,bid,ask", Some("Quotes"));
        let tardis = "exchange,symbol,timestamp,local_timestamp";
        check(&format!("{tardis},id,side,price,amount"), Some("Trades"));
        check(&format!("{tardis},is_snapshot,side,price,amount"), Some("Levels"));
        let level = "asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price,asks[1].amount";
        check(&format!("{tardis},{level}"), Some("Quotes"));
        check("id,price,qty,quote_qty,time,is_buyer_maker", Some("Trades"));
        check("20200101 170000065,1.1,1.2,0", None);
        let bars = ["open_time", "open", "high", "low", "close", "volume"];
        assert_eq!(mapping(&bars).unwrap_err(), ColumnError::Bars);
    }

    #[test]
    fn files_of_archives_are_named_by_their_symbol() {
        let check = |stem, expected| assert_eq!(archive_symbol(stem), expected, "{stem}");
        check("BTCUSDT-trades-2025-01-02", Some("BTCUSDT"));
        check("BTCUSD_PERP-aggTrades-2025-01", Some("BTCUSD_PERP"));
        check("BTCUSDT_240329-bookTicker-2024-01-02", Some("BTCUSDT_240329"));
        check("BTCUSDT_2025-01-02", Some("BTCUSDT"));
        check("ETHUSDT-2025-01", Some("ETHUSDT"));
        check("quotes", None);
        check("EURUSD-ticks", None);
    }
}
