//! Parts of a cluster behind the shipped gateway: a route gets the endpoints that it asks for (LB-14).

use libtest_mimic::Trial;
use tests::peers::missing;
use tests::upstream::Upstream;
use tests::{Gateway, Result, check};

use crate::trial;

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("lb_14_a_route_gets_the_endpoints_with_the_labels_that_it_asks_for", missing("curl"), parts)]
}

fn parts() -> Result {
    let (one, two, next) = (Upstream::echo(), Upstream::echo(), Upstream::echo());
    let endpoint = |upstream: &Upstream, labels: &str| {
        format!(
            "[[enforcer.cluster.endpoint]]\naddress = \"http://{}\"\nlabels = [{labels}]\n",
            upstream.address
        )
    };
    let route = |name: &str, to: &str| {
        format!(
            "[[enforcer.route]]\nname = \"{name}\"\nservice = \"site\"\nmatch = {{ path = \"/{name}\" }}\n{to}\n"
        )
    };
    let share = |subset: &str, weight: u32| {
        format!("[[enforcer.route.split]]\ncluster = \"shop\"\nsubset = [\"{subset}\"]\nweight = {weight}\n")
    };
    let gateway = Gateway::build()
        .service("site", &[])
        .section("[[enforcer.cluster]]\nname = \"shop\"\nsubset_fallback = \"default\"\nsubset_default = [\"stage=live\", \"version=1\"]\n")
        .section(&endpoint(&one, "\"version=1\", \"stage=live\""))
        .section(&endpoint(&two, "\"version=1\", \"stage=live\""))
        .section(&endpoint(&next, "\"version=2\", \"stage=live\""))
        .section(&route("old", "cluster = \"shop\"\nsubset = [\"version=1\"]"))
        .section(&route("new", "cluster = \"shop\"\nsubset = [\"stage=live\", \"version=2\"]"))
        .section(&route("odd", "cluster = \"shop\"\nsubset = [\"version=9\"]"))
        .section(&route("all", "cluster = \"shop\""))
        .section(&route("canary", ""))
        .section(&share("version=1", 3))
        .section(&share("version=2", 1))
        .start()?;
    let tls = gateway.identity()?;
    let calls = |path: &str, n: usize| -> Result<[usize; 3]> {
        let before = [one.calls(), two.calls(), next.calls()];
        for _ in 0..n {
            let (status, body) = gateway.curl(&tls, path, &[])?;
            check!(status == 200, "{path}: {status} {body}");
        }
        Ok([one.calls() - before[0], two.calls() - before[1], next.calls() - before[2]])
    };
    for (path, is_old) in [("/old", true), ("/odd", true), ("/new", false)] {
        let seen = calls(path, 12)?;
        check!((seen[2] == 0) == is_old && seen.iter().sum::<usize>() == 12, "{path}: {seen:?}");
    }
    let seen = calls("/all", 30)?;
    check!(seen.iter().all(|calls| *calls > 0), "{seen:?}");
    let seen = calls("/canary", 40)?;
    check!((8..=12).contains(&seen[2]), "a quarter goes to the new version: {seen:?}");
    // One state per endpoint, whichever part it is asked in: what the old version learned is not forgotten.
    next.answer_all(503);
    for _ in 0..8 {
        gateway.curl(&tls, "/all", &[])?;
        gateway.curl(&tls, "/new", &[])?;
    }
    check!(gateway.log().contains("endpoint_shut"), "the new version is not shut:\n{}", gateway.log());
    let seen = calls("/all", 10)?;
    check!(seen[2] <= 1, "the whole cluster knows too: {seen:?}");
    Ok(())
}
