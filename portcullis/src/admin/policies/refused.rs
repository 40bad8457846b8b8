//! What the policy store refuses, as problem documents: whose fault it is, and the command that helps.

use axum::http::StatusCode;
use policies_engine::Diagnostic;
use policies_store::{PolicyStoreError, Refusal};

use crate::admin::problem::Problem;
use crate::messages::Message;

/// The problem document of an error of the store.
pub(super) fn problem(error: &PolicyStoreError) -> Problem {
    let of = |status, title: &str, code| Problem::new(status, title).code(code).detail(error.to_string());
    match error {
        PolicyStoreError::UnknownVersion(_) | PolicyStoreError::Unknown(_) => {
            of(StatusCode::NOT_FOUND, "no such version", "PC2044").next("portcullis policy versions")
        }
        PolicyStoreError::UnknownChange(_) => {
            of(StatusCode::NOT_FOUND, "no such change", "PC2044").next("portcullis policy changes")
        }
        PolicyStoreError::UnknownPolicy(_) => {
            of(StatusCode::NOT_FOUND, "no such policy", "PC2044").next("portcullis policy list")
        }
        PolicyStoreError::Input(_) => {
            of(StatusCode::BAD_REQUEST, "it cannot be taken", "PC0104").next("portcullis policy changes")
        }
        PolicyStoreError::TooMuch { .. } => of(StatusCode::PAYLOAD_TOO_LARGE, "too large", "PC2010"),
        PolicyStoreError::Stale { id, revision } => {
            of(StatusCode::PRECONDITION_FAILED, "somebody wrote it meanwhile", "PC2041")
                .next(format!("portcullis policy show {id}"))
                .with("revision", *revision)
        }
        PolicyStoreError::Conflict { head, conflicting } => {
            of(StatusCode::CONFLICT, "the change starts from an older version", "PC2042")
                .hint(
                    "push it again: it then starts from the newest version, and shows what the other one did",
                )
                .next("portcullis policy versions")
                .with("head", *head)
                .with("conflicting", conflicting.clone())
        }
        PolicyStoreError::Refusal(Refusal::Moved) => {
            of(StatusCode::PRECONDITION_FAILED, "somebody wrote it meanwhile", "PC2041")
        }
        PolicyStoreError::Refusal(Refusal::NotChecked | Refusal::ChecksFailed) => {
            of(StatusCode::UNPROCESSABLE_ENTITY, "its checks did not pass", "PC2040")
        }
        PolicyStoreError::Refusal(Refusal::NeverCommitted(_)) => {
            of(StatusCode::NOT_FOUND, "no such version", "PC2044").next("portcullis policy versions")
        }
        PolicyStoreError::Refusal(Refusal::Older { wanted, .. }) => {
            of(StatusCode::CONFLICT, "a newer version is in force", "PC2042")
                .next(format!("portcullis policy rollback {wanted}"))
        }
        PolicyStoreError::Refusal(_) => {
            of(StatusCode::CONFLICT, "not in this state", "PC2042").next("portcullis policy changes")
        }
        PolicyStoreError::Invalid(found) => invalid(found),
        PolicyStoreError::Store(_) => of(StatusCode::SERVICE_UNAVAILABLE, "it cannot be stored", "PC2020"),
        PolicyStoreError::Damaged { .. } | PolicyStoreError::Refused { .. } | PolicyStoreError::Key(_) => {
            of(StatusCode::INTERNAL_SERVER_ERROR, "what is stored cannot be used", "PC6001")
                .next("portcullis check")
        }
    }
}

/// All findings at once, each with file, line and column (policy.md 14).
pub(super) fn invalid(found: &[Diagnostic]) -> Problem {
    let errors = found.iter().filter(|one| one.severity == policies_engine::Severity::Error).count();
    let detail = match errors {
        1 => "1 finding blocks".to_owned(),
        count => format!("{count} findings block"),
    };
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "its checks did not pass")
        .code("PC2040")
        .detail(detail)
        .errors(found.iter().map(|found| Message::from(found).to_json()))
}
