//! The shipped policies and their cases. Every process compiles them; the site's policies come on top (S15).

use crate::PolicySource;

/// The shipped policy files.
#[must_use]
pub fn baseline() -> Vec<PolicySource> {
    let shipped =
        |file: &str, text: &str| PolicySource { is_baseline: true, ..PolicySource::new(file, text) };
    vec![
        shipped("baseline/system.cedar", include_str!("../../baseline/system.cedar")),
        shipped("baseline/roles.cedar", include_str!("../../baseline/roles.cedar")),
        shipped("baseline/issue.cedar", include_str!("../../baseline/issue.cedar")),
        shipped("baseline/change.cedar", include_str!("../../baseline/change.cedar")),
    ]
}

/// Their cases, by file.
#[must_use]
pub fn baseline_cases() -> Vec<(&'static str, &'static str)> {
    vec![
        ("baseline/system_test.json", include_str!("../../baseline/system_test.json")),
        ("baseline/roles_test.json", include_str!("../../baseline/roles_test.json")),
        ("baseline/issue_test.json", include_str!("../../baseline/issue_test.json")),
        ("baseline/change_test.json", include_str!("../../baseline/change_test.json")),
    ]
}
