//! What `rate` of a listener and of a route means.

use enforcer_traffic::Rate;

use super::{GOOD, read};

#[test]
fn rl_01_the_rates_of_the_guide_mean_what_the_guide_says() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n[[enforcer.listener]]").find(|part| part.contains("rate = ")).unwrap();
    let toml = toml.split("```").next().unwrap();
    let public = "[[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:9443\"]\n";
    assert!(GOOD.contains(public));
    let service = "[[enforcer.service]]\nname = \"shop\"\n";
    let text = GOOD.replace(public, &format!("[[enforcer.listener]]{toml}{service}"));
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    let listener = enforcer.listeners.last().unwrap().rate.as_ref().unwrap();
    assert_eq!(
        (listener.total, listener.per_identity),
        (Rate::parse("5000/s", None), Rate::parse("200/s", None))
    );
    let route = enforcer.routes.iter().find(|route| route.name == "search").unwrap().rate.as_ref().unwrap();
    assert_eq!((route.total, route.per_identity), (None, Rate::parse("20/s", Some(40))));
    let [(jobs, rate)] = route.overrides.as_slice() else { panic!("{:?}", route.overrides) };
    assert_eq!(
        (jobs.to_string().as_str(), Some(*rate)),
        ("spiffe://example.org/jobs/*", Rate::parse("600/m", None))
    );
    assert!(read(GOOD, &[]).unwrap().config.enforcer.unwrap().listeners[0].rate.is_none());
}
