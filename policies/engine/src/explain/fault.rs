//! Cedar's evaluation errors in the words of explanations: `attribute "unit" missing on Workload ".."` (EX4).
//! The values stand in Cedar's message only; what has another form is shown as it is.

use super::terms::short_type;
use crate::uid::parse_uid;
use cedar_policy::EvaluationError;

pub(crate) fn describe(error: &EvaluationError) -> String {
    let message = error.to_string();
    described(error, &message).unwrap_or(message)
}

fn described(error: &EvaluationError, message: &str) -> Option<String> {
    match error {
        EvaluationError::EntityAttrDoesNotExist(_) => {
            let (uid, rest) = message.strip_prefix('`')?.rsplit_once("` does not have the ")?;
            let (what, name) = rest.split_once(" `")?;
            Some(format!("{what} \"{}\" missing on {}", name.strip_suffix('`')?, entity(uid)))
        }
        EvaluationError::RecordAttrDoesNotExist(_) => {
            let name = message.strip_prefix("record does not have the attribute `")?.strip_suffix('`')?;
            Some(format!("attribute \"{name}\" missing in the context"))
        }
        EvaluationError::EntityDoesNotExist(_) => {
            let uid = message.strip_prefix("entity `")?.strip_suffix("` does not exist")?;
            Some(format!("{} is not known", entity(uid)))
        }
        _ => None,
    }
}

/// `Workload "x"` for `Workload::"x"`.
fn entity(uid: &str) -> String {
    match parse_uid(uid) {
        Some((kind, id)) => format!("{} \"{id}\"", short_type(&kind)),
        None => uid.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::{AuthorizationError, Authorizer, Context, Entities, Policy, PolicySet, Request};

    /// What stock Cedar says to a condition that fails, in our words.
    fn said(condition: &str) -> String {
        let text = format!("permit(principal, action, resource) when {{ {condition} }};");
        let policies = PolicySet::from_policies([Policy::parse(None, text).unwrap()]).unwrap();
        let entities = Entities::from_json_str(
            r#"[{"uid":{"type":"Workload","id":"spiffe://a/\"b"},"attrs":{"path":"/b"},"parents":[]}]"#,
            None,
        );
        let uid = |text: &str| text.parse().unwrap();
        let principal = uid(r#"Workload::"spiffe://a/\"b""#);
        let context = Context::from_json_value(serde_json::json!({ "a": {} }), None).unwrap();
        let request =
            Request::new(principal, uid(r#"Action::"x""#), uid(r#"Portcullis::System::"s""#), context, None);
        let answer = Authorizer::new().is_authorized(&request.unwrap(), &policies, &entities.unwrap());
        let AuthorizationError::PolicyEvaluationError(error) = answer.diagnostics().errors().next().unwrap();
        describe(error.inner())
    }

    #[test]
    fn ex4_an_error_names_attribute_and_entity() {
        for (condition, expected) in [
            (r#"principal.unit == "x""#, r#"attribute "unit" missing on Workload "spiffe://a/"b""#),
            (r#"principal.getTag("team") == "x""#, r#"tag "team" missing on Workload "spiffe://a/"b""#),
            (r#"context.a.b == "x""#, r#"attribute "b" missing in the context"#),
            (r#"resource.name == "x""#, r#"System "s" is not known"#),
            (r#"Group::"g".name == "x""#, r#"Group "g" is not known"#),
        ] {
            assert_eq!(said(condition), expected, "{condition}");
        }
        assert!(said("9223372036854775807 + 1 > 0").starts_with("integer overflow"));
    }
}
