use super::*;
use crate::wire::{Op, Request};
use serde_json::json;

/// Bytes of `MessagePack`, as a client's library writes them.
fn packed(value: &Value) -> Vec<u8> {
    rmp_serde::to_vec(value).unwrap()
}

fn event(namespace: &str, ack: Option<u64>, args: &Value, attachments: usize) -> Packet {
    let args = args.as_array().unwrap().clone();
    Packet::Event { namespace: namespace.to_owned(), ack, args, attachments }
}

fn connect(namespace: &str, auth: Value) -> Packet {
    Packet::Connect { namespace: namespace.to_owned(), auth }
}

#[test]
fn packets_of_clients_are_read() {
    for (text, packet) in [
        ("0", connect("/", Value::Null)),
        ("0{\"a\":1}", connect("/", json!({ "a": 1 }))),
        ("0/desk,", connect("/desk", Value::Null)),
        ("0/desk", connect("/desk", Value::Null)),
        ("0/desk?x=1,{}", connect("/desk", json!({}))),
        ("1/desk,", Packet::Disconnect { namespace: "/desk".to_owned() }),
        ("2[\"x\",1]", event("/", None, &json!(["x", 1]), 0)),
        ("2/desk,12[\"x\"]", event("/desk", Some(12), &json!(["x"]), 0)),
        (
            "51-[\"x\",{\"_placeholder\":true,\"num\":0}]",
            event("/", None, &json!(["x", { "_placeholder": true, "num": 0 }]), 1),
        ),
        ("30[]", Packet::Ack),
    ] {
        assert_eq!(Packet::read(Parser::Json, text), Ok(packet), "{text}");
    }
    for (text, says) in [
        ("", "Socket.IO packet type \"\""),
        ("abc", "Socket.IO packet type \"a\""),
        ("4{}", "Socket.IO packet type \"4\""),
        ("2", "begins with its name"),
        ("2[]", "begins with its name"),
        ("2{\"a\":1}", "begins with its name"),
        ("2[\"a\"", "malformed JSON"),
        ("2abc[\"a\"]", "malformed JSON"),
        ("0{", "malformed JSON"),
        ("5[\"x\"]", "attachments"),
        ("510000-[\"x\"]", "attachments"),
        ("299999999999999999999[\"x\"]", "too large"),
    ] {
        let error = Packet::read(Parser::Json, text).unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    let long = format!("0/{},", "n".repeat(200));
    assert_eq!(Packet::read(Parser::Json, &long), Err(PacketError::LongNamespace));
    assert_eq!(Packet::read_binary(Parser::Json, b"abc"), Ok(None));
}

#[test]
fn packets_in_messagepack_are_read_with_their_extensions() {
    let read = |bytes: &[u8]| Packet::read_binary(Parser::Msgpack, bytes).map(Option::unwrap);
    for (value, packet) in [
        (json!({ "type": 0, "nsp": "/" }), connect("/", Value::Null)),
        (json!({ "type": 0, "nsp": "/desk", "data": { "a": 1 } }), connect("/desk", json!({ "a": 1 }))),
        (json!({ "type": 1, "nsp": "/desk" }), Packet::Disconnect { namespace: "/desk".to_owned() }),
        (
            json!({ "type": 2, "nsp": "/", "data": ["x", 1.0], "options": { "compress": true } }),
            event("/", None, &json!(["x", 1]), 0),
        ),
        (
            json!({ "type": 2, "nsp": "/", "id": 7, "data": ["x", null] }),
            event("/", Some(7), &json!(["x", null]), 0),
        ),
        (json!({ "type": 3, "nsp": "/", "id": 7, "data": [] }), Packet::Ack),
    ] {
        assert_eq!(read(&packed(&value)), Ok(packet), "{value}");
    }
    // JavaScript's `undefined`, as a client's `id` and `data` may be.
    let mut undefined = packed(&json!({ "type": 0, "nsp": "/", "data": null, "id": null }));
    let nils: Vec<usize> = (0..undefined.len()).filter(|&at| undefined[at] == 0xc0).collect();
    for at in nils.into_iter().rev() {
        undefined.splice(at..=at, [0xd4, 0, 0]);
    }
    assert_eq!(read(&undefined), Ok(connect("/", Value::Null)));
    // An event with binary data is known for one.
    let mut binary = packed(&json!({ "type": 2, "nsp": "/", "id": 3, "data": ["x", null] }));
    let nil = binary.iter().rposition(|&byte| byte == 0xc0).unwrap();
    binary.splice(nil..=nil, [0xc4, 2, 1, 2]);
    assert_eq!(read(&binary), Ok(event("/", Some(3), &json!([]), 1)));

    let deep = (0..100_000).fold(Vec::new(), |mut bytes: Vec<u8>, _| {
        bytes.push(0x91);
        bytes
    });
    for (bytes, says) in [
        (Vec::new(), "malformed MessagePack"),
        (b"0{}".to_vec(), "malformed MessagePack"),
        (packed(&json!([0, "/"])), "malformed MessagePack"),
        (packed(&json!({ "type": 0 })), "nsp"),
        ([packed(&json!({ "type": 0, "nsp": "/" })), vec![0]].concat(), "1 bytes after"),
        (packed(&json!({ "type": 2, "nsp": "/" })), "begins with its name"),
        (packed(&json!({ "type": 2, "nsp": "/", "data": {} })), "begins with its name"),
        (packed(&json!({ "type": 2, "nsp": "/", "data": ["x"], "id": -1 })), "id: expected"),
        (packed(&json!({ "type": 4, "nsp": "/" })), "packet type \"4\""),
        // Announced, and not there.
        (vec![0x82, 0xa4, b't', b'y', b'p', b'e', 0xdd, 0xff, 0xff, 0xff, 0xff], "malformed MessagePack"),
        (vec![0xdf, 0xff, 0xff, 0xff, 0xff], "malformed MessagePack"),
        ([b"\x81\xa4data".to_vec(), deep].concat(), "malformed MessagePack"),
    ] {
        let error = read(&bytes).unwrap_err().to_string();
        let shown = &bytes[..bytes.len().min(20)];
        assert!(error.contains(says), "{shown:?}: {error}");
    }
    let wrong = Packet::read(Parser::Msgpack, "0").unwrap_err();
    assert!(wrong.to_string().contains("here packets are MessagePack"), "{wrong}");
}

#[test]
fn an_event_is_a_request_however_its_topics_are_given() {
    let read =
        |ack, args: Value| request(ack, args.as_array().unwrap()).and_then(|text| Request::from_json(&text));
    let topics = vec!["quote:A".to_owned(), "trades:A".to_owned()];
    let subscribe = Op::Subscribe { topics: topics.clone(), since: None, max_hz: None, times: None };
    for args in [
        json!(["subscribe", "quote:A", "trades:A"]),
        json!(["subscribe", ["quote:A", "trades:A"]]),
        json!(["subscribe", { "topics": ["quote:A", "trades:A"] }]),
        json!(["subscribe", null, ["quote:A"], "trades:A"]),
    ] {
        let Request { id, op, .. } = read(Some(3), args).unwrap();
        assert_eq!((id, op), (Some(Id::Number(3)), subscribe.clone()));
    }
    let capped = read(None, json!(["subscribe", topics, { "max_hz": 2 }])).unwrap();
    assert!(matches!(capped.op, Op::Subscribe { max_hz: Some(Some(2.0)), .. }));
    for (args, code, says) in [
        (json!(["open"]), ErrorCode::NotSupported, "one session"),
        (json!(["subscribe", 5]), ErrorCode::BadRequest, "5 is neither a topic"),
        (json!([7]), ErrorCode::BadRequest, "is a text"),
        (json!(["subscribe", { "id": 1 }]), ErrorCode::BadRequest, "\"id\""),
        (json!(["shout", "hello"]), ErrorCode::UnknownOp, "shout"),
        (json!(["subscribe"]), ErrorCode::BadRequest, "topics"),
    ] {
        let error = read(Some(9), args.clone()).unwrap_err();
        assert_eq!((error.id, error.code), (Some(Id::Number(9)), code), "{args}");
        assert!(error.message.contains(says), "{args}: {}", error.message);
    }
}

#[test]
fn answers_are_acknowledgements_where_one_was_asked_for() {
    let pong = |id| Answer::Pong { id, time: 1, position: 2 };
    let acked = pong(Some(Id::Number(4)));
    let mut frame = Vec::new();
    Parser::Json.write_answer("/", &acked, &mut frame);
    Parser::Json.write_answer("/desk", &pong(None), &mut frame);
    let texts = [
        r#"434[{"type":"pong","id":4,"time":1,"position":2}]"#,
        r#"42/desk,["pong",{"type":"pong","time":1,"position":2}]"#,
    ];
    let mut expected = Vec::new();
    for text in texts {
        Data::Text(text.to_owned()).write_frame(&mut expected);
    }
    assert_eq!(frame, expected);

    let mut frame = Vec::new();
    Parser::Msgpack.write_answer("/", &acked, &mut frame);
    let said: Value = rmp_serde::from_slice(&frame[2..]).unwrap();
    let pong = json!({ "type": "pong", "id": 4, "time": 1, "position": 2 });
    assert_eq!((frame[0], said), (0x82, json!({ "type": 3, "id": 4, "data": [pong], "nsp": "/" })));
}

#[test]
fn an_event_has_the_same_values_in_either_parser() {
    let payload =
        br#"{"type":"update","position":9007199254740993,"updates":[{"bid":"1.50","n":-1,"x":null}]}"#;
    let (mut text, mut binary) = (Vec::new(), Vec::new());
    Parser::Json.write_event("/desk", "update", payload, &mut text);
    Parser::Msgpack.write_event("/desk", "update", payload, &mut binary);
    let value: Value = serde_json::from_slice(payload).unwrap();
    let text = String::from_utf8(text[2..].to_vec()).unwrap();
    assert_eq!(text, format!("42/desk,[\"update\",{}]", std::str::from_utf8(payload).unwrap()));
    let read: Value = rmp_serde::from_slice(&binary[2..]).unwrap();
    assert_eq!(read, json!({ "type": 2, "data": ["update", value], "nsp": "/desk" }));
}

#[test]
fn packets_of_the_server_are_written_as_the_protocol_has_them() {
    let json = Parser::Json;
    for (packet, text) in [
        (json.connected("/", "s"), "40{\"sid\":\"s\"}"),
        (json.connected("/desk", "s"), "40/desk,{\"sid\":\"s\"}"),
        (json.refused("/x", "Invalid namespace", Value::Null), "44/x,{\"message\":\"Invalid namespace\"}"),
        (
            json.refused("/", "no", json!({ "status": 400 })),
            "44{\"message\":\"no\",\"data\":{\"status\":400}}",
        ),
        (json.disconnected("/desk"), "41/desk,"),
        (Parser::with_attachments("/", None, &json!(["x"]), 2), "452-[\"x\"]"),
        (Parser::with_attachments("/", Some(7), &json!([1]), 2), "462-7[1]"),
        (Parser::with_attachments("/", Some(7), &json!([1]), 0), "437[1]"),
    ] {
        assert_eq!(packet, Data::Text(text.to_owned()));
    }
}
