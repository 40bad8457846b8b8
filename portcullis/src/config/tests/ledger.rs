//! What the file says of the ledger.

use super::*;

#[test]
fn lg4_the_limits_of_the_ledger_are_30_days_and_10_gib_unless_the_site_says_others() {
    let keep = |text: &str, environment: &[(&str, &str)]| {
        let config = read(&GOOD.replace("[decisions]", text), environment).unwrap().config;
        (config.decisions.keep.age.as_secs() / 86_400, config.decisions.keep.size >> 20)
    };
    assert_eq!(keep("[decisions]", &[]), (30, 10 << 10));
    assert_eq!(keep("[decisions]\nkeep = { days = 400 }", &[]), (400, 10 << 10));
    assert_eq!(keep("[decisions]\nkeep = { size = \"512MiB\" }", &[]), (30, 512));
    let environment =
        [("PORTCULLIS_DECISIONS__KEEP__DAYS", "7"), ("PORTCULLIS_DECISIONS__KEEP__SIZE", "1GiB")];
    assert_eq!(keep("[decisions]\nkeep = { days = 400 }", &environment), (7, 1 << 10));
}

#[test]
fn cm2_people_are_committed_for_as_long_as_records_unless_the_site_says_otherwise() {
    use policies_decisions::People;
    let people = |text: &str| {
        let config = read(&GOOD.replace("[decisions]", text), &[]).unwrap().config;
        (config.decisions.people, config.decisions.clear.map(|clear| clear.as_secs() / 86_400))
    };
    assert_eq!(people("[decisions]"), (People::Committed, None));
    assert_eq!(people("[decisions]\npeople = \"hashed\"\nclear_days = 7"), (People::Hashed, Some(7)));
    assert_eq!(people("[decisions]\npeople = \"clear\""), (People::Clear, None));
    assert!(read(&GOOD.replace("[decisions]", "[decisions]\npeople = \"none\""), &[]).is_err());
}
