//! Which entries are taken.

use super::*;

fn entry(path: &str) -> NewEntry {
    let domain = TrustDomain::parse("example.org").unwrap();
    let id = SpiffeId::new(&domain, path).unwrap();
    NewEntry::new(id, vec![Selector::parse("unix:uid:1000").unwrap()])
}

fn check(entry: &NewEntry) -> Result<(), EntryError> {
    entry.check(&TrustDomain::parse("example.org").unwrap())
}

#[test]
fn en_03_reserved_paths_and_foreign_trust_domains_are_refused() {
    assert!(check(&entry("/web")).is_ok());
    for path in ["/portcullis/agent/local", "/spire/server"] {
        assert!(matches!(check(&entry(path)), Err(EntryError::Reserved(_))), "{path}");
    }
    let root = NewEntry { spiffe_id: SpiffeId::parse("spiffe://example.org").unwrap(), ..entry("/web") };
    assert!(matches!(check(&root), Err(EntryError::NoPath(_))));
    let foreign = SpiffeId::parse("spiffe://other.example/web").unwrap();
    let id = NewEntry { spiffe_id: foreign.clone(), ..entry("/web") };
    assert!(matches!(check(&id), Err(EntryError::ForeignTrustDomain { .. })));
    let parent = NewEntry { parent_id: Some(foreign), ..entry("/web") };
    assert!(matches!(check(&parent), Err(EntryError::ForeignTrustDomain { .. })));
}

#[test]
fn en_02_empty_selectors_are_refused() {
    let none = NewEntry { selectors: Vec::new(), ..entry("/web") };
    assert_eq!(check(&none), Err(EntryError::NoSelectors));
}

#[test]
fn en_03_dns_names_are_lower_case_ldh_without_wildcard() {
    for good in ["localhost", "web-1.example.org", "1.a"] {
        assert!(is_dns_name(good), "{good}");
    }
    let long = "a".repeat(64);
    for bad in ["", "Web", "*.example.org", "-a", "a-", "a..b", "a.", "a_b", "a b", long.as_str()] {
        assert!(!is_dns_name(bad), "{bad}");
        let entry = NewEntry { dns_names: vec![bad.to_owned()], ..entry("/web") };
        assert!(matches!(check(&entry), Err(EntryError::DnsName(_))));
    }
    let many = NewEntry { dns_names: (0..33).map(|n| format!("h{n}")).collect(), ..entry("/web") };
    assert!(matches!(check(&many), Err(EntryError::TooMany { .. })));
}

#[test]
fn en_01_other_fields_have_limits() {
    let short = NewEntry { x509_ttl: Some(Duration::from_secs(299)), ..entry("/web") };
    assert_eq!(check(&short), Err(EntryError::TtlTooShort));
    let hint = NewEntry { hint: Some("x".repeat(1025)), ..entry("/web") };
    assert!(matches!(check(&hint), Err(EntryError::TooLong { .. })));
    let namespace = NewEntry { namespace: Some("a b".to_owned()), ..entry("/web") };
    assert!(matches!(check(&namespace), Err(EntryError::Word { .. })));
    let labels = BTreeMap::from([("team".to_owned(), "a\nb".to_owned())]);
    assert!(matches!(check(&NewEntry { labels, ..entry("/web") }), Err(EntryError::Word { .. })));
}

#[test]
fn an_entry_reads_back_from_its_row_and_its_name_ignores_the_order_of_selectors() {
    let selectors = ["unix:uid:1000", "unix:gid:7"].map(|text| Selector::parse(text).unwrap());
    let mut new =
        NewEntry { selectors: selectors.to_vec(), hint: Some(String::new()), ..entry("/web") }.normalized();
    new.x509_ttl = Some(Duration::from_secs(600));
    new.parent_id = Some(SpiffeId::parse("spiffe://example.org/portcullis/agent/a").unwrap());
    new.labels.insert("team".to_owned(), "a".to_owned());
    let record = EntryRecord::of("id".to_owned(), new.clone(), 7, UnixTime::from_secs(5), true);
    let row = to_row(&record).unwrap();
    assert_eq!(from_row(b"key", &row, 7).unwrap(), record);
    assert!(from_row(b"key", b"{}", 7).is_err());
    assert_eq!(record.to_new(), new);

    let turned =
        NewEntry { selectors: selectors.iter().rev().cloned().collect(), ..new.clone() }.normalized();
    assert_eq!(name_key(&turned), name_key(&new));
    assert_ne!(name_key(&NewEntry { parent_id: None, ..new.clone() }), name_key(&new));
}
