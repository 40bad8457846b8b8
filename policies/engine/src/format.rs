//! Policy text in the form of Cedar's own formatter. Called by `policy fmt`.
//! Refuses what does not parse, and a result that would lose a comment or change a policy.

use crate::{Diagnostic, PolicySource, compile::text::comments, lint::on_large_stack};
use cedar_policy::PolicySet;
use cedar_policy_formatter::{Config, policies_str_to_pretty};
use miette::Diagnostic as _;
use std::sync::Arc;

/// The text of `source`, formatted.
///
/// # Errors
/// Where and why it is not a list of policies.
pub fn format(source: &PolicySource) -> Result<String, Vec<Diagnostic>> {
    let broken = |cause: &str| vec![Diagnostic::about("PC2001", &source.file, cause)];
    on_large_stack(|| formatted(source)).unwrap_or_else(|| Err(broken("this text cannot be formatted")))
}

fn formatted(source: &PolicySource) -> Result<String, Vec<Diagnostic>> {
    if let Err(errors) = source.text.parse::<PolicySet>() {
        return Err(errors.iter().map(|error| at(&source.file, &source.text, error)).collect());
    }
    if comments(&source.text).count() > 0
        && source
            .text
            .parse::<PolicySet>()
            .is_ok_and(|set| set.num_of_policies() + set.num_of_templates() == 0)
    {
        // A file of comments has nothing to form.
        return Ok(source.text.to_string());
    }
    let refused = |why: String| vec![Diagnostic::about("PC2001", &source.file, why)];
    let text = policies_str_to_pretty(&source.text, &Config::default())
        .map_err(|cause| refused(format!("the formatter refuses this text: {cause}")))?;
    if comments(&text).eq(comments(&source.text)) {
        Ok(text)
    } else {
        Err(refused("the formatter would lose a comment; the file is left as it is".to_owned()))
    }
}

fn at(file: &Arc<str>, text: &str, error: &cedar_policy::ParseError) -> Diagnostic {
    let label = error.labels().and_then(|mut labels| labels.next());
    let found = match &label {
        Some(label) => Diagnostic::at("PC2001", file, text, label.offset(), label.len(), error.to_string()),
        None => Diagnostic::about("PC2001", file, error.to_string()),
    };
    let found = found.label(label.and_then(|label| label.label().map(str::to_owned)).unwrap_or_default());
    Diagnostic { help: error.help().map(|help| help.to_string()), ..found }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;
    use proptest::prelude::*;

    fn form(text: &str) -> Result<String, Vec<Diagnostic>> {
        format(&PolicySource::new("a.cedar", text))
    }

    /// Policies in order, without places and ids.
    fn meaning(text: &str) -> Vec<serde_json::Value> {
        crate::compile::text::chunks(text)
            .into_iter()
            .map(|chunk| Policy::parse(None, text.get(chunk.range).unwrap()).unwrap().to_json().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_formed_and_means_the_same() {
        let text = "// who\n@id(\"a\") permit(principal,action==Action::\"grpc\",resource)\n// why\nwhen{context.a==1&&context.b}; // end\n\n@id(\"b\")\nforbid(principal,action,resource) unless { principal has x }; // last\n// and after\n";
        let formed = form(text).unwrap();
        assert_eq!(meaning(&formed), meaning(text));
        for comment in ["// who", "// why", "// end", "// last", "// and after"] {
            assert!(formed.contains(comment), "{comment} is lost:\n{formed}");
        }
        assert_eq!(form(&formed).unwrap(), formed, "formed once is formed");
        assert!(formed.starts_with("// who\n@id(\"a\")\npermit ("), "{formed}");
    }

    #[test]
    fn what_does_not_parse_is_shown_where() {
        let found =
            form("permit (principal, action, resource);\npermit (principal action, resource);").unwrap_err();
        assert_eq!((found[0].line, found[0].column), (2, 19));
    }

    #[test]
    fn a_file_of_comments_and_an_empty_one_stay() {
        assert_eq!(form("// nothing yet\n").unwrap(), "// nothing yet\n");
        assert_eq!(form("").unwrap().trim(), "");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_policies_with_comments_anywhere_keep_both(
            parts in prop::collection::vec(("(// [a-z é\"]{0,6}\n|\n| ){0,2}", "[a-z]{1,3}", 0..4_usize), 1..4)
        ) {
            let conditions = ["", "when { context.a }", "unless { context has b && context.b like \"x*\" }", "when { [1, 2].contains(context.c) || (if context.d then true else principal == resource) }"];
            let text: String = parts.iter().map(|(comment, id, at)| {
                format!("{comment}@id(\"{id}\")\n{comment}permit(principal,{comment} action,resource){comment}{};{comment}", conditions[*at])
            }).collect();
            let before = meaning(&text);
            if let Ok(formed) = form(&text) {
                prop_assert_eq!(meaning(&formed), before);
                prop_assert!(comments(&formed).eq(comments(&text)));
            }
        }
    }
}
