//! What the file says of the agent.

use super::*;

#[test]
fn sd_01_the_fixed_names_of_secrets_are_those_of_the_site() {
    let names =
        |text: &str| read(&with(8, "[agent]", text), &[]).map(|read| read.config.agent.unwrap().served.sds);
    let usual = names("[agent]").unwrap();
    assert_eq!([usual.certificate, usual.bundle, usual.bundles], ["default", "ROOTCA", "ALL"]);
    let own = names("[agent]\nsds_default = \"me\"\nsds_bundle = \"us\"\nsds_bundles = \"all\"").unwrap();
    assert_eq!([own.certificate, own.bundle, own.bundles], ["me", "us", "all"]);
    for line in [
        "sds_default = \"ROOTCA\"",
        "sds_bundle = \"ALL\"",
        "sds_bundles = \"\"",
        "sds_default = \"*\"",
        "sds_bundle = \"spiffe://example.org\"",
    ] {
        let messages = names(&format!("[agent]\n{line}")).unwrap_err();
        assert!(messages.iter().all(|message| message.code == "PC0104"), "{line}: {messages:?}");
    }
}

#[test]
fn we_01_the_workload_api_is_on_a_unix_socket_also_when_nothing_is_said_and_on_nothing_else() {
    let socket = |text: &str| read(&with(8, "[agent]", text), &[]).map(|read| read.config.agent.unwrap());
    let usual = socket("[agent]").unwrap();
    assert!(usual.socket.is_absolute() && usual.socket.ends_with("data/workload.sock"), "{:?}", usual.socket);
    assert_eq!(usual.socket_mode, 0o770);
    let own = socket("[agent]\nsocket = \"unix:///run/w.sock\"").unwrap();
    assert_eq!(own.socket, Path::new("/run/w.sock"));
    for address in ["tcp://127.0.0.1:9000", "tcp://0.0.0.0:9000", "http://127.0.0.1:9000", "/run/w.sock"] {
        let messages = socket(&format!("[agent]\nsocket = \"{address}\"")).unwrap_err();
        assert!(messages.iter().all(|message| message.code == "PC0104"), "{address}: {messages:?}");
    }
}
