use super::seen::{SeenTrades, TradeId};
use crate::feed::LeftOut;
use crate::feed::text::intern;
use crate::market::{
    Conditions, Counts, Event, InstrumentId, Instruments, NamedTrade, NamedTrades, NumberError, QuoteValues,
    Side, SymbolError, Timestamp, Trade,
};
use rust_decimal::Decimal;

/// What was emitted before, kept from message to message.
#[derive(Debug, Default)]
pub(super) struct Told {
    trades: SeenTrades,
    /// Indexed by instrument number: whether its last quote has a price.
    quoted: Vec<bool>,
    pub(super) left_out: LeftOut,
}

/// Receives the quotes and trades of one message.
pub(super) struct Sink<'a> {
    pub(super) arrival: Timestamp,
    /// Whether there were any.
    pub(super) is_used: bool,
    pub(super) told: &'a mut Told,
    pub(super) instruments: &'a mut Instruments,
    pub(super) out: &'a mut Vec<Event>,
}

/// A trade as a venue states it.
pub(super) struct Print<'a> {
    /// Its origin, for the counts of what is left out.
    pub(super) venue: &'static str,
    pub(super) symbol: &'a str,
    pub(super) price: Decimal,
    pub(super) size: Decimal,
    pub(super) side: Side,
    pub(super) conditions: Conditions,
    /// By which it is known again.
    pub(super) id: Option<TradeId>,
    /// The venue's time, where it states one.
    pub(super) time: Option<Timestamp>,
}

impl Print<'_> {
    fn named(&self, counts: Counts, ts_event: Timestamp) -> NamedTrade {
        let &Self { price, size, side, conditions, .. } = self;
        NamedTrade { price, size, side, conditions, counts, ts_event }
    }
}

#[derive(Debug, thiserror::Error)]
pub(super) enum SinkError {
    #[error("{0}")]
    Symbol(#[from] SymbolError),
    #[error("{0}")]
    Number(#[from] NumberError),
}

impl<'a> Sink<'a> {
    pub(super) fn new(told: &'a mut Told, instruments: &'a mut Instruments, out: &'a mut Vec<Event>) -> Self {
        Self { arrival: Timestamp::default(), is_used: false, told, instruments, out }
    }

    /// `venue` is the exchange's time, where it states one.
    pub(super) fn quote(
        &mut self,
        symbol: &str,
        values: &QuoteValues,
        venue: Option<Timestamp>,
    ) -> Result<(), SinkError> {
        let id = intern(symbol, self.instruments, self.out)?;
        self.quote_of(id, values, venue)?;
        Ok(())
    }

    fn quote_of(
        &mut self,
        id: InstrumentId,
        values: &QuoteValues,
        venue: Option<Timestamp>,
    ) -> Result<(), NumberError> {
        let times = (venue.unwrap_or(self.arrival), self.arrival);
        let quote = self.instruments.quote(id, values, times, self.out)?;
        self.out.push(Event::Quote(id, quote));
        if self.told.quoted.len() <= id.index() {
            self.told.quoted.resize(id.index() + 1, false);
        }
        self.told.quoted[id.index()] = values.bid.is_some() || values.ask.is_some();
        self.is_used = true;
        Ok(())
    }

    /// Empties each quote that has a price: the depth that it was made of is lost.
    pub(super) fn empty_quotes(&mut self) -> Result<(), SinkError> {
        let quoted = std::mem::take(&mut self.told.quoted);
        let stand = |id: &InstrumentId| quoted.get(id.index()).is_some_and(|&stands| stands);
        let ids: Vec<_> = self.instruments.iter().map(|instrument| instrument.id).filter(stand).collect();
        for id in ids {
            self.quote_of(id, &QuoteValues::default(), None)?;
        }
        Ok(())
    }

    /// A trade that is known already is left out.
    pub(super) fn trade(&mut self, print: &Print) -> Result<(), SinkError> {
        self.trade_of_counts(print, Counts::EVERYTHING)?;
        Ok(())
    }

    /// A trade that can be broken by that name.
    pub(super) fn named_trade(&mut self, print: &Print, counts: Counts, name: &str) -> Result<(), SinkError> {
        if let Some(id) = self.trade_of_counts(print, counts)?
            && name.len() <= NamedTrades::MAX_NAME
        {
            let named = print.named(counts, print.time.unwrap_or(self.arrival));
            self.instruments.named_trades().note(id, name, named);
        }
        Ok(())
    }

    /// Breaks the trade of that name, and replaces it by one of the same time with another name; false if
    /// there was no such trade, or it was broken already.
    pub(super) fn take_back(
        &mut self,
        symbol: &str,
        name: &str,
        correction: Option<(&Print, Counts, &str)>,
    ) -> Result<bool, SinkError> {
        let Some(id) = self.instruments.by_symbol(symbol).map(|known| known.id) else { return Ok(false) };
        let Some(was) = self.instruments.named_trades().take(id, name) else { return Ok(false) };
        let is = correction.map(|(print, counts, name)| (print.named(counts, was.ts_event), name));
        let corrected = is.as_ref().map(|(trade, _)| trade);
        self.instruments.take_back(id, &was, corrected, self.arrival, self.out)?;
        if let Some((trade, name)) = is.filter(|(_, name)| name.len() <= NamedTrades::MAX_NAME) {
            self.instruments.named_trades().note(id, name, trade);
        }
        self.is_used = true;
        Ok(true)
    }

    /// Sets the origin, unless it is known already.
    fn trade_of_counts(&mut self, print: &Print, counts: Counts) -> Result<Option<InstrumentId>, SinkError> {
        let id = intern(print.symbol, self.instruments, self.out)?;
        if print.id.is_some_and(|trade| !self.told.trades.is_new(id, trade)) {
            self.leave(print.venue, "trade that was told before");
            return Ok(None);
        }
        let times = (print.time.unwrap_or(self.arrival), self.arrival);
        let kind = (print.side, print.conditions);
        let trade = self.instruments.trade(id, (print.price, print.size), kind, times, self.out)?;
        self.out.push(Event::Trade(id, Trade { counts, ..trade }));
        self.is_used = true;
        Ok(Some(id))
    }

    /// Counts a message that holds nothing for a tape.
    pub(super) fn leave(&mut self, venue: &'static str, kind: &str) {
        self.told.left_out.add(venue, kind);
    }
}
