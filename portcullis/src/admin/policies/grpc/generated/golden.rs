//! The checked-in descriptor set against the `.proto` it comes from.

use prost::Message;

use super::super::DESCRIPTORS;

/// Every `message`, `service`, `rpc` and numbered field of the `.proto`, as lines.
fn written() -> Vec<String> {
    let text = include_str!("../../../../../../policies/store/proto/portcullis/policies/v1/verbs.proto");
    let mut lines = Vec::new();
    let mut scope = "";
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with("//")) {
        if let Some(rest) = line.strip_prefix("message ").or_else(|| line.strip_prefix("service ")) {
            scope = rest.split(' ').next().unwrap();
            lines.push(scope.to_owned());
        } else if let Some(rest) = line.strip_prefix("rpc ") {
            lines.push(format!("rpc {scope}.{}", rest.split('(').next().unwrap()));
        } else if let Some((left, number)) =
            line.trim_end_matches(';').split_once(" = ").filter(|_| !scope.is_empty())
        {
            lines.push(format!("{scope}.{} {number}", left.split(' ').next_back().unwrap()));
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
    for service in &file.service {
        lines.push(service.name().to_owned());
        lines.extend(service.method.iter().map(|method| format!("rpc {}.{}", service.name(), method.name())));
    }
    lines.sort();
    assert_eq!(file.package(), "portcullis.policies.v1");
    assert_eq!(lines, written());
    assert!(lines.len() > 200, "{}", lines.len());
}
