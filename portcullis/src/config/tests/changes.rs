//! What a reload changes, what it leaves to a restart, and where the process is found when the file is broken.

use super::super::keys::{self, Kind};
use super::super::{Changes, admin_socket, changes, explain};
use super::{GOOD, read};

/// What a reload of `text` over `GOOD` finds: keys that it changes, keys that need a restart.
fn differs(text: &str) -> (Vec<String>, Vec<String>) {
    let (old, new) = (read(GOOD, &[]).unwrap().config, read(text, &[]).unwrap().config);
    let Changes { live, restart } = changes(&old.values, &new.values);
    assert_eq!(old.digest() == new.digest(), old.values == new.values);
    (live, restart)
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[test]
fn cf9_a_reload_tells_what_it_changes_from_what_needs_a_restart() {
    let none: &[&str] = &[];
    let web = "[[enforcer.route]]\nname = \"web\"\nservice = \"orders\"\nmatch = { path = \"/\" }\nto = [\"http://127.0.0.1:8000\"]\n";
    let rpc = "[[enforcer.route]]\nname = \"rpc\"\nservice = \"orders\"\nmatch = { grpc = \"shop.Orders/*\" }\nto = [\"h2c://127.0.0.1:50051\"]\n";
    let swapped = GOOD.replace(web, "").replace(rpc, &format!("{web}{rpc}"));
    let second =
        "[[enforcer.listener]]\nname = \"second\"\nbind = [\"tcp://127.0.0.1:9444\"]\n[[enforcer.service]]";
    let split = |weight: u32| {
        let cluster = |name| {
            format!("[[enforcer.cluster]]\nname = \"{name}\"\nendpoints = [\"http://127.0.0.1:8000\"]\n")
        };
        let split = format!(
            "split = [{{ cluster = \"old\", weight = 95 }}, {{ cluster = \"new\", weight = {weight} }}]"
        );
        let text = GOOD.replace("to = [\"http://127.0.0.1:8000\"]", &split);
        text.replacen(
            "[[enforcer.route]]",
            &format!("{}{}[[enforcer.route]]", cluster("old"), cluster("new")),
            1,
        )
    };
    for (text, live, restart) in [
        (format!("# a comment\n{GOOD}"), none, none),
        (GOOD.replace("name = \"web\"", "name = \"web\"\ntimeout = \"15s\""), none, none),
        (swapped, none, none),
        (
            split(5),
            &[
                "enforcer.cluster[new]",
                "enforcer.cluster[old]",
                "enforcer.route[web].split",
                "enforcer.route[web].to",
            ],
            none,
        ),
        (GOOD.replace(web, ""), &["enforcer.route[web]"], none),
        (GOOD.replace("path = \"/\"", "path = \"/v2\""), &["enforcer.route[web].match.path"], none),
        (
            GOOD.replace("name = \"web\"", "name = \"site\""),
            &["enforcer.route[site]", "enforcer.route[web]"],
            none,
        ),
        (
            GOOD.replace(
                "to = [\"http://127.0.0.1:8000\"]",
                "to = [\"http://127.0.0.1:8000\"]\nmode = \"observe\"\ntimeout = \"2s\"",
            ),
            &["enforcer.route[web].mode", "enforcer.route[web].timeout"],
            none,
        ),
        (GOOD.replace("shop.Orders/Get", "shop.Orders/Put"), &["enforcer.service[orders].methods"], none),
        (GOOD.replace("9443\"]", "9443\"]\nmode = \"observe\""), &["enforcer.listener[public].mode"], none),
        (
            GOOD.replace("9443\"]", "9443\"]\nrate = { total = \"5/s\" }"),
            &["enforcer.listener[public].rate"],
            none,
        ),
        (
            GOOD.replace("9443\"]", "9443\"]\nidle_timeout = \"5s\""),
            &["enforcer.listener[public].idle_timeout"],
            none,
        ),
        (GOOD.replacen("[[enforcer.service]]", second, 1), &["enforcer.listener[second]"], none),
        (GOOD.replace("[agent]\n", ""), none, &["agent"]),
        (GOOD.replace("unix:uid:1000", "unix:uid:1001"), none, &["ca.entry[0].selectors"]),
        (
            GOOD.replace("9443", "9444").replace("[agent]\n", ""),
            &["enforcer.listener[public].bind"],
            &["agent"],
        ),
    ] {
        assert_eq!(differs(&text), (words(live), words(restart)), "{text}");
    }
}

#[test]
fn cf9_every_key_says_whether_a_reload_or_a_restart_brings_it_into_force() {
    for key in keys::all().filter(|key| key.kind != Kind::Table) {
        let text = explain(key.path).unwrap();
        let live = ["route", "cluster", "service", "listener", "issuer"]
            .map(|section| format!("enforcer.{section}"));
        let is_live = live.iter().any(|section| key.path.starts_with(section))
            || key.path.starts_with("decisions.keep.")
            || ["enforcer.mode", "enforcer.zone"].contains(&key.path);
        let says =
            format!("{}\n", if is_live { "takes effect: at a reload" } else { "takes effect: at a restart" });
        assert!(text.contains(&says), "{text}");
    }
}

#[test]
fn cf9_the_socket_of_a_process_is_found_though_its_file_is_not_valid() {
    let dir = tempfile::tempdir().unwrap();
    let (path, data) = (dir.path().join("portcullis.toml"), dir.path().join("data"));
    std::fs::create_dir(&data).unwrap();
    let socket = data.join("admin.sock");
    let found = |text: &str| {
        std::fs::write(&path, text).unwrap();
        admin_socket(&path)
    };
    let unknown = GOOD.replace("[agent]", "[agnet]");
    assert_eq!(found(&unknown), None, "there is no socket");
    std::fs::write(&socket, "").unwrap();
    assert_eq!(found(&unknown).as_deref(), Some(socket.as_path()));
    assert_eq!(found(&format!("{GOOD}[[enforcer.route\n")).as_deref(), Some(socket.as_path()));
    assert_eq!(found("listen"), None);
}
