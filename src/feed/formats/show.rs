//! The output of a feed in words, for tests of its reader.

use crate::feed::Feed;
use crate::market::{Event, Instrument, Instruments, Price, Timestamp};

/// One line an event or error: the feed's moment, the event in decimals, and its own times where they differ.
pub fn show(feed: &mut dyn Feed) -> Vec<String> {
    let (mut instruments, mut out) = (Instruments::default(), Vec::new());
    let mut shown = Vec::new();
    loop {
        match feed.next(&mut instruments, &mut out) {
            Ok(None) => return shown,
            Ok(Some(time)) => {
                let events = out.drain(..).filter(|event| !matches!(event, Event::Instrument(_)));
                shown
                    .extend(events.map(|event| format!("{time} {}", show_event(&event, time, &instruments))));
            }
            Err(error) => shown.push(error.to_string()),
        }
    }
}

fn show_event(event: &Event, time: Timestamp, instruments: &Instruments) -> String {
    match event {
        Event::Quote(id, quote) => {
            let x = instruments.get(*id).unwrap();
            let size = |size: crate::market::Size| size.to_decimal(x.size_scale).normalize();
            let times = show_times(time, quote.ts_event, quote.ts_recv);
            let (bid, ask) = (show_price(quote.bid, x), show_price(quote.ask, x));
            let (bid_size, ask_size) = (size(quote.bid_size), size(quote.ask_size));
            format!("quote {} {bid} x {bid_size} / {ask} x {ask_size}{times}", x.symbol)
        }
        Event::Trade(id, trade) => {
            let x = instruments.get(*id).unwrap();
            let (price, size) = (show_price(trade.price, x), trade.size.to_decimal(x.size_scale).normalize());
            let conditions = match trade.conditions.as_str() {
                "" => String::new(),
                text => format!(" {text:?}"),
            };
            let counts = match trade.counts {
                counts if counts.is_everything() => String::new(),
                counts => format!(", counts for {counts}"),
            };
            let times = show_times(time, trade.ts_event, trade.ts_recv);
            format!("trade {} {price} x {size} {}{conditions}{counts}{times}", x.symbol, trade.side)
        }
        other => format!("{other:?}"),
    }
}

fn show_price(price: Price, instrument: &Instrument) -> String {
    price.to_decimal(instrument.price_scale).map_or_else(|| "-".to_owned(), |p| p.normalize().to_string())
}

fn show_times(time: Timestamp, event: Timestamp, recv: Timestamp) -> String {
    let other = |name, at: Timestamp| if at == time { String::new() } else { format!(", {name} {at}") };
    format!("{}{}", other("event", event), other("recv", recv))
}
