//! Golden bytes of the messages that are served, written by hand from the wire tables of identity.md 2, and the
//! checked-in descriptor sets against the `.proto` files that they come from.

use std::collections::BTreeMap;

use prost::{Message, bytes::Bytes};

use super::{DESCRIPTORS, SDS_DESCRIPTORS, messages::*};

fn both_ways<M: Message + Default + PartialEq + std::fmt::Debug>(message: &M, golden: &[u8]) {
    assert_eq!(message.encode_to_vec(), golden);
    assert_eq!(M::decode(golden).unwrap(), *message);
}

#[test]
fn ig2_an_x509_svid_response_has_its_published_bytes() {
    let svid = X509svid {
        spiffe_id: "spiffe://td/a".to_owned(),
        x509_svid: Bytes::from_static(&[1, 2]),
        x509_svid_key: Bytes::from_static(&[3]),
        bundle: Bytes::from_static(&[4, 5, 6]),
        hint: "h".to_owned(),
    };
    let response = X509svidResponse {
        svids: vec![svid],
        crl: vec![Bytes::from_static(&[7])],
        federated_bundles: BTreeMap::from([("spiffe://b".to_owned(), Bytes::from_static(&[8]))]),
    };
    let svid = [b"\x0a\x0dspiffe://td/a\x12\x02\x01\x02\x1a\x01\x03\x22\x03\x04\x05\x06\x2a\x01h".as_slice()]
        .concat();
    let golden =
        [b"\x0a\x1e", svid.as_slice(), b"\x12\x01\x07", b"\x1a\x0f\x0a\x0aspiffe://b\x12\x01\x08"].concat();
    both_ways(&response, &golden);
}

#[test]
fn ig2_an_x509_bundles_response_has_bundles_at_two() {
    let response = X509BundlesResponse {
        crl: vec![Bytes::from_static(&[9])],
        bundles: BTreeMap::from([("spiffe://td".to_owned(), Bytes::from_static(&[1, 2]))]),
    };
    both_ways(&response, b"\x0a\x01\x09\x12\x11\x0a\x0bspiffe://td\x12\x02\x01\x02");
}

#[test]
fn ig2_the_jwt_messages_have_their_published_bytes() {
    let request =
        JwtsvidRequest { audience: vec!["a".to_owned(), "b".to_owned()], spiffe_id: "s".to_owned() };
    both_ways(&request, b"\x0a\x01a\x0a\x01b\x12\x01s");
    let svid = Jwtsvid { spiffe_id: "i".to_owned(), svid: "t".to_owned(), hint: "h".to_owned() };
    both_ways(&JwtsvidResponse { svids: vec![svid] }, b"\x0a\x09\x0a\x01i\x12\x01t\x1a\x01h");
    let bundles = BTreeMap::from([("d".to_owned(), Bytes::from_static(b"{}"))]);
    both_ways(&JwtBundlesResponse { bundles }, b"\x0a\x07\x0a\x01d\x12\x02{}");
    both_ways(
        &ValidateJwtsvidRequest { audience: "a".to_owned(), svid: "t".to_owned() },
        b"\x0a\x01a\x12\x01t",
    );
    both_ways(&ValidateJwtsvidResponse { spiffe_id: "i".to_owned(), claims: None }, b"\x0a\x01i");
}

#[test]
fn bn_06_debug_shows_neither_keys_nor_tokens() {
    let svid = X509svid { x509_svid_key: Bytes::from_static(b"SECRET"), ..Default::default() };
    let response = X509svidResponse { svids: vec![svid], ..Default::default() };
    let token = Jwtsvid { svid: "SECRET".to_owned(), ..Default::default() };
    let request = ValidateJwtsvidRequest { svid: "SECRET".to_owned(), ..Default::default() };
    assert!(!format!("{response:?}{token:?}{request:?}").contains("SECRET"));
}

/// Every `message`, `rpc` and numbered field of the `.proto`, as lines.
fn written() -> Vec<String> {
    let text = include_str!("../../../proto/workload.proto");
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
    let file = set.file.iter().find(|file| file.name() == "workload.proto").unwrap();
    let mut lines: Vec<String> = Vec::new();
    for message in &file.message_type {
        lines.push(message.name().to_owned());
        lines.extend(
            message
                .field
                .iter()
                .map(|field| format!("{}.{} {}", message.name(), field.name(), field.number())),
        );
    }
    lines.extend(
        file.service
            .iter()
            .flat_map(|service| &service.method)
            .map(|method| format!("rpc {}", method.name())),
    );
    lines.sort();

    assert_eq!(file.package(), "");
    assert_eq!(lines, written());
    assert_eq!(lines.len(), 5 + 12 + 21);
}

#[test]
fn the_descriptor_set_of_sds_is_that_of_its_proto_files() {
    let files = [
        include_str!("../../../proto/envoy/config/core/v3/base.proto"),
        include_str!("../../../proto/envoy/extensions/transport_sockets/tls/v3/secret.proto"),
        include_str!("../../../proto/envoy/service/discovery/v3/discovery.proto"),
        include_str!("../../../proto/envoy/service/secret/v3/sds.proto"),
        include_str!("../../../proto/envoy/type/v3/semantic_version.proto"),
        include_str!("../../../proto/google/rpc/status.proto"),
    ];
    let (mut written, mut packages) = (Vec::new(), Vec::new());
    for line in files.iter().flat_map(|text| text.lines()).map(str::trim) {
        let words: Vec<&str> = line.trim_end_matches([';', '{']).split_whitespace().collect();
        match words[..] {
            ["//", ..] | ["syntax", ..] => {}
            ["package", name] => packages.push(name.to_owned()),
            ["message", name] => written.push(name.to_owned()),
            ["rpc", rest, ..] => written.push(rest.split('(').next().unwrap().to_owned()),
            [.., name, "=", number] => written.push(format!("{name} {number}")),
            _ => {}
        }
    }
    fn told(message: &prost_types::DescriptorProto, lines: &mut Vec<String>) {
        // Maps are messages of their own to a descriptor.
        if message.options.as_ref().is_some_and(|options| options.map_entry()) {
            return;
        }
        lines.push(message.name().to_owned());
        lines.extend(message.field.iter().map(|field| format!("{} {}", field.name(), field.number())));
        message.nested_type.iter().for_each(|nested| told(nested, lines));
    }
    let set = prost_types::FileDescriptorSet::decode(SDS_DESCRIPTORS).unwrap();
    let mut lines = Vec::new();
    let own: Vec<_> =
        set.file.iter().filter(|file| packages.iter().any(|name| name == file.package())).collect();
    for file in &own {
        file.message_type.iter().for_each(|message| told(message, &mut lines));
        let methods = file.service.iter().flat_map(|service| &service.method);
        lines.extend(methods.map(|method| method.name().to_owned()));
    }
    lines.sort();
    written.sort();
    assert_eq!(own.len(), files.len());
    assert_eq!(lines, written);
}
