use super::App;
use super::problem::Problem;
use super::replay::asked_room;
use super::room::Room;
use crate::feed::sim::SimConfig;
use crate::hub::{Book, Kind, Replica, bar_field, nearest};
use crate::market::{FeedKind, Speed};
use crate::tape::Timeline;
use crate::wire::json;
use axum::Json;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};
use std::sync::{Arc, atomic::Ordering};

/// Entries of a list that are given unless the request asks for fewer.
const DEFAULT_LIMIT: usize = 100;
/// Symbols of one `/v1/quotes` request.
const MAX_SYMBOLS: usize = 1000;

/// `GET /healthz`: the process lives.
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// `GET /readyz`: events can be had here.
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Value>, Problem> {
    let not_ready =
        |detail| Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).header(header::RETRY_AFTER, "1"));
    if app.leaving.load(Ordering::Relaxed) {
        return not_ready("the server is shutting down");
    }
    let replica = app.replica();
    if replica.position().get() == 0 {
        return not_ready("the tape has not begun");
    }
    Ok(Json(json!({ "ready": true, "position": replica.position().get(), "connections": app.seats.taken() })))
}

/// `GET /version`
pub(super) async fn version() -> Json<Value> {
    Json(json!({
        "name": env!("CARGO_PKG_NAME"),
        "version": env!("CARGO_PKG_VERSION"),
        "protocol": crate::wire::PROTOCOL,
    }))
}

/// `GET /v1/feed`: what feeds the tape, and its clock.
pub(super) async fn feed(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Json<Value>, Problem> {
    let [room] = query_of(query.as_deref(), ["room"])?;
    let room = market(&app, room.as_deref())?;
    let Timeline { status, feed, wall, speed, reanchored } = room.progress.timeline();
    let speed = match speed {
        _ if status.kind == FeedKind::Publisher => Value::Null,
        Speed::Max => "max".into(),
        Speed::Times(factor) => factor.into(),
    };
    let simulator =
        room.source().and_then(|source| source.simulation()).map(|SimConfig { symbols, rate, seed, start }| {
            json!({ "symbols": symbols, "rate": rate, "seed": seed, "start": start.to_string() })
        });
    let scenario = room.scenario().await?.map(|(name, phase)| json!({ "name": name, "phase": phase }));
    Ok(Json(json!({
        "kind": status.kind.name(),
        "state": status.state.name(),
        "speed": speed,
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
    let replica = market.folded.replica();
    let list: Vec<Value> = replica.books().map(|book| json::instrument(&book.definition)).collect();
    Ok(Json(at(&replica, "instruments", &list)).into_response())
}

/// `GET /v1/quotes?symbols=A,B`: the current quotes, of all where no symbols are given.
pub(super) async fn quotes(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let [symbols, room] = query_of(query.as_deref(), ["symbols", "room"])?;
    let market = market(&app, room.as_deref())?;
    let replica = market.folded.replica();
    let books: Vec<&Book> = match &symbols {
        None => replica.books().collect(),
        Some(symbols) => {
            let symbols: Vec<&str> = symbols.split(',').filter(|symbol| !symbol.is_empty()).collect();
            if symbols.len() > MAX_SYMBOLS {
                return Err(Problem::bad_request(format!("symbols: at most {MAX_SYMBOLS} in one request")));
            }
            symbols.into_iter().map(|symbol| book(&replica, symbol)).collect::<Result<_, _>>()?
        }
    };
    let list: Vec<Value> = books.into_iter().filter_map(quote).collect();
    Ok(Json(at(&replica, "quotes", &list)).into_response())
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
    let replica = market.folded.replica();
    let book = book(&replica, &symbol)?;
    let list: Vec<Value> = book
        .trades
        .newest(limit)
        .map(|(number, trade)| json::trade(&book.definition, number, trade))
        .collect();
    let mut answer = at(&replica, "trades", &list);
    answer["symbol"] = book.definition.symbol.as_str().into();
    Ok(Json(answer).into_response())
}

/// `GET /v1/bars/SYMBOL?interval=1s|1m&limit=N`: the newest bars, oldest first; the last one may still be open.
pub(super) async fn bars(
    State(app): State<Arc<App>>,
    symbol: Result<Path<String>, PathRejection>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    let symbol = symbol_of(symbol)?;
    let [interval, limit, room] = query_of(query.as_deref(), ["interval", "limit", "room"])?;
    let market = market(&app, room.as_deref())?;
    let interval = interval.as_deref().unwrap_or("1m");
    let kind = match interval {
        "1s" => Kind::Bars1s,
        "1m" => Kind::Bars1m,
        other => return Err(Problem::bad_request(format!("interval={other:?}: expected 1s or 1m"))),
    };
    let limit = limit_of(limit.as_deref(), crate::hub::BARS_KEPT + 1)?;
    let replica = market.folded.replica();
    let book = book(&replica, &symbol)?;
    let bars = book.bars(kind).expect("a kind of bars");
    let show = |bar, open: bool| {
        let mut fields = json::bar(&book.definition, bar_field::BAR, bar);
        fields.insert("closed".to_owned(), (!open).into());
        Value::Object(fields)
    };
    let open = bars.latest.open().map(|bar| show(bar, true));
    let closed = bars.closed.newest(limit - usize::from(open.is_some())).map(|(_, bar)| show(bar, false));
    let list: Vec<Value> = closed.chain(open).collect();
    let mut answer = at(&replica, "bars", &list);
    answer["symbol"] = book.definition.symbol.as_str().into();
    answer["interval"] = interval.into();
    Ok(Json(answer).into_response())
}

/// The market that a request is of: the public one, or a room's.
fn market(app: &App, room: Option<&str>) -> Result<Arc<Room>, Problem> {
    asked_room(app, room, None).map(|(room, _)| room)
}

/// Any other path.
pub(super) fn not_found(uri: &axum::http::Uri) -> Problem {
    const PATHS: [&str; 13] = [
        "/",
        "/ops",
        "/v1/ws",
        "/v1/publish",
        "/v1/instruments",
        "/v1/quotes",
        "/v1/trades/SYMBOL",
        "/v1/bars/SYMBOL",
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

/// A known path asked with the wrong method.
pub(super) async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Problem {
    Problem::wrong_method(&method, &uri)
}

/// A list with the moment on the tape that it shows.
fn at(replica: &Replica, name: &str, list: &[Value]) -> Value {
    json!({
        "epoch": replica.epoch().get(),
        "position": replica.position().get(),
        "time": json::moment(replica.time()),
        name: list,
    })
}

fn quote(book: &Book) -> Option<Value> {
    let (quote, definition) = (book.quote.get()?, &book.definition);
    let mut fields = Map::new();
    for (name, value) in [
        ("symbol", definition.symbol.as_str().into()),
        ("bid", json::price(definition, quote.bid)),
        ("bid_size", json::size(definition, quote.bid_size)),
        ("ask", json::price(definition, quote.ask)),
        ("ask_size", json::size(definition, quote.ask_size)),
        ("ts_event", json::moment(quote.ts_event)),
        ("ts_recv", json::moment(quote.ts_recv)),
    ] {
        fields.insert(name.to_owned(), value);
    }
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

/// The values of the query parameters of these names; any other is an error.
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
