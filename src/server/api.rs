use super::App;
use super::problem::Problem;
use super::replay::asked_room;
use super::rights::Rights;
use super::room::Room;
use super::stats;
use crate::feed::sim::SimConfig;
use crate::hint::nearest;
use crate::hub::{Book, Kind, Replica};
use crate::market::{Bar, Symbol};
use crate::tape::Timeline;
use crate::wire::json;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::{Arc, atomic::Ordering};

/// Entries of a list unless the request asks for another number.
const DEFAULT_LIMIT: usize = 100;
/// Symbols of one `/v1/quotes` request.
const MAX_SYMBOLS: usize = 1000;

/// `GET /healthz`: whether the process runs.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: whether events can be received here.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let not_ready =
        |detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "1"));
    if app.leaving.load(Ordering::Relaxed) {
        return not_ready("the server is shutting down");
    }
    let (market, status) = (&app.public, app.public.progress.timeline().status);
    if market.progress.has_ended() || market.shards().iter().any(|shard| shard.end().is_over()) {
        return not_ready(super::room::FAILED);
    }
    let position = app.replica().position().get();
    if position == 0 {
        return not_ready("the tape has not begun");
    }
    if !market.has_begun() {
        return not_ready("what is played is being brought to where it is to begin");
    }
    let mut answer = json!({
        "ready": true,
        "position": position,
        "connections": app.connections.sockets.taken(),
        "feed": status.state.name(),
    });
    // The market goes on without its recording, so a monitor must learn of a failure here.
    if let Some(recording) = stats::recording(&app) {
        answer["recording"] = json!(recording);
    }
    Ok(Json(answer))
}

/// `GET /version`
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": crate::wire::PROTOCOL,
    }))
}

/// `GET /v1/feed`: the feed of the tape, and its clock.
pub(super) async fn feed(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let [room] = query_of(query.as_deref(), ["room"])?;
    let room = market(&app, room.as_deref())?;
    let Timeline { status, feed, wall, reanchored, .. } = room.progress.timeline();
    let simulator =
        room.source().and_then(|source| source.simulation()).map(|SimConfig { symbols, rate, seed, start }| {
            json!({ "symbols": symbols, "rate": rate, "seed": seed, "start": start.to_string() })
        });
    let scenario = room.scenario().await?.map(|(name, phase)| json!({ "name": name, "phase": phase }));
    Ok(Json(json!({
        "kind": status.kind.name(),
        "state": status.state.name(),
        "speed": status.speed,
        "simulator": simulator,
        "scenario": scenario,
        "clock": { "feed_us": feed.micros(), "wall_us": wall.micros() },
        "reanchored": reanchored,
        "behind_ms": u64::try_from(room.progress.behind().as_millis()).unwrap_or(u64::MAX),
        "records": { "unreadable": room.progress.faults(), "left_out": room.progress.left_out() },
        "room": room.name,
    })))
}

/// `GET /v1/instruments`: reference data of all, by number.
pub(super) async fn instruments(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let [room] = query_of(query.as_deref(), ["room"])?;
    let market = market(&app, room.as_deref())?;
    let answer = market.look(|replica| {
        let rows = replica.books().map(|book| json::instrument(&book.definition));
        list(replica, "instruments", rows)
    });
    app.memory.answer(answer.await?)
}

/// `GET /v1/quotes?symbols=A,B`: the current quotes, of all instruments without `symbols`.
pub(super) async fn quotes(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let [symbols, room] = query_of(query.as_deref(), ["symbols", "room"])?;
    let market = market(&app, room.as_deref())?;
    let answer = market.look(move |replica| {
        let books: Vec<&Book> = match &symbols {
            None => replica.books().collect(),
            Some(symbols) => {
                let symbols: Vec<&str> = symbols.split(',').filter(|symbol| !symbol.is_empty()).collect();
                if symbols.len() > MAX_SYMBOLS {
                    return Err(Problem::bad_request(format!(
                        "symbols: at most {MAX_SYMBOLS} in one request"
                    )));
                }
                let listed = |text: &str| match text.parse::<Symbol>() {
                    Ok(symbol) => book(replica, symbol.as_str()),
                    Err(error) => Err(Problem::bad_request(format!("symbols: {error}"))),
                };
                symbols.into_iter().map(listed).collect::<Result<_, _>>()?
            }
        };
        Ok(list(replica, "quotes", books.into_iter().filter_map(quote)))
    });
    app.memory.answer(answer.await??)
}

/// `GET /v1/trades/SYMBOL?limit=N`: the newest trades, oldest first.
pub(super) async fn trades(
    State(app): State<Arc<App>>,
    symbol: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let symbol = symbol_of(symbol)?;
    let [limit, room] = query_of(query.as_deref(), ["limit", "room"])?;
    let market = market(&app, room.as_deref())?;
    let limit = limit_of(limit.as_deref(), crate::hub::TRADES_KEPT)?;
    let answer = market.look(move |replica| {
        let book = book(replica, &symbol)?;
        let newest = book.trades.newest(limit);
        let list: Vec<Value> =
            newest.map(|(number, trade)| json::trade(&book.definition, number, &trade)).collect();
        let mut answer = at(replica, "trades", &list);
        answer["symbol"] = book.definition.symbol.as_str().into();
        Ok::<_, Problem>(answer)
    });
    Ok(Json(answer.await??).into_response())
}

/// `GET /v1/bars/SYMBOL?interval=1s|1m&limit=N`: the newest bars, oldest first; the last one may still be
/// open.
pub(super) async fn bars(
    State(app): State<Arc<App>>,
    symbol: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let symbol = symbol_of(symbol)?;
    let [interval, limit, room] = query_of(query.as_deref(), ["interval", "limit", "room"])?;
    let market = market(&app, room.as_deref())?;
    let interval = interval.unwrap_or_else(|| "1m".to_owned());
    let kind = match &*interval {
        "1s" => Kind::Bars1s,
        "1m" => Kind::Bars1m,
        other => return Err(Problem::bad_request(format!("interval={other:?}: expected 1s or 1m"))),
    };
    let limit = limit_of(limit.as_deref(), crate::hub::BARS_KEPT + 1)?;
    let answer = market.look(move |replica| {
        let book = book(replica, &symbol)?;
        let bars = book.bars(kind).expect("a kind of bars");
        let show = |bar: &Bar, open: bool| {
            let mut fields = json::bar(&book.definition, bar);
            fields.insert("closed".to_owned(), (!open).into());
            Value::Object(fields)
        };
        let open = bars.latest.open().map(|bar| show(bar, true));
        let closed = bars.newest(limit - usize::from(open.is_some()));
        let list: Vec<Value> = closed.iter().map(|bar| show(bar, false)).chain(open).collect();
        let mut answer = at(replica, "bars", &list);
        answer["symbol"] = book.definition.symbol.as_str().into();
        answer["interval"] = interval.into();
        Ok::<_, Problem>(answer)
    });
    Ok(Json(answer.await??).into_response())
}

/// The market that a request is of: the public one, or a room's.
fn market(app: &App, room: Option<&str>) -> Result<Arc<Room>, Problem> {
    asked_room(app, room, None, Rights::NONE).map(|(room, _)| room)
}

/// Any other path.
pub(super) fn not_found(uri: &axum::http::Uri) -> Problem {
    const PATHS: [&str; 14] = [
        "/",
        "/ops",
        "/v1/ws",
        "/v1/publish",
        "/v1/instruments",
        "/v1/quotes",
        "/v1/trades/SYMBOL",
        "/v1/bars/SYMBOL",
        "/v1/poll",
        "/v1/feed",
        "/v1/replay",
        "/metrics",
        "/readyz",
        "/version",
    ];
    let path: String = uri.path().chars().take(200).collect();
    let hint = nearest(&path, PATHS.into_iter())
        .map_or_else(|| format!("there are {}", PATHS.join(", ")), |near| format!("did you mean {near}?"));
    Problem::not_found(format!("nothing at {path}: {hint}"))
}

/// A known path with the wrong method.
pub(super) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::wrong_method(&method, &uri)
}

/// A list with its moment on the tape.
fn at(replica: &Replica, name: &str, list: &[Value]) -> Value {
    json!({
        "epoch": replica.epoch().get(),
        "position": replica.position().get(),
        "time": json::moment(replica.time()),
        name: list,
    })
}

/// As [`at`], written row by row: the rows of a hundred thousand symbols as values would take ten times their
/// text.
fn list(replica: &Replica, name: &str, rows: impl Iterator<Item = Value>) -> Vec<u8> {
    let mut text = at(replica, name, &[]).to_string().into_bytes();
    // The list is empty and comes last, so its brackets are at the end.
    text.truncate(text.len() - "]}".len());
    for (number, row) in rows.enumerate() {
        if number > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &row).expect("a vector takes all");
    }
    text.extend_from_slice(b"]}");
    text
}

fn quote(book: &Book) -> Option<Value> {
    let (quote, definition) = (book.quote.get()?, &book.definition);
    let mut fields = Map::from_iter([("symbol".to_owned(), definition.symbol.as_str().into())]);
    fields.extend(json::quote(definition, quote));
    fields.insert("ts_recv".to_owned(), json::moment(quote.ts_recv));
    Some(Value::Object(fields))
}

fn book<'a>(replica: &'a Replica, symbol: &str) -> Result<&'a Book, Problem> {
    replica.by_symbol(symbol).ok_or_else(|| {
        let symbol: String = symbol.chars().take(100).collect();
        let symbols = replica.books().map(|book| book.definition.symbol.as_str());
        match nearest(&symbol, symbols) {
            Some(near) => Problem::not_found(format!("unknown symbol {symbol:?}: did you mean {near:?}?"))
                .with("nearest", near),
            None => Problem::not_found(format!("unknown symbol {symbol:?}: /v1/instruments lists all")),
        }
    })
}

/// The symbol at the end of a path.
fn symbol_of(path: Result<Path<String>, PathRejection>) -> Result<String, Problem> {
    path.map(|Path(symbol)| symbol).map_err(|error| Problem::bad_request(error.body_text()))
}

/// The values of the query parameters of these names; any other parameter is an error.
pub(super) fn query_of<const N: usize>(
    query: Option<&str>,
    names: [&str; N],
) -> Result<[Option<String>; N], Problem> {
    let mut values = [const { None }; N];
    for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        let Some(index) = names.iter().position(|known| *known == name) else {
            if name == "room" {
                let detail = "room: this is of the server and its public market, and not to be had of a room";
                return Err(Problem::bad_request(detail));
            }
            let name: String = name.chars().take(100).collect();
            let there = match names.as_slice() {
                [] => "there are none".to_owned(),
                [only] => format!("there is only {only}"),
                names => format!("there are {}", names.join(", ")),
            };
            return Err(Problem::bad_request(format!("unknown query parameter {name:?}: {there}")));
        };
        values[index] = Some(value.into_owned());
    }
    Ok(values)
}

fn limit_of(text: Option<&str>, max: usize) -> Result<usize, Problem> {
    let Some(text) = text else { return Ok(DEFAULT_LIMIT) };
    let limit = text.parse().ok().filter(|limit| (1..=max).contains(limit));
    limit.ok_or_else(|| {
        let text: String = text.chars().take(100).collect();
        Problem::bad_request(format!("limit={text:?}: expected a number from 1 to {max}"))
    })
}
