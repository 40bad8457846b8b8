//! The flat form of a condition against the tree it was laid out from.

use super::*;
use crate::{AccessRequest, Action, ConnectionFacts, ErrorClass, OwnedFacts, Principal, Protocol, Resource};
use base_ports::UnixTime;
use proptest::prelude::*;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

fn leaf() -> impl Strategy<Value = Expr> {
    let bound = prop_oneof![-2_i64..3, 10_i64..16, 253_i64..258, Just(i64::MIN), Just(i64::MAX)];
    let orders = prop::sample::select(vec![
        BinaryOp::Less,
        BinaryOp::LessEq,
        BinaryOp::Greater,
        BinaryOp::GreaterEq,
        BinaryOp::Eq,
        BinaryOp::NotEq,
    ]);
    let nets =
        prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "10.1.2.3", "2001:db8::/32"]);
    let fact = |fact| Arc::new(Expr::Fact(fact));
    let known = |known| Arc::new(Expr::Const(known));
    prop_oneof![
        Just(Expr::Fact(Fact::Mtls)),
        any::<bool>().prop_map(|value| Expr::Const(Const::Bool(value))),
        Just(Expr::Const(Const::Long(1))),
        Just(Expr::Fail(ErrorClass::Overflow)),
        Just(Expr::Has(Fact::Sni)),
        Just(Expr::Fact(Fact::Sni)),
        (orders, bound).prop_map(move |(op, bound)| Expr::Binary(
            op,
            fact(Fact::Tls),
            known(Const::Long(bound))
        )),
        nets.prop_map(move |net| {
            let net = crate::logic::range::Range::parse(net).unwrap();
            Expr::Binary(BinaryOp::IsInRange, fact(Fact::SourceIp), known(Const::Ip(net)))
        }),
    ]
}

fn condition() -> impl Strategy<Value = Arc<Expr>> {
    leaf().prop_map(Arc::new).prop_recursive(5, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::And(a, b)),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| Expr::Or(a, b)),
            inner.clone().prop_map(|a| Expr::Unary(UnaryOp::Not, a)),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| Expr::If(a, b, c)),
        ]
        .prop_map(Arc::new)
    })
}

fn connection() -> impl Strategy<Value = ConnectionFacts> {
    let peer = prop::sample::select(vec![
        IpAddr::V4(Ipv4Addr::new(10, 1, 2, 3)),
        IpAddr::V4(Ipv4Addr::new(10, 2, 0, 0)),
        IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)),
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
    ]);
    let tls = prop::sample::select(vec![0_u8, 1, 12, 13, 254, 255]);
    (any::<bool>(), tls, peer, any::<bool>()).prop_map(|(mtls, tls, source_ip, has_sni)| ConnectionFacts {
        mtls,
        tls,
        source_ip,
        sni: has_sni.then(|| "a".into()),
        listener: "public".into(),
        protocol: Protocol::H2,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn conditions_come_out_as_their_trees_do(
        conditions in prop::collection::vec((prop::option::of(condition()), prop::option::of(0_i64..4)), 0..6),
        connection in connection(),
        now in 0_i64..4,
    ) {
        let facts = OwnedFacts::new(connection);
        let (principal, resource) = (Principal::anonymous(), Resource::route("home"));
        let request = AccessRequest {
            principal: &principal,
            action: Action::HttpGet,
            resource: &resource,
            facts: &facts,
            now: UnixTime::from_secs(now),
            extra: None,
        };
        let scene = Scene::new(&request);
        // A condition that always holds has no step: plans note it before.
        let conditions: Vec<_> = conditions
            .into_iter()
            .map(|(when, end)| (when, end.map(UnixTime::from_secs)))
            .filter(|(when, end)| when.is_some() || end.is_some())
            .collect();
        let wanted: Vec<Outcome> = conditions
            .iter()
            .map(|(when, end)| {
                if end.is_some_and(|end| request.now >= end) {
                    return Outcome::Unsatisfied;
                }
                match when.as_ref().map(|when| truth(when, scene)) {
                    None | Some(Ok(true)) => Outcome::Satisfied,
                    Some(Ok(false)) => Outcome::Unsatisfied,
                    Some(Err(Stop::Error(class))) => Outcome::Failed(class),
                    Some(Err(Stop::Refused(_))) => panic!("no fact is missing here"),
                }
            })
            .collect();
        let mut share = |leaf: &Arc<Expr>| Arc::clone(leaf);
        let mut layout = Layout::new(&mut share);
        conditions.iter().for_each(|(when, end)| layout.add(when.as_ref(), *end));
        let mut found = Vec::new();
        layout.finish().0.run(scene, |outcome| { found.push(outcome?); Ok(()) }).unwrap();
        prop_assert_eq!(found, wanted);
    }
}

#[test]
fn a_condition_too_long_for_jumps_is_one_test() {
    let long = (0..70_000).fold(Arc::new(Expr::Fact(Fact::Mtls)), |before, _| {
        Arc::new(Expr::Or(Arc::new(Expr::Fact(Fact::Mtls)), before))
    });
    let judge = move || {
        let mut share = |leaf: &Arc<Expr>| Arc::clone(leaf);
        let mut layout = Layout::new(&mut share);
        layout.add(Some(&long), None);
        let (steps, _) = layout.finish();
        // Dropping so deep a tree recurses; the process ends soon.
        std::mem::forget(long);
        steps.0.len()
    };
    let big = std::thread::Builder::new().stack_size(256 << 20).spawn(judge).unwrap();
    assert_eq!(big.join().unwrap(), 1);
}
