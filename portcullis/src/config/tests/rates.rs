//! What limits of a listener and of a route mean.

use std::time::Duration;

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

#[test]
fn al_05_strangers_get_a_smaller_share_and_learn_less() {
    let guide = include_str!("../../../../docs/guide.md");
    let toml = guide.split("```toml\n").find(|part| part.contains("max_memory = ")).unwrap();
    let toml = toml.split("```").next().unwrap();
    let public = GOOD.split_once("[enforcer]").unwrap().1.split_once("[[enforcer.service]]").unwrap().0;
    let text = GOOD.replace(&format!("[enforcer]{public}"), toml);
    let enforcer = read(&text, &[]).unwrap().config.enforcer.unwrap();
    assert_eq!((enforcer.max_memory, enforcer.max_handshakes), (Some(512 << 20), 1_024));
    assert_eq!(enforcer.max_delay, Duration::from_millis(50));
    let [listener] = enforcer.listeners.as_slice() else { panic!("{:?}", enforcer.listeners) };
    assert_eq!((listener.max_connections_per_identity, listener.tells_shed), (2_500, true));
    for (profile, share, handshakes, tells) in [("edge", 2_500, 64, false), ("mesh", 5_000, usize::MAX, true)]
    {
        let text = GOOD.replace("9443\"]", &format!("9443\"]\nprofile = \"{profile}\""));
        let listener = &read(&text, &[]).unwrap().config.enforcer.unwrap().listeners[0];
        assert_eq!(listener.max_connections_per_identity, share, "{profile}");
        assert_eq!(
            (listener.max_handshakes_per_source, listener.tells_shed),
            (handshakes, tells),
            "{profile}"
        );
    }
}

#[test]
fn ov_01_how_long_tasks_may_wait_is_a_setting_with_bounds() {
    let with =
        |delay: &str| GOOD.replacen("[enforcer]\n", &format!("[enforcer]\nmax_delay = \"{delay}\"\n"), 1);
    for (delay, millis) in [("5ms", 5), ("200ms", 200), ("60s", 60_000)] {
        let enforcer = read(&with(delay), &[]).unwrap().config.enforcer.unwrap();
        assert_eq!(enforcer.max_delay, Duration::from_millis(millis));
    }
    for delay in ["0s", "4ms", "61s"] {
        let refused = format!("{:?}", read(&with(delay), &[]).unwrap_err());
        assert!(refused.contains("between 5ms and 60s"), "{refused}");
    }
}
