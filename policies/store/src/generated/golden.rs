//! Golden bytes of the frames, written by hand, and the checked-in descriptor set against the `.proto` it comes from.

use super::messages::{watch_response::Frame, *};
use prost::{Message, bytes::Bytes};

const DESCRIPTORS: &[u8] = crate::Feed::DESCRIPTORS;

fn both_ways<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, golden: &[u8]) {
    assert_eq!(message.encode_to_vec(), golden);
    assert_eq!(M::decode(golden).unwrap(), *message);
}

fn position() -> Position {
    Position { epoch: 1, snapshot: 300, digest: Bytes::from_static(&[7]) }
}

#[test]
fn st8_the_frames_have_their_published_bytes() {
    let position_bytes = b"\x08\x01\x10\xac\x02\x1a\x01\x07";
    let request = WatchRequest { from: Some(position()), enforcer: "gw".to_owned() };
    both_ways(&request, &[b"\x0a\x08".as_slice(), position_bytes, b"\x12\x02gw"].concat());
    let heartbeat = WatchResponse { frame: Some(Frame::Heartbeat(Heartbeat { newest: Some(position()) })) };
    both_ways(&heartbeat, &[b"\x12\x0a\x0a\x08".as_slice(), position_bytes].concat());
    let snapshot = Snapshot {
        manifest: Bytes::from_static(b"m"),
        note: Bytes::from_static(b"n"),
        objects: vec![Object { sha256: Bytes::from_static(&[1]), content: Bytes::from_static(&[2, 3]) }],
    };
    let frame = WatchResponse { frame: Some(Frame::Snapshot(snapshot)) };
    both_ways(&frame, b"\x0a\x0f\x0a\x01m\x12\x01n\x1a\x07\x0a\x01\x01\x12\x02\x02\x03");
}

#[test]
fn st8_fetch_and_report_have_their_published_bytes() {
    both_ways(&FetchRequest { sha256: vec![Bytes::from_static(&[1, 2])] }, b"\x0a\x02\x01\x02");
    let piece =
        FetchResponse { sha256: Bytes::from_static(&[1]), piece: Bytes::from_static(&[2]), last: true };
    both_ways(&piece, b"\x0a\x01\x01\x12\x01\x02\x18\x01");
    let refusal = Refusal { offered: None, code: "PC2021".to_owned(), detail: "d".to_owned() };
    let report = ReportRequest {
        active: None,
        policies: 1,
        compile_micros: 2,
        slow_policies: vec!["s".to_owned()],
        mismatches: 3,
        refusal: Some(refusal),
        enforcer: "gw".to_owned(),
    };
    both_ways(&report, b"\x10\x01\x18\x02\x22\x01s\x28\x03\x32\x0b\x12\x06PC2021\x1a\x01d\x3a\x02gw");
}

/// Every `message`, `rpc` and numbered field of the `.proto`, as lines.
fn written() -> Vec<String> {
    let text = include_str!("../../proto/portcullis/policies/v1/feed.proto");
    let mut lines = Vec::new();
    let mut message = "";
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("message ") {
            message = rest.split(' ').next().unwrap();
            lines.push(message.to_owned());
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            lines.push(format!("rpc {}", rest.split('(').next().unwrap()));
        } else if let Some((left, number)) =
            line.trim_end_matches(';').split_once(" = ").filter(|_| !message.is_empty())
        {
            lines.push(format!("{message}.{} {number}", left.split(' ').next_back().unwrap()));
        }
    }
    lines.sort();
    lines
}

#[test]
fn the_descriptor_set_is_that_of_the_proto_file() {
    let set = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap();
    let file = set.file.first().unwrap();
    let mut lines: Vec<String> = Vec::new();
    for message in &file.message_type {
        lines.push(message.name().to_owned());
        let fields = message.field.iter();
        lines.extend(fields.map(|field| format!("{}.{} {}", message.name(), field.name(), field.number())));
    }
    let methods = file.service.iter().flat_map(|service| &service.method);
    lines.extend(methods.map(|method| format!("rpc {}", method.name())));
    lines.sort();
    assert_eq!(file.package(), "portcullis.policies.v1");
    assert_eq!(lines, written());
    assert_eq!(lines.len(), 3 + 11 + 27, "{lines:?}");
}
