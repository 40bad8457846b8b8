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
