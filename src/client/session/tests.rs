use super::*;
use crate::wire::Limits;

const HEARTBEAT: Duration = Duration::from_secs(5);

/// A session, its clock, and its outputs since the last check.
struct World {
    session: Session,
    now: Instant,
    out: Vec<Output>,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self { session: Session::new(1, now), now, out: Vec::new() }
    }

    fn input(&mut self, input: Input<'_>) -> &mut Self {
        self.session.handle(self.now, input, &mut self.out);
        self
    }

    /// Lets time pass, with a tick at each deadline.
    fn pass(&mut self, time: Duration) -> &mut Self {
        let end = self.now + time;
        while let Some(deadline) = self.session.deadline().filter(|&deadline| deadline <= end) {
            self.now = self.now.max(deadline);
            self.input(Input::Tick);
        }
        self.now = end;
        self
    }

    fn subscribe(&mut self, topics: &[&str]) -> &mut Self {
        let topics = topics.iter().map(ToString::to_string).collect();
        self.input(Input::Command(Command::Subscribe { topics, options: Options::default() }))
    }

    fn answer(&mut self, answer: &Answer) -> &mut Self {
        self.input(Input::Binary(&answer.to_msgpack()))
    }

    fn welcome(&mut self, epoch: u64, position: u64) -> &mut Self {
        self.pass(Duration::from_secs(40)).input(Input::Connected).answer(&Answer::Welcome {
            protocol: "tickcast.v1".to_owned(),
            server: "s".to_owned(),
            epoch,
            begins: 0,
            position,
            time: 0,
            heartbeat_ms: 5000,
            limits: Limits { topics: 1024, message_bytes: 65_536, requests_per_second: 50, max_hz: 1000.0 },
        })
    }

    fn unsubscribe(&mut self, topic: &str) -> &mut Self {
        self.input(Input::Command(Command::Unsubscribe { topics: vec![topic.to_owned()] }))
    }

    /// Answers the first outstanding request.
    fn subscribed(&mut self, resumed: Option<bool>, topics: &[&str]) -> &mut Self {
        let id = self.session.asked.keys().next().copied().map(Id::Number);
        let topics = topics.iter().map(|topic| TopicAnswer::granted((*topic).to_owned())).collect();
        self.answer(&Answer::Subscribed { id, epoch: 7, position: 100, resumed, topics })
    }

    fn unsubscribed(&mut self, topic: &str) -> &mut Self {
        let id = self.session.asked.keys().next().copied().map(Id::Number);
        self.answer(&Answer::Unsubscribed { id, topics: vec![TopicAnswer::granted(topic.to_owned())] })
    }

    /// An empty update that moves the position by so much.
    fn moved(&mut self, positions: u8) -> &mut Self {
        self.input(Input::Binary(&[0x92, positions, 0]))
    }

    fn closed(&mut self, code: u16) -> &mut Self {
        self.input(Input::Closed { code: Some(CloseCode(code)), reason: format!("closed with {code}") })
    }

    /// Its outputs since the last check, a line each.
    #[track_caller]
    fn check(&mut self, expected: &[&str]) -> &mut Self {
        let said: Vec<String> = self.out.drain(..).map(|output| show(&output)).collect();
        assert_eq!(said, expected);
        self
    }

    fn forget(&mut self) -> &mut Self {
        self.out.clear();
        self
    }
}

fn show(output: &Output) -> String {
    match output {
        Output::Connect => "connect".to_owned(),
        Output::Disconnect => "disconnect".to_owned(),
        Output::Send(text) => {
            let request: Value = serde_json::from_str(text).unwrap();
            let since = request.get("since").map(|since| format!(" since {since}")).unwrap_or_default();
            format!("{} {}{since}", request["op"].as_str().unwrap(), request["topics"])
        }
        Output::Event(event) => match event {
            Event::Disconnected { reason, .. } => format!("disconnected: {reason}"),
            Event::Closed { reason, .. } => format!("over: {reason}"),
            Event::Subscribed { topics } => {
                let refused = topics.iter().filter(|topic| topic.error.is_some()).count();
                format!("subscribed {}, refused {refused}", topics.len() - refused)
            }
            Event::Unsubscribed { topics } => format!("unsubscribed {}", topics.len()),
            Event::Connected { position, .. } => format!("connected at {}", position.get()),
            Event::Resumed { .. } => "resumed".to_owned(),
            other => format!("{other:?}").to_lowercase(),
        },
    }
}

#[test]
fn it_connects_and_subscribes_what_was_asked_for_before() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).check(&[]);
    world.pass(Duration::ZERO).check(&["connect"]);
    world.welcome(7, 100).check(&["connected at 100", r#"subscribe ["quote:A"]"#]);
    world.subscribed(None, &["quote:A"]).check(&["subscribed 1, refused 0"]);
    world.subscribe(&["quote:A", "trades:A"]).check(&[r#"subscribe ["trades:A"]"#]);
}

#[test]
fn after_a_lost_connection_it_resumes_what_it_had_whole_and_asks_anew_for_the_rest() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).welcome(7, 100).subscribed(None, &["quote:A"]).moved(5);
    world.subscribe(&["trades:A"]).subscribed(None, &["trades:A"]).forget();
    world.closed(1006).check(&["disconnected: closed with 1006"]);
    world.welcome(7, 200).check(&[
        "connect",
        "connected at 200",
        r#"subscribe ["quote:A"] since {"epoch":7,"position":105}"#,
        r#"subscribe ["trades:A"]"#,
    ]);
    world.subscribed(Some(true), &["quote:A"]).check(&["resumed", "subscribed 1, refused 0"]);
    // Cut again before a flush: the welcome's position says nothing of what was delivered.
    world.closed(1006).welcome(7, 300).forget();
    world.closed(1006).welcome(7, 300);
    assert!(world.out.iter().any(|output| show(output).contains(r#""position":105"#)));
}

#[test]
fn what_is_subscribed_anew_is_granted_by_its_own_answer_only() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).welcome(7, 100).unsubscribe("quote:A").subscribe(&["quote:A"]).forget();
    // Both answers and the flush between them are of the first subscription, which has ended and is not
    // resumed.
    world.subscribed(None, &["quote:A"]).moved(5).unsubscribed("quote:A").moved(5);
    world.check(&["subscribed 1, refused 0", "unsubscribed 1"]);
    world.closed(1006).forget().welcome(7, 200).check(&[
        "connect",
        "connected at 200",
        r#"subscribe ["quote:A"]"#,
    ]);
}

#[test]
fn what_is_asked_for_twice_is_lost_by_the_last_refusal_only() {
    let mut world = World::new();
    let (code, message) = (ErrorCode::BadRequest, "no".to_owned());
    let refused = Answer::Error { id: Some(Id::Number(1)), code, message };
    let capped = Options { max_hz: Some(10.0), times: false };
    world.welcome(7, 100).subscribe(&["quote:A"]);
    let topics = vec!["quote:A".to_owned()];
    world.input(Input::Command(Command::Subscribe { topics, options: capped }));
    world.answer(&refused).subscribed(None, &["quote:A"]).moved(5);
    world.closed(1006).forget().welcome(7, 200).check(&[
        "connect",
        "connected at 200",
        r#"subscribe ["quote:A"] since {"epoch":7,"position":105}"#,
    ]);
}

#[test]
fn a_cap_that_no_server_takes_is_refused_before_it_is_asked_for() {
    for hz in [0.0, -1.0, 1000.1, f64::NAN, f64::INFINITY] {
        let mut world = World::new();
        let options = Options { max_hz: Some(hz), times: false };
        let topics = vec!["quote:A".to_owned()];
        world.subscribe(&["trades:A"]).input(Input::Command(Command::Subscribe { topics, options }));
        let refused =
            format!("error {{ code: badrequest, message: \"max_hz {hz} is not from 0.1 to 1000\" }}");
        world.check(&["subscribed 0, refused 1", &refused.to_lowercase()]);
        world.welcome(7, 100).check(&["connect", "connected at 100", r#"subscribe ["trades:A"]"#]);
    }
}

#[test]
fn what_cannot_be_resumed_is_dropped_once_however_many_requests_ask_for_it() {
    let topics: Vec<String> = (0..300).map(|number| format!("quote:S{number}")).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut world = World::new();
    world.subscribe(&topics).welcome(7, 100);
    world.subscribed(None, &topics[..256]).subscribed(None, &topics[256..]).moved(5);
    world.closed(1006).welcome(7, 200).forget();
    world.subscribed(Some(false), &topics[..256]).check(&["replaced", "subscribed 256, refused 0"]);
    world.subscribed(Some(false), &topics[256..]).check(&["subscribed 44, refused 0"]);
}

#[test]
fn what_was_given_up_when_the_connection_was_lost_is_told_though_no_answer_comes() {
    let mut world = World::new();
    world.subscribe(&["quote:A", "quote:B"]).welcome(7, 100).subscribed(None, &["quote:A", "quote:B"]);
    world.moved(5).unsubscribe("quote:A").forget();
    world.closed(1006).check(&["unsubscribed 1", "disconnected: closed with 1006"]);
    world.unsubscribe("quote:B").check(&["unsubscribed 1"]);
    world.welcome(7, 200).check(&["connect", "connected at 200"]);
    world.closed(1008).forget().unsubscribe("quote:B").check(&[]);
}

#[test]
fn another_tape_replaces_all_that_was_known() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).welcome(7, 100).subscribed(None, &["quote:A"]).moved(5);
    let anew = &["connect", "connected at 90", "replaced", r#"subscribe ["quote:A"]"#];
    world.closed(1006).forget().welcome(8, 90).check(anew);
}

#[test]
fn a_shard_that_is_a_moment_behind_has_the_same_tape() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).welcome(7, 100).subscribed(None, &["quote:A"]).moved(5);
    world.closed(1006).forget().welcome(7, 103).check(&[
        "connect",
        "connected at 103",
        r#"subscribe ["quote:A"] since {"epoch":7,"position":105}"#,
    ]);
}

#[test]
fn silence_is_told_and_then_ended() {
    let mut world = World::new();
    world.welcome(7, 100).forget();
    world.pass((HEARTBEAT * 2).saturating_sub(Duration::from_millis(1))).check(&[]);
    world.pass(Duration::from_millis(1)).check(&["stale"]);
    world.moved(0).check(&["live"]);
    world.pass(HEARTBEAT * 3 + Duration::from_secs(1)).check(&[
        "stale",
        "disconnect",
        "disconnected: the server fell silent",
        "connect",
    ]);
}

#[test]
fn a_server_that_does_not_say_welcome_is_given_up() {
    let mut world = World::new();
    world.pass(Duration::ZERO).input(Input::Connected).forget();
    world.pass(GREETING);
    assert_eq!(show(&world.out[1]), "disconnected: the server did not say welcome");
}

#[test]
fn codes_that_call_for_a_fix_end_it_for_good() {
    for code in [1002, 1007, 1008, 1009] {
        let mut world = World::new();
        let over = format!("over: closed with {code}");
        world.welcome(7, 100).forget().closed(code).check(&[&over]);
        world.pass(Duration::from_secs(100)).check(&[]);
        assert!(world.session.is_over());
    }
    for code in [1001, 1011, 1012, 1013, 4408, 4429] {
        let mut world = World::new();
        world.welcome(7, 100).closed(code);
        assert!(!world.session.is_over(), "{code}");
    }
}

#[test]
fn a_goodbye_says_when_to_come_back() {
    let mut world = World::new();
    let reason = "restart".to_owned();
    world.welcome(7, 100);
    world.answer(&Answer::Goodbye { code: 1012, reason, retry_after_ms: 5000, jitter_ms: 1000 });
    world.closed(1012).forget();
    world.pass(Duration::from_millis(4999)).check(&[]);
    world.pass(Duration::from_millis(1001)).check(&["connect"]);
}

#[test]
fn a_refused_request_refuses_each_of_its_topics() {
    let mut world = World::new();
    world.welcome(7, 100).subscribe(&["quote:A", "quote:B"]).forget();
    let (code, message) = (ErrorCode::BadRequest, "no".to_owned());
    world.answer(&Answer::Error { id: Some(Id::Number(1)), code, message });
    world.check(&["subscribed 0, refused 2", r#"error { code: badrequest, message: "no" }"#]);
    world.closed(1006).forget().welcome(7, 100).check(&["connect", "connected at 100"]);
}

#[test]
fn what_neither_side_has_an_image_of_is_not_verified() {
    let mut world = World::new();
    let topics = vec!["quote:A".to_owned()];
    world.welcome(7, 100).input(Input::Command(Command::Verify { topics })).forget();
    let error = Refusal { code: ErrorCode::NotSubscribed, message: "no".to_owned(), nearest: None };
    let refused = TopicChecksum { topic: "quote:A".to_owned(), checksum: None, error: Some(error) };
    world.answer(&Answer::Checksum { id: Some(Id::Number(1)), position: 100, topics: vec![refused] });
    let topics = vec![("quote:A".to_owned(), false)];
    assert_eq!(world.out, [Output::Event(Event::Verified { position: Position::new(100), topics })]);
}

#[test]
fn bytes_that_make_no_sense_begin_everything_anew() {
    let mut world = World::new();
    world.subscribe(&["quote:A"]).welcome(7, 100).subscribed(None, &["quote:A"]).moved(5).forget();
    world.input(Input::Binary(&[0x93, 0, 0, 5])).check(&[
        "disconnect",
        "disconnected: the server sent what cannot be read: update ends within element 3",
        "replaced",
    ]);
    world.welcome(7, 100).check(&["connect", "connected at 100", r#"subscribe ["quote:A"]"#]);
}

#[test]
fn messages_of_a_later_server_are_passed_over() {
    let mut world = World::new();
    world.welcome(7, 100).forget();
    let later = rmp_serde::to_vec_named(&json!({ "type": "weather", "wind": 3 })).unwrap();
    world.input(Input::Binary(&later)).input(Input::Text(r#"{"type":"weather"}"#)).check(&[]);
    world.input(Input::Text(r#"{"type":"pong"}"#));
    assert_eq!(world.out[0], Output::Disconnect, "a known one without its fields is broken");
}

#[test]
fn many_topics_are_asked_for_in_several_requests() {
    let topics: Vec<String> = (0..600).map(|number| format!("quote:S{number}")).collect();
    let mut world = World::new();
    world.welcome(7, 100).forget();
    world.input(Input::Command(Command::Subscribe { topics, options: Options::default() }));
    assert_eq!(world.out.len(), 3);
    let longest = world.out.iter().map(|output| show(output).len()).max();
    assert!(longest.unwrap() < 64 * 1024);
}

/// Takes the requests among its outputs since the last check.
fn sent(world: &mut World) -> Vec<String> {
    let said = world.out.drain(..).filter(|output| matches!(output, Output::Send(_)));
    said.map(|output| show(&output)).collect()
}

#[test]
fn topics_that_are_subscribed_one_by_one_are_gathered() {
    let mut world = World::new();
    world.welcome(7, 100).forget();
    for row in 0..300 {
        world.subscribe(&[&format!("quote:S{row}")]);
    }
    let at_once = sent(&mut world);
    assert_eq!(at_once.len(), 10, "the first ones need not wait");
    assert_eq!(at_once[0], r#"subscribe ["quote:S0"]"#);
    world.pass(Duration::from_millis(100));
    let gathered = sent(&mut world);
    assert_eq!(gathered.len(), 2, "{gathered:?}");
    assert!(gathered[0].contains(r#""quote:S10","quote:S11""#) && gathered[1].ends_with(r#""quote:S299"]"#));
    world.pass(Duration::from_secs(1)).check(&[]);
}

#[test]
fn a_scroll_of_many_rows_stays_well_below_the_limit_and_ends_with_the_rows_in_sight() {
    let mut world = World::new();
    world.welcome(7, 100).forget();
    let mut in_sight = BTreeSet::new();
    for second in 0..10 {
        let mut requests = 0;
        for row in 60 * second..60 * (second + 1) {
            world.subscribe(&[&format!("quote:S{}", row + 20)]).unsubscribe(&format!("quote:S{row}"));
            world.pass(Duration::from_micros(16_667));
            for request in sent(&mut world) {
                requests += 1;
                let (op, topics) = request.split_once(' ').unwrap();
                for topic in serde_json::from_str::<Vec<String>>(topics).unwrap() {
                    if op == "subscribe" {
                        in_sight.insert(topic)
                    } else {
                        in_sight.remove(&topic)
                    };
                }
            }
            world.moved(0).forget();
        }
        assert!(requests <= 36, "{requests} in a second");
    }
    world.pass(Duration::from_secs(1));
    for request in sent(&mut world) {
        let (op, topics) = request.split_once(' ').unwrap();
        for topic in serde_json::from_str::<Vec<String>>(topics).unwrap() {
            if op == "subscribe" {
                in_sight.insert(topic)
            } else {
                in_sight.remove(&topic)
            };
        }
    }
    let expected: BTreeSet<String> = (600..620).map(|row| format!("quote:S{row}")).collect();
    assert_eq!(in_sight, expected);
}

/// A session that has used up its burst of requests.
fn busy() -> World {
    let mut world = World::new();
    world.welcome(7, 100);
    for number in 0..10 {
        world.subscribe(&[&format!("day:S{number}")]);
    }
    world.forget();
    world
}

#[test]
fn what_is_given_up_before_it_was_asked_for_is_never_asked_for() {
    let mut world = busy();
    world.subscribe(&["quote:A", "quote:B"]).unsubscribe("quote:A").check(&["unsubscribed 1"]);
    world.pass(Duration::from_secs(1)).check(&[r#"subscribe ["quote:B"]"#]);
}

#[test]
fn what_is_given_up_and_taken_again_begins_anew() {
    let mut world = busy();
    world.unsubscribe("day:S0").subscribe(&["day:S0", "quote:A"]).unsubscribe("day:S1");
    world.pass(Duration::from_secs(1));
    world.check(&[r#"unsubscribe ["day:S0","day:S1"]"#, r#"subscribe ["day:S0","quote:A"]"#]);
    // Unsubscribed once more while the first unsubscribe waits: no request for the second is sent.
    let mut world = busy();
    world.unsubscribe("day:S0").subscribe(&["day:S0"]).unsubscribe("day:S0").check(&["unsubscribed 1"]);
    world.pass(Duration::from_secs(1)).check(&[r#"unsubscribe ["day:S0"]"#]);
}

#[test]
fn other_requests_wait_for_their_turn_behind_what_came_before() {
    let mut world = busy();
    let topics = vec!["quote:A".to_owned()];
    world.subscribe(&["quote:A"]).input(Input::Command(Command::Verify { topics })).unsubscribe("quote:B");
    world.pass(Duration::from_secs(1)).check(&[
        r#"subscribe ["quote:A"]"#,
        r#"checksum ["quote:A"]"#,
        r#"unsubscribe ["quote:B"]"#,
    ]);
}

#[test]
fn what_waits_when_the_connection_is_lost_is_asked_for_in_the_next() {
    let mut world = busy();
    world.subscribe(&["quote:A"]).unsubscribe("day:S0");
    world.closed(1006).check(&["unsubscribed 1", "disconnected: closed with 1006"]);
    world.welcome(7, 100);
    let topics: Vec<String> = (1..10).map(|number| format!("\"day:S{number}\"")).collect();
    let all = format!("subscribe [{},\"quote:A\"]", topics.join(","));
    world.check(&["connect", "connected at 100", &all]);
}

#[test]
fn more_topics_than_a_server_takes_do_not_cost_the_connection() {
    let topics: Vec<String> = (0..4_000).map(|number| format!("quote:S{number}")).collect();
    let mut world = World::new();
    world.input(Input::Command(Command::Subscribe { topics, options: Options::default() }));
    world.welcome(7, 100);
    assert_eq!(sent(&mut world).len(), 10);
    world.pass(Duration::from_secs(1)).moved(0);
    assert!(sent(&mut world).len() <= 26);
}

/// How long it waits after a third close, so long after the welcome.
#[track_caller]
fn check_third_wait(code: u16, lasted: Duration, least: u64, most: u64) {
    let waits: Vec<u128> = (0..50)
        .map(|seed| {
            let mut world = World::new();
            world.session = Session::new(seed, world.now);
            for _ in 0..3 {
                world.welcome(7, 100).pass(lasted).moved(0).forget().closed(code);
            }
            match &world.out[0] {
                Output::Event(Event::Disconnected { code: told, retry_in, .. }) => {
                    assert_eq!(*told, Some(CloseCode(code)));
                    retry_in.as_millis()
                }
                other => panic!("{other:?}"),
            }
        })
        .collect();
    let longest = *waits.iter().max().unwrap();
    assert!(u128::from(least) < longest && longest <= u128::from(most), "{code} after {lasted:?}: {longest}");
}

#[test]
fn a_session_that_lasted_starts_over_and_one_that_is_dropped_at_once_does_not() {
    let at_once = HEARTBEAT.saturating_sub(Duration::from_millis(1));
    check_third_wait(1006, HEARTBEAT, 0, 250);
    check_third_wait(1006, at_once, 500, 1000);
    check_third_wait(4429, HEARTBEAT, 3000, 5000);
    check_third_wait(4429, at_once, 10_000, 20_000);
}

#[test]
fn the_server_says_how_old_what_it_sends_is_and_when_it_is_new_again() {
    let mut world = World::new();
    world.welcome(7, 100).forget();
    world.answer(&Answer::Lag { lag_ms: 400 }).check(&[]);
    world.answer(&Answer::Lag { lag_ms: 1500 }).check(&["lagging { by: 1.5s }"]);
    world.answer(&Answer::Lag { lag_ms: 2500 }).check(&["lagging { by: 2.5s }"]);
    world.answer(&Answer::Lag { lag_ms: 900 }).check(&["live"]);
    world.answer(&Answer::Lag { lag_ms: 1500 }).closed(1006).welcome(7, 100).forget();
    world.answer(&Answer::Lag { lag_ms: 10 }).check(&[]);
}
