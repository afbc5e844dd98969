//! `GET /v1/instruments` and `GET /v1/quotes`: the market as it is now.

use super::cursor::Numbering;
use super::represent::{Entry, Format, Listing, Moment, Row, Shape, Table};
use super::select::{Parameters, Selection, Symbols};
use super::{market, reset_meanwhile};
use crate::hub::{Book, Replica};
use crate::server::App;
use crate::server::problem::Problem;
use crate::server::room::Room;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::Response;
use std::sync::Arc;

/// Instruments that are looked at before the replica is let go.
const SLICE: usize = 1024;

/// `GET /v1/instruments`: reference data of all, by number.
pub(in crate::server) async fn instruments(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["format", "room"])?;
    list(&app, Table::Instruments, &parameters, &headers, |_| Some(Entry::Instrument)).await
}

/// `GET /v1/quotes?symbols=A,B`: the current quotes, of all instruments without `symbols`.
pub(in crate::server) async fn quotes(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let parameters = Parameters::parse(query.as_deref(), &["symbols", "format", "room"])?;
    list(&app, Table::Quotes, &parameters, &headers, |book| book.quote.get().copied().map(Entry::Quote)).await
}

async fn list(
    app: &App,
    table: Table,
    parameters: &Parameters,
    headers: &HeaderMap,
    entry: fn(&Book) -> Option<Entry>,
) -> Result<Response, Problem> {
    let format = Format::asked(parameters, headers)?;
    let symbols = parameters.get("symbols").map(Symbols::parse).transpose()?;
    let room = market(app, parameters.get("room"))?;
    let _turn = app.memory.listing().await;
    let (moment, rows) = rows(&room, symbols, entry).await?;
    let listing = Listing { table, shape: Shape::List, moment, rows, paging: None };
    listing.respond(app, format, "", headers).await
}

/// A row of each instrument that has an entry, read a part at a time; of all without `symbols`.
async fn rows(
    room: &Room,
    symbols: Option<Symbols>,
    entry: fn(&Book) -> Option<Entry>,
) -> Result<(Moment, Vec<Row>), Problem> {
    let begin = move |replica: &Replica| {
        let selection = symbols.map_or(Ok(Selection::All), |symbols| symbols.resolve(replica))?;
        Ok::<_, Problem>((Moment::of(replica), Arc::new(selection)))
    };
    let (moment, selection) = room.look(begin).await??;
    let mut rows = Vec::new();
    for slice in 0.. {
        let selection = Arc::clone(&selection);
        let look = move |replica: &Replica| {
            let indices = slice * SLICE..(slice + 1) * SLICE;
            let ids = indices.map_while(|index| selection.get(index, replica));
            let books: Vec<&Book> = ids.map_while(|id| replica.book(id)).collect();
            let rows = books.iter().filter_map(|book| Some(Row::new(book, entry(book)?)));
            let is_same = Numbering::of(replica) == moment.numbering;
            is_same.then(|| (rows.collect::<Vec<_>>(), books.len() == SLICE))
        };
        let (more, is_full) = room.look(look).await?.ok_or_else(reset_meanwhile)?;
        rows.extend(more);
        if !is_full {
            break;
        }
        // So that others get a turn on this thread, too.
        tokio::task::yield_now().await;
    }
    Ok((moment, rows))
}
