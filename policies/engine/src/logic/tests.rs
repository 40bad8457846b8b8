//! The pieces of compiled conditions against Cedar's own evaluator. Whole policies are compared in `tests/oracle.rs`.

use super::{Logic, literal, pattern::Pattern, range::Range, value::Const};
use crate::tests::shop_with;
use cedar_policy::{Context, Entities, EvalResult, Expression, Policy, Request, eval_expression, pst};
use proptest::prelude::*;

fn cedar(expression: &str) -> Option<EvalResult> {
    let uid = || r#"A::"a""#.parse().unwrap();
    let request = Request::new(uid(), uid(), uid(), Context::empty(), None).unwrap();
    eval_expression(&request, &Entities::empty(), &expression.parse::<Expression>().ok()?).ok()
}

fn is_true(expression: &str) -> bool {
    cedar(expression).unwrap_or_else(|| panic!("{expression}")) == EvalResult::Bool(true)
}

fn pattern(text: &str) -> Pattern {
    let elements =
        text.chars().map(|c| if c == '*' { pst::PatternElem::Wildcard } else { pst::PatternElem::Char(c) });
    Pattern::new(&elements.collect::<Vec<_>>())
}

fn logic(condition: &str) -> Logic {
    let text = format!("permit(principal, action, resource) when {{ {condition} }};");
    Logic::joining(Policy::parse(None, text).unwrap().to_pst().unwrap().body().clauses())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn like_matches_what_cedar_matches(text in "[ab/]{0,8}", wanted in "[ab/*]{0,6}") {
        prop_assert_eq!(pattern(&wanted).matches(&text), is_true(&format!("{text:?} like {wanted:?}")));
    }

    #[test]
    fn ranges_hold_what_cedar_says_they_hold(
        a in (any::<[u8; 4]>(), 0_u8..=32), b in (any::<[u8; 4]>(), 0_u8..=32), is_near in any::<bool>(),
    ) {
        let near = if is_near { [a.0[0], a.0[1], b.0[2], b.0[3]] } else { b.0 };
        let text = |octets: [u8; 4], prefix| format!("{}/{prefix}", std::net::Ipv4Addr::from(octets));
        let (a, b) = (text(a.0, a.1), text(near, b.1));
        let (x, y) = (Range::parse(&a).unwrap(), Range::parse(&b).unwrap());
        prop_assert_eq!(x.is_in(y), is_true(&format!("ip({a:?}).isInRange(ip({b:?}))")));
        prop_assert_eq!(x.is_loopback(), is_true(&format!("ip({a:?}).isLoopback()")));
        prop_assert_eq!(x.is_multicast(), is_true(&format!("ip({a:?}).isMulticast()")));
        prop_assert_eq!(x == y, is_true(&format!("ip({a:?}) == ip({b:?})")));
    }

    #[test]
    fn ranges_of_version_six_too(a in (any::<[u16; 8]>(), 0_u8..=128), b in 0_u8..=128) {
        let text = |prefix| format!("{}/{prefix}", std::net::Ipv6Addr::from(a.0));
        let Some((x, y)) = Range::parse(&text(a.1)).zip(Range::parse(&text(b))) else { return Ok(()) };
        prop_assert_eq!(x.is_in(y), is_true(&format!("ip({:?}).isInRange(ip({:?}))", text(a.1), text(b))));
    }

    #[test]
    fn decimals_order_as_cedar_orders_them(a in -99_999_i64..99_999, b in -99_999_i64..99_999, digits in 1_usize..5) {
        let text = |number: i64| {
            let scale = 10_i64.pow(u32::try_from(digits).unwrap());
            let sign = if number < 0 { "-" } else { "" };
            format!("{sign}{}.{:0digits$}", number.abs() / scale, number.abs() % scale)
        };
        let read = |text: &str| match literal::constructed(pst::UnaryOp::Decimal, text) {
            Some(Const::Decimal(number)) => number,
            other => panic!("{text}: {other:?}"),
        };
        let (a, b) = (text(a), text(b));
        prop_assert_eq!(read(&a) < read(&b), is_true(&format!("decimal({a:?}).lessThan(decimal({b:?}))")));
    }
}

#[test]
fn extension_values_of_entities_are_read_back() {
    for (text, wanted) in [
        (r#"ip("10.0.0.0/8")"#, Range::parse("10.0.0.0/8").map(Const::Ip)),
        (r#"decimal("-1.5")"#, Some(Const::Decimal(-15_000))),
        (r#"datetime("1970-01-02")"#, Some(Const::Moment(86_400_000))),
        (r#"datetime("1970-01-01").offset(duration("-1h"))"#, Some(Const::Moment(-3_600_000))),
        (r#"duration("1m")"#, Some(Const::Span(60_000))),
    ] {
        assert_eq!(literal::extension(text), wanted, "{text}");
        // As Cedar prints the value it made of it.
        let Some(EvalResult::ExtensionValue(printed)) = cedar(text) else { panic!("{text}") };
        assert_eq!(literal::extension(&printed), wanted, "{printed}");
    }
    assert_eq!(literal::extension("unknown(\"x\")"), None);
}

#[test]
fn what_is_not_compiled_goes_to_stock_cedar_and_says_why() {
    for (condition, why) in [
        ("context.connection == {}", "as a whole"),
        ("{ a: 1 } == { a: 1 }", "builds a record"),
        ("[context.request.host].contains(\"a\")", "set of what calls bring"),
        ("context.request.headers.origin == context.request.query.tenant", "two sets"),
        ("principal in (if context.connection.mtls then Group::\"a\" else Group::\"b\")", "`in`"),
        ("ip(context.request.host).isLoopback()", "else than a literal"),
        ("context.novelty == 1", "does not compile"),
    ] {
        let Logic::Slow(said) = logic(condition) else { panic!("{condition} was lowered") };
        assert!(said.contains(why), "{condition}: {said}");
    }
    let slow = shop_with(
        r#"@id("odd") permit (principal, action == Action::"grpc", resource) when { [context.request.host].contains("a") };"#,
    );
    let listed: Vec<_> = slow.slow_policies().map(|(policy, _)| policy.id.to_string()).collect();
    assert_eq!(listed, ["odd"]);
}

#[test]
fn the_language_is_compiled() {
    for condition in [
        "context.connection.mtls && context.connection.tls >= 13",
        r#"context.request.path like "/a/*" || context.request.segments["0"] == "b""#,
        r#"context has request && context.request has length && context.request.length * 2 < 100"#,
        r#"principal in [Group::"a", Namespace::"b"] && resource is Method in Service::"c""#,
        r#"principal.hasTag("team") && principal.getTag("team") == "x""#,
        r#"context.request.headers has "x-tenant" && context.request.headers["x-tenant"] == ["a"]"#,
        r#"if context.connection has sni then context.connection.sni == "a" else false"#,
        r#"context.time.now.toTime() < duration("8h") || context.time.now > datetime("2026-01-01")"#,
        r#"!(context.connection.source_ip.isInRange(ip("10.0.0.0/8")))"#,
        r#"context.request.query_names.containsAny(["a", "b"]) && !context.request.query_names.isEmpty()"#,
    ] {
        assert!(matches!(logic(condition), Logic::When(_)), "{condition}: {:?}", logic(condition));
    }
}
