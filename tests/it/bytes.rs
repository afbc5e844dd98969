//! How many bytes a recorded market takes on the wire, counted with everything around it: one session, one
//! frame for each update.

use std::path::Path;
use tickcast::feed::formats::{OpenOptions, open};
use tickcast::market::Instruments;
use tickcast::server::fanout::{Counters, Fanout, Opening};
use tickcast::server::link::Link;
use tickcast::server::rights::Rights;
use tickcast::tape::{Batch, Epoch, Position};
use tickcast::wire::Form;

#[derive(Debug)]
struct NullSocket;

impl Link for NullSocket {
    fn send(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn finish(&mut self) {}
}

/// Plays the recorded minute to one session, which is flushed every so many batches; what it was sent after
/// its snapshot.
fn play(topic: &str, batches_a_flush: usize) -> Counters {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("feeds/binance-spot-60s.tape");
    let mut feed = open(&path, &OpenOptions::default()).unwrap();
    let (mut instruments, mut fanout) = (Instruments::default(), Fanout::new(Epoch::new(1)));
    let topics = vec![topic.to_owned()];
    let opening = Opening { topics, ..Opening::new(Form::MSGPACK, Rights::ALL) };
    let (mut opened, mut position) = (None, Position::START);
    loop {
        let mut events = Vec::new();
        let Some(time) = feed.next(&mut instruments, &mut events).unwrap() else { break };
        position = position.next();
        fanout.apply(&Batch { position, time, events });
        if position.get() == 100 {
            fanout.open(&opening, |_| NullSocket);
            opened = Some(fanout.counters());
        }
        if position.get().is_multiple_of(batches_a_flush as u64) {
            fanout.flush();
        }
    }
    let (before, after) = (opened.unwrap(), fanout.counters());
    Counters {
        built: after.built - before.built,
        sent: after.sent - before.sent,
        bytes: after.bytes - before.bytes,
        delivered: after.delivered - before.delivered,
        gaps: after.gaps - before.gaps,
        events: after.events - before.events,
    }
}

/// Bytes for each value or trade told, in tenths, rounded up. More is a regression; less deserves a smaller
/// number here.
#[track_caller]
fn check(topic: &str, batches_a_flush: usize, most_tenths: u64) {
    let sent = play(topic, batches_a_flush);
    assert!(sent.delivered > 100, "{sent:?}");
    assert_eq!(sent.built, sent.sent, "one session, so each frame is for it alone");
    assert_eq!((sent.bytes * 10).div_ceil(sent.delivered), most_tenths, "{sent:?}");
}

#[test]
fn a_recorded_minute_takes_so_many_bytes_an_update() {
    check("quote:BTCUSDT", 1, 128);
}

#[test]
fn a_recorded_minute_takes_so_many_bytes_an_update_where_updates_are_merged() {
    check("quote:*", 50, 159);
    check("trades:*", 50, 79);
}
