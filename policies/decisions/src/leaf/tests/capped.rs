//! Long values are cut and told, whole records stay below their cap, secrets are never taken.

use super::*;

#[test]
fn re7_long_values_are_cut_between_characters_and_leave_their_hash() {
    let path = format!("/{}", "é".repeat(700));
    let mut record = example();
    record.detail = Some("d".repeat(513));
    record.determining = (0..65).map(|n| Arc::from(format!("p{n}"))).collect();
    let request = OwnedRequest { path: path.clone(), ..OwnedRequest::default() };
    record.facts = Some(OwnedFacts::local("l").with_request(request).into());
    let stored = decoded(encoded(record));
    let decision = stored.decision().unwrap();
    assert_eq!(decision.detail.as_deref(), Some("d".repeat(512).as_str()));
    assert_eq!(decision.determining.len(), 64);
    assert_eq!(
        decision.facts.as_ref().unwrap().owned_request().unwrap().path,
        format!("/{}", "é".repeat(511))
    );
    let cut: Vec<_> = stored.truncated.iter().map(|cut| (cut.field.as_str(), cut.length)).collect();
    assert_eq!(cut, [("determining", 65), ("request.path", 1_401), ("detail", 513)]);
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, path.as_bytes());
    assert_eq!(stored.truncated[1].sha256.unwrap(), sha256.as_ref());
}

#[test]
fn re7_no_record_is_larger_than_32_kib() {
    let long = |n: usize| format!("{n:04}{}", "x".repeat(600));
    let many = |n: usize| (0..n).map(long).collect::<Vec<_>>();
    let sets: BTreeMap<String, Vec<String>> = (0..80).map(|n| (long(n), many(80))).collect();
    let declared = Declared {
        headers: sets.keys().map(|name| name.as_str().into()).collect(),
        query: sets.keys().map(|name| name.as_str().into()).collect(),
        params: sets.keys().map(|name| name.as_str().into()).collect(),
        ..Declared::default()
    };
    let request = OwnedRequest {
        method: long(0),
        host: long(1),
        path: "/".repeat(9_000),
        query: sets.clone(),
        headers: sets.clone(),
        params: sets.keys().map(|name| (name.clone(), long(2))).collect(),
        media_type: Some(long(3)),
        ..OwnedRequest::default()
    };
    let ids: Arc<[Arc<str>]> = many(80).into_iter().map(Arc::from).collect();
    let errors: Vec<_> = ids
        .iter()
        .map(|policy| PolicyError { policy: Arc::clone(policy), class: ErrorClass::MissingAttribute })
        .collect();
    let mut record = example();
    record.principal = Principal::workload(&"p".repeat(5_000));
    record.resource = Resource::route(&"r".repeat(5_000)).within(&long(4), Some(&long(5)));
    record.determining = Arc::clone(&ids);
    record.errors = errors.clone();
    record.would = Some(Box::new(policies_engine::Would {
        effect: Effect::Deny,
        reason: Reason::Forbid,
        determining: ids,
        errors,
        version: None,
    }));
    record.versions = Some(Arc::new(Versions { declared: Arc::new(declared), ..versions() }));
    record.facts = Some(OwnedFacts::local(&long(6)).with_request(request).into());
    let leaf = encoded(record);
    assert!(leaf.len() <= MAX_LEAF, "{} bytes", leaf.len());
    let stored = decoded(leaf);
    assert!(stored.truncated.iter().any(|cut| cut.field == "would.determining"));
    assert_eq!(
        stored.truncated.last().map(|cut| cut.field.as_str()),
        Some("*"),
        "more was cut than is listed"
    );
}

#[test]
fn re5_secrets_are_never_recorded_even_when_declared() {
    let secrets = ["authorization", "cookie", "set-cookie", "proxy-authorization", "x-api-key"];
    let mut headers: BTreeMap<_, _> =
        secrets.iter().map(|name| ((*name).to_owned(), vec!["s3cr3t".to_owned()])).collect();
    headers.insert("x-tenant".to_owned(), vec!["blue".to_owned()]);
    headers.insert("x-undeclared".to_owned(), vec!["s3cr3t".to_owned()]);
    let declared = Declared {
        headers: secrets.iter().chain(&["x-tenant"]).map(|name| Arc::from(*name)).collect(),
        ..Declared::default()
    };
    let query = [("token".to_owned(), vec!["s3cr3t".to_owned()])].into();
    let request = OwnedRequest { path: "/".to_owned(), query, headers, ..OwnedRequest::default() };
    let mut record = example();
    record.versions = Some(Arc::new(Versions { declared: Arc::new(declared), ..versions() }));
    record.facts = Some(OwnedFacts::local("l").with_request(request).into());
    let leaf = encoded(record);
    assert!(!leaf.windows(6).any(|window| window == b"s3cr3t"));
    let stored = decoded(leaf);
    let request = stored.facts().unwrap().owned_request().unwrap();
    assert_eq!(request.headers, [("x-tenant".to_owned(), vec!["blue".to_owned()])].into());
    assert_eq!(request.query_names, ["token".to_owned()].into());
    assert!(request.query.is_empty());
}
