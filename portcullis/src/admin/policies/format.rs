//! `POST /v1/policies:format`: files as `policy fmt` would write them, for editors. Nothing is stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::http::HeaderMap;
use policies_engine::Diagnostic;
use serde_json::{Value, json};

use super::{asked, refused, validate};
use crate::admin::problem::Problem;

/// The texts that were sent, formatted; what is no policy file comes back as it is.
#[utoipa::path(post, path = "/v1/policies:format", responses((status = 200, description = "every file with its text, and whether that was changed"), (status = 422, description = "a file does not parse: all findings, with file, line and column")))]
pub(in crate::admin) async fn format(headers: HeaderMap, bytes: Bytes) -> Result<Json<Value>, Problem> {
    let body: validate::Body = asked::body(&headers, &bytes)?;
    let formatted = tokio::task::spawn_blocking(move || formatted(body.into_files())).await;
    let items = formatted.map_err(|error| Problem::fault("the formatter ended", &error))?;
    let items = items.map_err(|found| refused::invalid(&found))?;
    Ok(Json(json!({ "apiVersion": "portcullis/v1", "kind": "FormattedFileList", "items": items })))
}

fn formatted(files: Vec<(String, Arc<str>)>) -> Result<Vec<Value>, Vec<Diagnostic>> {
    let formatted = policies_store::format_files(&files)?;
    let changed: BTreeMap<&str, &str> =
        formatted.iter().filter_map(|file| Some((&*file.file, file.text.as_deref()?))).collect();
    let shown = |(file, text): &(String, Arc<str>)| {
        let new = changed.get(file.as_str());
        json!({ "file": file, "text": new.unwrap_or(&&**text), "changed": new.is_some() })
    };
    Ok(files.iter().map(shown).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_form_or_no_policy_comes_back_as_it_is() {
        let text = |text: &str| Arc::<str>::from(text);
        let files = vec![
            ("a.cedar".to_owned(), text("permit(principal,action,resource);")),
            ("b.cedar".to_owned(), text("permit (principal, action, resource);\n")),
            ("a_test.json".to_owned(), text("[ ]")),
        ];
        let items = formatted(files).unwrap();
        assert_eq!(items[0]["text"], "permit (principal, action, resource);\n");
        let changed: Vec<_> = items.iter().map(|item| item["changed"] == true).collect();
        assert_eq!(changed, [true, false, false]);
        assert_eq!(items[2]["text"], "[ ]");
    }

    #[test]
    fn what_does_not_parse_is_told_with_its_place_and_nothing_else_comes_back() {
        let bad = ("bad.cedar".to_owned(), Arc::<str>::from("permit (principal, action);\n"));
        let found = formatted(vec![bad]).unwrap_err();
        assert_eq!((&*found[0].file, found[0].line), ("bad.cedar", 1));
    }
}
