//! What the file says of an authority elsewhere.

use super::*;
use crate::config::KnownBy;

const ROOT: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

fn file(join: &str) -> String {
    format!("version = 1\ntrust_domain = \"example.org\"\ndata_dir = \"./data\"\n[join]\n{join}\n[agent]\n")
}

#[test]
fn an_agent_of_an_authority_elsewhere_knows_it_by_one_thing() {
    let join = |text: &str| read(&file(text), &[]).map(|read| *read.config.join.unwrap());
    let authority = "authority = \"https://CA.example.org:8443\"\n";
    let by_hash = join(&format!("{authority}fingerprint = \"sha256:{ROOT}\"\ntoken_file = \"t\"")).unwrap();
    assert_eq!((by_hash.host.as_str(), by_hash.port), ("ca.example.org", 8443));
    assert_eq!(by_hash.token_file.as_deref(), Some(Path::new("/etc/portcullis/t")));
    let KnownBy::Fingerprint(hash) = by_hash.known_by else { panic!("{by_hash:?}") };
    assert_eq!((hash[0], hash[31]), (0x9f, 0x08));
    // As openssl prints it.
    let pairs: Vec<_> = ROOT
        .to_uppercase()
        .chars()
        .collect::<Vec<_>>()
        .chunks(2)
        .map(|two| two.iter().collect::<String>())
        .collect();
    let same = join(&format!("{authority}fingerprint = \"{}\"", pairs.join(":"))).unwrap();
    assert_eq!(same.known_by, KnownBy::Fingerprint(hash));
    let by_file = join("authority = \"https://[::1]:8443\"\nbundle = \"b.pem\"").unwrap();
    assert_eq!(by_file.known_by, KnownBy::Bundle("/etc/portcullis/b.pem".into()));
    assert_eq!(by_file.host, "::1");

    for (text, code) in [
        (authority.to_owned(), "PC0102"),
        (format!("{authority}fingerprint = \"sha256:{ROOT}\"\nbundle = \"b.pem\""), "PC0105"),
        (format!("{authority}fingerprint = \"sha256:00\""), "PC0104"),
        (format!("{authority}fingerprint = \"{}\"", ROOT.replace('9', "x")), "PC0104"),
        ("bundle = \"b.pem\"".to_owned(), "PC0102"),
        ("authority = \"http://ca.example.org:80\"\nbundle = \"b.pem\"".to_owned(), "PC0104"),
    ] {
        let messages = join(&text).unwrap_err();
        assert_eq!(
            messages.iter().map(|message| message.code).collect::<Vec<_>>(),
            [code],
            "{text}: {messages:?}"
        );
    }
}

#[test]
fn a_process_that_joins_has_no_authority_and_no_policies_of_its_own() {
    let join = "[join]\nauthority = \"https://ca.example.org:8443\"\nbundle = \"b.pem\"";
    let messages = read(&with(29, "[decisions]", join), &[]).unwrap_err();
    let told: Vec<_> = messages.iter().map(ToString::to_string).collect();
    assert!(messages.iter().all(|message| message.code == "PC0105"), "{told:?}");
    assert!(
        told.len() == 2
            && told[0].contains("[ca] cannot be")
            && told[0].contains("delete one of the two")
            && told[1].contains("[policies] cannot be")
            && told[1].contains("write policies at the authority"),
        "{told:?}"
    );
    let alone =
        file("authority = \"https://ca.example.org:8443\"\nbundle = \"b.pem\"").replace("[agent]\n", "");
    let messages = read(&alone, &[]).unwrap_err();
    assert!(messages.len() == 1 && messages[0].to_string().contains("add [agent]"), "{messages:?}");
    // A gateway has its identity from the agent beside it.
    let gateway = |more: &str| {
        let text = file("authority = \"https://ca.example.org:8443\"\nbundle = \"b.pem\"");
        read(
            &format!(
                "{text}[enforcer]\nid = \"spiffe://example.org/edge\"\n{more}\n[[enforcer.listener]]\nname = \"public\"\nbind = [\"tcp://127.0.0.1:8443\"]\n"
            ),
            &[],
        )
    };
    let beside = gateway("").unwrap().config;
    assert!(beside.enforcer.is_some() && beside.join.is_some() && beside.policies.is_none());
    let messages = gateway("workload_api = \"unix:///run/w.sock\"").unwrap_err();
    let told: Vec<_> = messages.iter().map(ToString::to_string).collect();
    assert!(told.len() == 1 && told[0].contains("delete `workload_api`"), "{told:?}");
    // The token is no key of the file, and is no typing error either.
    let text = file("authority = \"https://ca.example.org:8443\"\nbundle = \"b.pem\"");
    let loaded = read(&text, &[("PORTCULLIS_JOIN_TOKEN", "x")]).unwrap();
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
}
