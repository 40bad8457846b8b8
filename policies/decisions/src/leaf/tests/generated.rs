//! Random records of every shape.

use super::*;

pub(super) fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "[a-z]{0,8}",
        "[ -~]{0,12}",
        "\\PC{0,6}",
        Just("line\nbreak \u{1b}[31m \u{202e} =1+1 <b>'".to_owned())
    ]
}

pub(super) fn errors() -> impl Strategy<Value = Vec<PolicyError>> {
    let class = prop::sample::select(vec![ErrorClass::Overflow, ErrorClass::MissingTag, ErrorClass::Type]);
    let error = (texts(), class).prop_map(|(policy, class)| PolicyError { policy: policy.into(), class });
    prop::collection::vec(error, 0..3)
}

pub(super) fn determining() -> impl Strategy<Value = Arc<[Arc<str>]>> {
    prop::collection::vec(texts(), 0..4).prop_map(|ids| ids.into_iter().map(Arc::from).collect())
}

pub(super) fn reasons() -> impl Strategy<Value = Reason> {
    prop::sample::select(Reason::ALL)
}

pub(super) fn effects() -> impl Strategy<Value = Effect> {
    prop::sample::select(vec![Effect::Allow, Effect::Deny])
}

pub(super) fn woulds() -> impl Strategy<Value = policies_engine::Would> {
    (effects(), reasons(), determining(), errors(), any::<Option<u64>>()).prop_map(
        |(effect, reason, determining, errors, version)| policies_engine::Would {
            effect,
            reason,
            determining,
            errors,
            version,
        },
    )
}

pub(super) fn credentials() -> impl Strategy<Value = Credential> {
    let kind = prop::sample::select(vec![CredentialKind::X509, CredentialKind::Jwt, CredentialKind::Local]);
    let text = || prop::option::of(texts());
    (kind, text(), any::<Option<[u8; 32]>>(), text(), any::<Option<i64>>()).prop_map(
        |(kind, serial, fingerprint, issuer, not_after)| Credential {
            kind,
            serial,
            fingerprint,
            issuer,
            not_after: not_after.map(UnixTime::from_nanos),
        },
    )
}

pub(super) fn sets() -> impl Strategy<Value = BTreeMap<String, Vec<String>>> {
    prop::collection::btree_map("[a-z-]{1,9}", prop::collection::vec(texts(), 1..3), 0..3)
}

pub(super) fn requests() -> impl Strategy<Value = OwnedRequest> {
    let heads = (texts(), texts(), texts(), prop::option::of(texts()), any::<Option<u64>>());
    let names = prop::collection::btree_set(texts(), 0..3);
    (heads, sets(), names, sets(), prop::collection::btree_map("[a-z]{1,9}", texts(), 0..3)).prop_map(
        |((method, host, path, media_type, length), query, query_names, headers, params)| OwnedRequest {
            method,
            host,
            path,
            query,
            query_names,
            headers,
            params,
            media_type,
            length,
        },
    )
}

pub(super) fn facts() -> impl Strategy<Value = OwnedFacts> {
    let connection =
        (any::<bool>(), any::<u8>(), any::<std::net::IpAddr>(), prop::option::of(texts()), texts());
    let protocol = prop::sample::select(Protocol::ALL);
    let rpc = prop::option::of((texts(), texts()));
    (connection, protocol, prop::option::of(requests()), rpc).prop_map(
        |((mtls, tls, source_ip, sni, listener), protocol, request, rpc)| {
            let facts = OwnedFacts::new(policies_engine::ConnectionFacts {
                mtls,
                tls,
                source_ip,
                sni: sni.map(Into::into),
                listener: listener.into(),
                protocol,
            });
            let facts = match request {
                Some(request) => facts.with_request(request),
                None => facts,
            };
            match rpc {
                Some((service, method)) => facts.with_rpc(&service, &method),
                None => facts,
            }
        },
    )
}

/// Facts, and versions that declare every name in them.
pub(super) fn judged() -> impl Strategy<Value = (Option<OwnedFacts>, Versions)> {
    prop::option::of(facts()).prop_map(|facts| {
        let mut declared = Declared::default();
        if let Some(request) = facts.as_ref().and_then(OwnedFacts::owned_request) {
            let names =
                |names: &mut dyn Iterator<Item = &String>| names.map(|name| name.as_str().into()).collect();
            declared.headers = names(&mut request.headers.keys());
            declared.query = names(&mut request.query.keys());
            declared.params = names(&mut request.params.keys());
        }
        (facts, Versions { declared: Arc::new(declared), ..versions() })
    })
}

pub(super) fn records() -> impl Strategy<Value = DecisionRecord> {
    let verdict =
        (effects(), reasons(), prop::option::of(texts()), any::<bool>(), prop::option::of(woulds()));
    let phase = prop::sample::select(vec![
        Phase::Request,
        Phase::Connect,
        Phase::Rejudge,
        Phase::Mirror,
        Phase::Admin,
        Phase::Issue,
    ]);
    let kinds = vec!["Workload", "User", "Anonymous", "Portcullis::Agent", "Portcullis::LocalUser"];
    let who = (prop::sample::select(kinds), texts(), prop::option::of(credentials()));
    let targets = vec!["Route", "Method", "Service", "Portcullis::System", "Unknown"];
    let what = (
        prop::sample::select(Action::CALLS),
        prop::sample::select(targets),
        texts(),
        prop::option::of((texts(), prop::option::of(texts()))),
    );
    let evaluated = prop::sample::select(vec![Evaluated::Constant, Evaluated::Compiled, Evaluated::Fallback]);
    let audit = prop::sample::select(vec![Audit::BestEffort, Audit::Required, Audit::Durable]);
    let how = (determining(), errors(), evaluated, any::<bool>(), any::<u32>(), audit);
    let trace = any::<Option<([u8; 16], [u8; 8])>>();
    (verdict, phase, who, what, how, judged(), trace, any::<(i64, u64)>()).prop_map(
        |(verdict, phase, who, what, how, (facts, versions), trace, (wall, mono))| DecisionRecord {
            effect: verdict.0,
            reason: verdict.1,
            detail: verdict.2,
            mode: if verdict.3 { Mode::Observe } else { Mode::Enforce },
            phase,
            would: verdict.4.map(Box::new),
            principal: Principal::from_parts(who.0, &who.1).unwrap(),
            credential: who.2.map(Arc::new),
            action: what.0,
            resource: match &what.3 {
                None => Resource::from_parts(what.1, &what.2).unwrap(),
                Some((service, namespace)) => {
                    Resource::from_parts(what.1, &what.2).unwrap().within(service, namespace.as_deref())
                }
            },
            determining: how.0,
            errors: how.1,
            versions: Some(Arc::new(versions)),
            evaluated: how.2,
            stale: how.3,
            decide_ns: how.4,
            facts: facts.map(Into::into),
            trace: trace.map(|(trace_id, span_id)| Trace { trace_id, span_id }),
            audit: how.5,
            time: Now { wall: UnixTime::from_nanos(wall), mono: Mono::from_nanos(mono) },
        },
    )
}
