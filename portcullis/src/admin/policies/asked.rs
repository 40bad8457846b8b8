//! How calls below `/v1/policies` are read: strict bodies and queries, `If-Match`, verbs after a variable (SETTLED S24).

use axum::body::Bytes;
use axum::extract::Query;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use policies_store::Change;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::admin::problem::Problem;

/// Items of one page.
const DEFAULT: usize = 100;
const MOST: usize = 1000;

/// The body as that type; an empty one is an empty object.
pub(super) fn body<T: DeserializeOwned>(headers: &HeaderMap, bytes: &Bytes) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim();
    if !bytes.is_empty() && !essence.eq_ignore_ascii_case("application/json") {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unexpected content type")
            .detail(format!("`{kind}` is not application/json")));
    }
    serde_json::from_slice(if bytes.is_empty() { b"{}" } else { bytes })
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed body").detail(error.to_string()))
}

/// The query as that type.
pub(super) fn query<T: DeserializeOwned>(uri: &Uri) -> Result<T, Problem> {
    let parsed = Query::try_from_uri(uri);
    parsed
        .map(|Query(query)| query)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, "malformed query").detail(error.body_text()))
}

/// `c17:approve` as what it names and the verb.
pub(super) fn verb(segment: &str) -> Option<(&str, &str)> {
    segment.rsplit_once(':')
}

/// The answer to a verb that a noun does not have.
pub(super) fn no_verb(segment: &str) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such path").detail(segment.to_owned())
}

/// A positive number of a version; `v41` is what people see.
pub(super) fn number(text: &str) -> Result<u64, Problem> {
    let digits = text.strip_prefix('v').unwrap_or(text);
    digits.parse().map_err(|error| {
        Problem::new(StatusCode::BAD_REQUEST, "malformed version").detail(format!("`{text}`: {error}"))
    })
}

/// Compares `If-Match` with what is stored: absent is 428, another revision is 412 (RA4).
pub(super) fn must_match(headers: &HeaderMap, change: &Change) -> Result<(), Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else {
        return Err(Problem::new(StatusCode::PRECONDITION_REQUIRED, "If-Match is required")
            .code("PC2041")
            .detail("send the ETag of the change that you read as If-Match")
            .next(format!("portcullis policy show {}", change.id)));
    };
    if tag.as_bytes() == etag(change).as_bytes() {
        return Ok(());
    }
    Err(Problem::new(StatusCode::PRECONDITION_FAILED, "somebody wrote it meanwhile")
        .code("PC2041")
        .detail(format!("change {} has revision {}", change.id, change.revision))
        .next(format!("portcullis policy show {}", change.id))
        .with("revision", change.revision))
}

/// The revision of a change as a strong ETag.
pub(super) fn etag(change: &Change) -> String {
    format!("\"{}\"", change.revision)
}

/// One page of a list, newest first; the cursor is the key of its last item.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Page {
    /// The page as a document.
    pub(super) fn of<T>(
        &self,
        kind: &str,
        items: Vec<T>,
        key: impl Fn(&T) -> u64,
        show: impl Fn(&T) -> Value,
    ) -> Result<Value, Problem> {
        let bad = |detail: String| Problem::new(StatusCode::BAD_REQUEST, "malformed query").detail(detail);
        let limit = self.limit.unwrap_or(DEFAULT);
        if limit == 0 || limit > MOST {
            return Err(bad(format!("`limit` is from 1 to {MOST}, not {limit}")));
        }
        let before: u64 = match self.cursor.as_deref().map(str::parse) {
            None => u64::MAX,
            Some(Ok(before)) => before,
            Some(Err(error)) => return Err(bad(format!("cursor: {error}"))),
        };
        let mut rest = items.into_iter().filter(|item| key(item) < before);
        let page: Vec<T> = rest.by_ref().take(limit).collect();
        let mut document = json!({
            "apiVersion": "portcullis/v1", "kind": format!("{kind}List"),
            "items": page.iter().map(show).collect::<Vec<_>>(),
        });
        if let (Some(last), Some(_), Some(members)) = (page.last(), rest.next(), document.as_object_mut()) {
            members.insert("next_cursor".to_owned(), Value::from(key(last).to_string()));
        }
        Ok(document)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(query: &str) -> Result<Value, Problem> {
        let page: Page = super::query(&format!("/v1/policies/versions{query}").parse().unwrap())?;
        page.of("Number", (1..=5u64).rev().collect(), |number| *number, |number| json!(number))
    }

    #[test]
    fn ra3_pages_follow_each_other_and_the_last_has_no_cursor() {
        let first = numbers("?limit=2").unwrap();
        assert_eq!((&first["items"], &first["next_cursor"]), (&json!([5, 4]), &json!("4")));
        let last = numbers("?limit=3&cursor=4").unwrap();
        assert_eq!((&last["items"], last.get("next_cursor")), (&json!([3, 2, 1]), None));
        assert_eq!(numbers("").unwrap()["items"], json!([5, 4, 3, 2, 1]));
        for bad in ["?limit=0", "?limit=1001", "?limit=x", "?cursor=x", "?banana=1"] {
            assert!(numbers(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn ra7_bodies_are_strict() {
        let json: HeaderMap = [(header::CONTENT_TYPE, "application/json; charset=utf-8".parse().unwrap())]
            .into_iter()
            .collect();
        assert!(body::<Page>(&json, &Bytes::from_static(b"{\"limit\": 1}")).is_ok());
        assert!(body::<Page>(&HeaderMap::new(), &Bytes::new()).is_ok());
        for bad in ["{\"limit\": 1, \"x\": 2}", "{\"limit\": 1, \"limit\": 2}", "{", "[]x", "\"a\""] {
            assert!(body::<Page>(&json, &Bytes::from_static(bad.as_bytes())).is_err(), "{bad}");
        }
        assert!(body::<Page>(&HeaderMap::new(), &Bytes::from_static(b"{}")).is_err(), "no content type");
    }

    #[test]
    fn a_version_is_a_number_with_or_without_its_letter() {
        assert_eq!((number("41").ok(), number("v41").ok()), (Some(41), Some(41)));
        for bad in ["", "v", "vv1", "-1", "1.0", "18446744073709551616"] {
            assert!(number(bad).is_err(), "{bad}");
        }
        assert_eq!(verb("c1:approve"), Some(("c1", "approve")));
        assert_eq!(verb("c1"), None);
    }
}
