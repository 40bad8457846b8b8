//! What Cedar says about schemas, in words that say what to do. Called for each of its findings.

use super::{far, places::marked};
use crate::Diagnostic;

const KEYWORDS: [&str; 6] = ["entity", "action", "type", "namespace", "enum", "appliesTo"];
const BUILT_IN: [&str; 8] = ["String", "Long", "Bool", "Set", "ipaddr", "decimal", "datetime", "duration"];
const SHAPE: &str = "a schema has `entity X { a: String };`, `type T = { a?: Set<String> };` and `action a appliesTo { principal: [..], resource: [..] };`";
/// A label longer than this lists everything that could stand there.
const LABEL: usize = 80;

/// `found` in our words; `known` are the types that are declared.
pub(crate) fn schema<'a>(found: Diagnostic, known: impl Iterator<Item = &'a str>) -> Diagnostic {
    let message = found.message.trim_start_matches("error parsing schema: ").to_owned();
    if let Some(name) = message.strip_prefix("failed to resolve type: ") {
        let near = nearest(name, known.chain(BUILT_IN));
        let help = near.map_or_else(
            || "`portcullis schema show` lists the types".to_owned(),
            |near| format!("did you mean `{near}`?"),
        );
        let message = format!("there is no type `{name}`");
        return Diagnostic { message, ..found }.label("not declared").help(help);
    }
    if message.starts_with("cycle in") {
        // Which member of the circle Cedar names changes from run to run, and with it the place.
        let what = if message.contains("common type") {
            "types are parts of each other"
        } else {
            "actions are in each other"
        };
        let found = Diagnostic::about(found.code, &found.file, format!("some {what}, in a circle"));
        return found.help("take one of them out of the circle");
    }
    let word = marked(&found);
    let help = match nearest(&word, KEYWORDS.into_iter()) {
        Some(keyword) if keyword != word && message.contains("unexpected") => {
            Some(format!("did you mean `{keyword}`?"))
        }
        _ if message.contains("unexpected") && found.label.contains("`;`") => {
            Some("a declaration ends with `;`".to_owned())
        }
        _ if message.contains("unexpected") || message.contains("invalid token") => Some(SHAPE.to_owned()),
        _ if message.contains("declared twice") => {
            Some("keep one of them, or give one another name".to_owned())
        }
        _ => None,
    };
    let label = if found.label.len() > LABEL { String::new() } else { found.label.clone() };
    let help = found.help.clone().or(help);
    Diagnostic { message, label, help, ..found }
}

/// The name that was probably meant.
fn nearest<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = known.map(|name| (strsim::damerau_levenshtein(written, name), name)).min();
    near.filter(|(distance, _)| *distance <= far(written) && *distance < written.len()).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn what_is_near_is_meant() {
        assert_eq!(nearest("Lnog", super::BUILT_IN.into_iter()), Some("Long"));
        assert_eq!(nearest("Robot", super::BUILT_IN.into_iter()), None);
        assert_eq!(nearest(";", super::KEYWORDS.into_iter()), None);
    }
}
