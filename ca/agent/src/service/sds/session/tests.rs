//! Which form a client gets, and which requests are none.

use prost_types::{Struct, Value};

use super::*;
use crate::generated::sds::envoy::{config::core::v3::BuildVersion, r#type::v3::SemanticVersion};

fn node(flag: Option<Kind>, version: Option<UserAgentVersionType>) -> Node {
    let fields = flag.map(|kind| (PLAIN.to_owned(), Value { kind: Some(kind) }));
    let metadata = Some(Struct { fields: fields.into_iter().collect() });
    Node { metadata, user_agent_version_type: version, ..Node::default() }
}

#[test]
fn sd_03_roots_are_plain_for_old_envoys_and_those_that_ask_for_it() {
    let built = |major_number, minor_number| {
        let version = Some(SemanticVersion { major_number, minor_number, patch: 0 });
        Some(UserAgentVersionType::UserAgentBuildVersion(BuildVersion { version }))
    };
    let text = |text: &str| Some(UserAgentVersionType::UserAgentVersion(text.to_owned()));
    let string = |text: &str| Some(Kind::StringValue(text.to_owned()));
    let plain = [
        node(Some(Kind::BoolValue(true)), None),
        node(Some(Kind::BoolValue(true)), built(1, 36)),
        node(string("true"), None),
        node(None, built(1, 17)),
        node(None, built(0, 99)),
        node(None, text("1.17.4")),
    ];
    for node in plain {
        assert_eq!(form_of(Some(&node)), Form::Plain, "{node:?}");
    }
    let spiffe = [
        node(None, None),
        node(Some(Kind::BoolValue(false)), built(1, 18)),
        node(string("yes"), None),
        node(Some(Kind::NumberValue(1.0)), None),
        node(None, built(2, 0)),
        node(None, text("1.36.1-dev")),
        node(None, text("unknown")),
        node(None, text("1")),
    ];
    for node in spiffe {
        assert_eq!(form_of(Some(&node)), Form::Spiffe, "{node:?}");
    }
    assert_eq!(form_of(None), Form::Spiffe);
}

#[test]
fn sd_02_what_a_client_says_is_cut_before_it_is_logged() {
    let detail = rpc::Status { code: 3, message: "é".repeat(10_000) };
    let Heard::Rejected { reason, .. } = rejected("v", &detail) else { panic!("not rejected") };
    assert_eq!(reason.chars().count(), REASON);
}

#[test]
fn sd_02_other_types_and_too_many_names_are_refused() {
    assert!(check_type("").is_ok() && check_type(SECRET_TYPE).is_ok());
    let other = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
    assert_eq!(check_type(other).unwrap_err().code(), tonic::Code::InvalidArgument);
    let names: Vec<String> = (0..=NAMES).map(|n| n.to_string()).collect();
    assert!(check_names(NAMES, names.iter()).is_ok());
    let status = check_names(names.len(), names.iter()).unwrap_err();
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    let long = ["x".repeat(NAME_BYTES + 1)];
    assert_eq!(check_names(1, long.iter()).unwrap_err().code(), tonic::Code::InvalidArgument);
}
