//! The table of rights below `/v1/policies`: what each path asks for. What no row names is closed.

use axum::http::Method;
use policies_engine::{AdminAction, Resource};

/// What can be done to a change, and the right that it takes.
pub(super) const CHANGES: &[(&str, AdminAction)] = &[
    ("validate", AdminAction::PolicyDraft),
    ("test", AdminAction::PolicyDraft),
    ("lint", AdminAction::PolicyDraft),
    ("impact", AdminAction::PolicyDraft),
    ("rebase", AdminAction::PolicyDraft),
    ("abandon", AdminAction::PolicyDraft),
    ("approve", AdminAction::PolicyApprove),
    ("commit", AdminAction::PolicyPublish),
];

/// What can be done to a version.
pub(super) const VERSIONS: &[(&str, AdminAction)] = &[
    ("activate", AdminAction::PolicyPublish),
    ("shadow", AdminAction::PolicyPublish),
    ("rollback", AdminAction::PolicyRollback),
];

/// What a call asks for; `None` for a path that has no row.
pub(in crate::admin) fn asked(method: &Method, path: &str) -> Option<(AdminAction, Resource)> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let action = match path.strip_prefix("/v1/policies")? {
        ":can" | ":who-can" | ":what-can" => return Some((AdminAction::Decide, Resource::system())),
        ":validate" | ":format" | ":impact" | ":suggest" | ":usage" => AdminAction::PolicyRead,
        "/signing:rotate" | "/signing:raise-epoch" if *method == Method::POST => {
            return Some((AdminAction::ConfigWrite, Resource::system()));
        }
        "/shadow" if *method == Method::DELETE => AdminAction::PolicyPublish,
        "" if reads => AdminAction::PolicyRead,
        rest => below(rest.strip_prefix('/')?, method, reads)?,
    };
    Some((action, Resource::policy_scope("/")))
}

fn below(rest: &str, method: &Method, reads: bool) -> Option<AdminAction> {
    if reads {
        return Some(AdminAction::PolicyRead);
    }
    let verb = rest.rsplit_once(':').map(|(_, verb)| verb);
    let of = |verbs: &[(&str, AdminAction)], verb: &str| {
        verbs.iter().find(|(name, _)| *name == verb).map(|(_, action)| *action)
    };
    match (rest.split(['/', ':']).next()?, verb) {
        ("changes", None) if rest == "changes" || *method == Method::PATCH => Some(AdminAction::PolicyDraft),
        ("changes", Some(verb)) => of(CHANGES, verb),
        ("versions", Some(verb)) => of(VERSIONS, verb),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ps1_every_path_below_policies_has_a_row_and_no_other_is_open() {
        let action = |method: Method, path: &str| asked(&method, path).map(|(action, _)| action);
        for path in
            ["", "/orders-read", "/orders-read/history", "/changes", "/changes/c1", "/versions", "/diff"]
        {
            assert_eq!(
                action(Method::GET, &format!("/v1/policies{path}")),
                Some(AdminAction::PolicyRead),
                "{path}"
            );
        }
        for (method, path, expected) in [
            (Method::POST, "/v1/policies:can", AdminAction::Decide),
            (Method::GET, "/v1/policies:who-can", AdminAction::Decide),
            (Method::GET, "/v1/policies:what-can", AdminAction::Decide),
            (Method::POST, "/v1/policies:validate", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies:format", AdminAction::PolicyRead),
            (Method::GET, "/v1/policies/snapshot", AdminAction::PolicyRead),
            (Method::GET, "/v1/policies/snapshots/7/sources", AdminAction::PolicyRead),
            (Method::GET, "/v1/policies/signing", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies/signing:rotate", AdminAction::ConfigWrite),
            (Method::POST, "/v1/policies/signing:raise-epoch", AdminAction::ConfigWrite),
            (Method::POST, "/v1/policies:impact", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies:suggest", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies:usage", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies/changes", AdminAction::PolicyDraft),
            (Method::PATCH, "/v1/policies/changes/c1", AdminAction::PolicyDraft),
            (Method::POST, "/v1/policies/changes/c1:validate", AdminAction::PolicyDraft),
            (Method::POST, "/v1/policies/changes/c1:impact", AdminAction::PolicyDraft),
            (Method::POST, "/v1/policies/changes/c1:lint", AdminAction::PolicyDraft),
            (Method::GET, "/v1/policies/versions/3/needs", AdminAction::PolicyRead),
            (Method::POST, "/v1/policies/changes/c1:abandon", AdminAction::PolicyDraft),
            (Method::POST, "/v1/policies/changes/c1:approve", AdminAction::PolicyApprove),
            (Method::POST, "/v1/policies/changes/c1:commit", AdminAction::PolicyPublish),
            (Method::POST, "/v1/policies/versions/3:activate", AdminAction::PolicyPublish),
            (Method::POST, "/v1/policies/versions/3:shadow", AdminAction::PolicyPublish),
            (Method::DELETE, "/v1/policies/shadow", AdminAction::PolicyPublish),
            (Method::POST, "/v1/policies/versions/3:rollback", AdminAction::PolicyRollback),
        ] {
            assert_eq!(action(method, path), Some(expected), "{path}");
        }
        for (method, path) in [
            (Method::POST, "/v1/policies"),
            (Method::POST, "/v1/policies:nonsense"),
            (Method::PUT, "/v1/policies/changes/c1"),
            (Method::DELETE, "/v1/policies/changes/c1"),
            (Method::POST, "/v1/policies/changes/c1:nonsense"),
            (Method::POST, "/v1/policies/changes/c1"),
            (Method::POST, "/v1/policies/versions/3:commit"),
            (Method::DELETE, "/v1/policies/orders-read"),
            (Method::POST, "/v1/policies/signing"),
            (Method::POST, "/v1/policies/signing:nonsense"),
            (Method::POST, "/v1/policies/snapshot"),
            (Method::GET, "/v1/policiesx"),
        ] {
            assert_eq!(action(method, path), None, "{path}");
        }
    }
}
