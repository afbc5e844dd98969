use crate::record::support::{Server, read};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use tickcast::market::Event;

/// A way to a server that can be cut and mended.
struct Way {
    address: SocketAddr,
    /// Its ends at the server; `None` while it is cut, when whoever comes is turned away.
    open: Arc<Mutex<Option<Vec<TcpStream>>>>,
    /// The server it leads to.
    target: Arc<Mutex<String>>,
}

impl Way {
    fn to(server: &Server) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open = Arc::new(Mutex::new(Some(Vec::new())));
        let target = Arc::new(Mutex::new(server.address.clone()));
        let (streams, leads_to) = (Arc::clone(&open), Arc::clone(&target));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let mut streams = streams.lock().unwrap();
                let Some(streams) = streams.as_mut() else { continue };
                let server = TcpStream::connect(&*leads_to.lock().unwrap()).expect("the server listens");
                for (from, to) in [(&client, &server), (&server, &client)] {
                    let [from, to] = [from, to].map(|stream| stream.try_clone().unwrap());
                    std::thread::spawn(move || carry(from, to));
                }
                streams.push(server);
            }
        });
        Self { address, open, target }
    }

    /// What the server has sent by then still arrives.
    fn cut(&self) {
        for stream in self.open.lock().unwrap().take().expect("it is open") {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    fn mend(&self) {
        *self.open.lock().unwrap() = Some(Vec::new());
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// Publishes trades of A whose sizes are these numbers.
fn publish(server: &Server, sizes: std::ops::RangeInclusive<u32>) {
    let trade = |size| format!("{{\"type\":\"trade\",\"symbol\":\"A\",\"price\":1,\"size\":{size}}}\n");
    let body: String = sizes.map(trade).collect();
    server.post("/v1/publish", &body);
}

/// A client that records trades of A over a way, and is there; it ends by itself when it has so many.
fn recorder(server: &Server, way: &Way, path: &Path, count: u32) -> Child {
    let child = Command::new(env!("CARGO_BIN_EXE_tickcast"))
        .args([
            "record",
            &format!("ws://{}", way.address),
            "--topics",
            "trades:A",
            "--count",
            &count.to_string(),
        ])
        .arg("-o")
        .arg(path)
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    // It has heard of the trade before, and so takes what comes now for news.
    server.wait_until("tickcast_events_delivered_total{shard=\"0\"}", |events| events > 0);
    child
}

/// What it said once it has ended, and the sizes of the trades that it has recorded.
fn ended(child: Child, path: &Path) -> (String, Vec<i128>) {
    let output = child.wait_with_output().expect("it was started");
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let (batches, error) = read(path);
    assert_eq!(error, None);
    let size = |event: &Event| match event {
        Event::Trade(_, trade) => Some(trade.size.units()),
        _ => None,
    };
    (told, batches.iter().flat_map(|batch| &batch.2).filter_map(size).collect())
}

#[test]
fn a_recording_has_no_hole_where_the_server_still_holds_what_came_meanwhile() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&["--feed", "none"]));
    let (way, path) = (Way::to(&server), folder.path().join("part.tape"));
    publish(&server, 1..=1);
    let recorder = recorder(&server, &way, &path, 149);
    publish(&server, 2..=50);
    way.cut();
    publish(&server, 51..=100);
    way.mend();
    publish(&server, 101..=150);
    let (told, sizes) = ended(recorder, &path);
    assert!(told.contains("resumed: nothing is lost"), "{told}");
    assert_eq!(sizes, (2..=150).collect::<Vec<_>>());
}

#[test]
fn what_a_server_does_not_hold_any_more_is_told_as_a_gap() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&["--feed", "none"]));
    let (way, path) = (Way::to(&server), folder.path().join("part.tape"));
    publish(&server, 1..=1);
    let recorder = recorder(&server, &way, &path, 49 + 1024);
    publish(&server, 2..=50);
    server.wait_until("tickcast_events_delivered_total{shard=\"0\"}", |events| events == 50);
    way.cut();
    publish(&server, 51..=2050);
    way.mend();
    let (told, sizes) = ended(recorder, &path);
    assert!(told.contains("gap: 976 trades of A are lost"), "{told}");
    assert_eq!(sizes, (2..=50).chain(1027..=2050).collect::<Vec<_>>());
}

#[test]
fn a_recording_goes_on_behind_a_server_that_was_started_anew() {
    let (folder, server) = (tempfile::tempdir().unwrap(), Server::start(&["--feed", "none"]));
    let (way, path) = (Way::to(&server), folder.path().join("part.tape"));
    publish(&server, 1..=1);
    let recorder = recorder(&server, &way, &path, 20);
    publish(&server, 2..=11);
    server.wait_until("tickcast_events_delivered_total{shard=\"0\"}", |events| events == 11);
    way.cut();
    drop(server);
    let server = Server::start(&["--feed", "none"]);
    way.target.lock().unwrap().clone_from(&server.address);
    publish(&server, 100..=100);
    way.mend();
    // What it was before the recorder came is its past.
    server.wait_until("tickcast_events_delivered_total{shard=\"0\"}", |events| events > 0);
    publish(&server, 101..=110);
    let (told, sizes) = ended(recorder, &path);
    assert!(told.contains("the server began a new tape"), "{told}");
    assert_eq!(sizes, (2..=11).chain(101..=110).collect::<Vec<_>>());
}
