//! What is read back: records of the ledger, notes of the policy feed, answers of name servers.

use std::net::IpAddr;
use std::time::Duration;

use base_ports::{Addresses, Mono};
use bytes::Bytes;
use enforcer_traffic::Resolved;
use policies_decisions::{LogView, StoredRecord};
use policies_store::{Verifier, verify};

use super::Target;

pub(super) const RECORD: Target = Target {
    name: "record",
    run: |input| match StoredRecord::decode(7, Bytes::copy_from_slice(input)) {
        Ok(record) => {
            let json = record.to_json(&LogView::named("a")).to_string();
            assert!(!json.chars().any(char::is_control), "a control character in {json:?}");
            format!("{:?}", record.kind)
        }
        Err(error) => error.to_string(),
    },
    seeds: || {
        vec![vec![0xa0], vec![0xa2, 0, 1, 1, 0x61, b'a'], vec![0xa1, 0, 1], vec![0x9f, 0xff], vec![0x81; 300]]
    },
    words: &[
        "\u{a0}",
        "\u{a1}",
        "\u{b8}\u{ff}",
        "\u{81}",
        "\u{9f}",
        "\u{5f}",
        "\u{7f}",
        "\u{ff}",
        "\u{1b}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}",
        "\u{3b}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}\u{ff}",
        "\u{fb}",
        "\u{c1}",
        "\u{f6}",
        "\u{60}",
        "\u{40}",
        "\u{61}a",
    ],
};

const KEY: &str = "example.org/policies+";

pub(super) const NOTE: Target = Target {
    name: "note",
    run: |input| {
        let Ok(text) = str::from_utf8(input) else { return "bytes".to_owned() };
        let mut parts = text.splitn(3, '\u{1}');
        let (note, manifest, key) = (
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
            parts.next().unwrap_or_default(),
        );
        let key = match key.parse::<Verifier>() {
            Ok(key) => {
                let printed = key.to_string();
                assert_eq!(printed.parse::<Verifier>().as_ref(), Ok(&key), "{printed}");
                key
            }
            Err(error) => return error.to_string(),
        };
        match verify(note, manifest.as_bytes(), &[key]) {
            Ok(_) => panic!("a note that nobody signed was believed: {text:?}"),
            Err(error) => format!("note {error}"),
        }
    },
    seeds: || {
        let text = "example.org/policies\n1.2\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\u{2014} example.org/policies+00000000+AAAA\n";
        vec![
            format!("{text}\u{1}{{}}\u{1}{KEY}00000000+AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA")
                .into_bytes(),
            format!("{text}\u{1}\u{1}").into_bytes(),
            valid_key(text),
        ]
    },
    words: &[
        "\n",
        "\n\n",
        "\u{1}",
        "+",
        "=",
        ".",
        "example.org/policies",
        "AAAA",
        "0.0",
        "18446744073709551616",
    ],
};

/// The same with a key whose hash is its own, so that signatures are looked at.
fn valid_key(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    let key = [&[1][..], &[0x5a; 32]].concat();
    let encoded = base64::engine::general_purpose::STANDARD.encode(&key);
    // The first four bytes of SHA-256 over name, line feed and key.
    let id = "c2d5a8a2";
    format!("{text}\u{1}{{}}\u{1}{KEY}{id}+{encoded}").into_bytes()
}

pub(super) const ANSWERS: Target = Target {
    name: "name_answers",
    run: |input| {
        let mut resolved = Resolved::default();
        let (mut now, mut told) = (Mono::from_nanos(1), String::new());
        for step in input.chunks(6) {
            let [kind, rest @ ..] = step else { break };
            now = now + Duration::from_millis(u64::from(*kind) * 100);
            let addresses: Vec<IpAddr> =
                rest.iter().map(|byte| IpAddr::from([10, 0, kind & 1, *byte])).collect();
            let ttl = Duration::from_secs(u64::from(*kind));
            resolved.expire(now);
            let before = resolved.addresses().count();
            let changed = match kind % 4 {
                0 => resolved.learn(None, now),
                1 => resolved.learn(Some(&Addresses { addresses: Vec::new(), ttl }), now),
                2 => resolved.expire(now),
                _ => resolved.learn(Some(&Addresses { addresses, ttl }), now),
            };
            let after = resolved.addresses().count();
            // HC-02: neither a failure nor the first empty answer takes an address.
            assert!(kind % 4 != 0 || after >= before, "a failure took an address");
            assert!(resolved.due() >= Mono::from_nanos(0));
            told.push_str(&format!("{changed} {} ", after.cmp(&before) as i8));
        }
        told.chars().take(60).collect()
    },
    seeds: || vec![vec![3, 1, 2, 3, 4, 5, 1, 0, 0, 0, 0, 0, 0], vec![7; 60]],
    words: &["\u{1}\0\0\0\0\0", "\0\0\0\0\0\0", "\u{2}\0\0\0\0\0"],
};
