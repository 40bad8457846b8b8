//! Agents over REST: listed, read, banned and evicted by administrators; judged at each request of their own.

use super::*;
use crate::{AgentSvid, Evidence};

#[tokio::test]
async fn rv_02_agents_are_listed_banned_and_evicted_over_rest() {
    let authority = Bench::new().open().await;
    let router = agents(Arc::clone(&authority)).merge(enrolment(Arc::clone(&authority)));
    let call = async |method: Method, uri: &str, body: Option<Value>| {
        ask(&router, method, uri, &[], Some(Caller::Local { uid: 7 }), body).await
    };
    let mut names = Vec::new();
    for _ in 0..3 {
        let token = authority.create_join_token(HOUR).await.unwrap().token;
        let issued = authority.attest(Evidence::JoinToken(token), &request().1).await.unwrap();
        names.push(issued.id.path().trim_start_matches("/portcullis/agent/").to_owned());
    }
    names.sort();
    let first = call(Method::GET, "/v1/agents?limit=2", None).await;
    let cursor = first.body["next_cursor"].as_str().unwrap().to_owned();
    let rest = call(Method::GET, &format!("/v1/agents?limit=2&cursor={cursor}"), None).await;
    let all = [&first, &rest].map(|page| page.body["items"].as_array().unwrap().clone()).concat();
    let listed: Vec<_> = all.iter().map(|agent| agent["name"].as_str().unwrap()).collect();
    assert_eq!(listed, names);
    assert!(rest.body["next_cursor"].is_null());

    let (one, id) = (format!("/v1/agents/{}", names[0]), all[0]["spiffe_id"].clone());
    let shown = call(Method::GET, &one, None).await;
    assert_eq!((&shown.body["attested_by"], &shown.body["connected"]), (&json!("join_token"), &json!(false)));
    call(Method::GET, "/v1/agents/join_token/none", None).await.is_problem(404, "unknown_agent");
    call(Method::GET, "/v1/agents/UP%20", None).await.is_problem(400, "agent_invalid");

    let ban = |dry: bool| json!({ "agent": names[0], "reason": "lost", "dry_run": dry });
    let planned = call(Method::POST, "/v1/agents:ban", Some(ban(true))).await;
    assert_eq!((&planned.body["live_svids"], planned.body["ban"].is_null()), (&json!(1), true));
    let banned = call(Method::POST, "/v1/agents:ban", Some(ban(false))).await;
    assert_eq!(
        (&banned.body["ban"]["reason"], &banned.body["ban"]["by"]),
        (&json!("lost"), &json!("local user 7"))
    );

    // Its own requests are refused from now on, whatever the connection showed before.
    let id = SpiffeId::parse(id.as_str().unwrap()).unwrap();
    for path in ["/v1/agents:sync", "/v1/agents:renew", "/v1/agents:acknowledge", "/v1/svids:sign"] {
        let shown =
            AgentSvid { serial: ca_identity::Serial::from_bytes(&[1]), not_after: authority.time() + HOUR };
        let asked = Request::post(path).extension(Caller::Svid(id.clone())).extension(shown);
        let asked = asked.header(CONTENT_TYPE, "application/json").body(Body::from("{}")).unwrap();
        let answer = router.clone().oneshot(asked).await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        let answer = ask(&router, Method::POST, path, &[], None, Some(json!({}))).await;
        answer.is_problem(401, "unauthenticated");
    }

    let evicted = call(Method::POST, "/v1/agents:evict", Some(json!({ "agent": id.as_str() }))).await;
    assert_eq!(evicted.body["name"], names[0].as_str());
    call(Method::POST, "/v1/agents:evict", Some(json!({ "agent": names[0] })))
        .await
        .is_problem(404, "unknown_agent");
    // A local process is no agent of another host.
    call(Method::POST, "/v1/agents:sync", Some(json!({}))).await.is_problem(403, "not_an_agent");
}

#[tokio::test]
async fn st4_who_enrols_is_told_whose_policies_to_believe_where_there_are_any() {
    let authority = Bench::new().open().await;
    let keys = PolicyKeys(Arc::new(|| vec!["example.org/policies+1".to_owned()]));
    let without = enrolment(Arc::clone(&authority));
    let with = without.clone().layer(axum::Extension(keys));
    for (router, told) in [(without, Value::Null), (with, json!(["example.org/policies+1"]))] {
        let token = authority.create_join_token(HOUR).await.unwrap().token;
        let csr = STANDARD.encode(request().1);
        let body = json!({ "evidence": { "type": "join_token", "token": token }, "csr": csr });
        let joined = ask(&router, Method::POST, "/v1/agents:attest", &[], None, Some(body)).await;
        assert_eq!((joined.status, &joined.body["policy_keys"]), (StatusCode::OK, &told), "{}", joined.body);
        let agent = Caller::Svid(SpiffeId::parse(joined.body["spiffe_id"].as_str().unwrap()).unwrap());
        let csr = json!({ "csr": STANDARD.encode(request().1) });
        let renewed = ask(&router, Method::POST, "/v1/agents:renew", &[], Some(agent), Some(csr)).await;
        assert_eq!(
            (renewed.status, &renewed.body["policy_keys"]),
            (StatusCode::OK, &told),
            "{}",
            renewed.body
        );
        assert!(renewed.body["chain"].is_array() && renewed.body["bundle"]["authorities"].is_array());
    }
}
