//! What people mean who write what Cedar's parser refuses. Called for each of its findings.

use super::places::marked;
use crate::Diagnostic;

/// A finding of the parser, with what people mean who write such a thing.
pub(crate) fn syntax(found: Diagnostic) -> Diagnostic {
    let mark = marked(&found);
    let wants = |sign: &str| found.label.contains(sign);
    let (code, help) = match mark.as_str() {
        _ if found.message.contains("found set of entity uids") => (
            "PC2001",
            Some(
                "a scope names one entity; list several in the condition, `when { principal in [..] }`, or give them a group",
            ),
        ),
        _ if found.message.contains("single entity uid, found template slot") => {
            (found.code, Some("slots stand for principal and resource only: `?principal`, `?resource`"))
        }
        "and" => (found.code, Some("write `&&`")),
        "or" => (found.code, Some("write `||`")),
        "not" => (found.code, Some("write `!`")),
        "action" | "resource" if wants("`,`") => {
            (found.code, Some("a comma stands between `principal`, `action` and `resource`"))
        }
        _ if found.message.contains("end of input") && wants("`;`") => {
            (found.code, Some("a policy ends with `;`"))
        }
        _ if found.message.contains("end of input") => {
            (found.code, Some("something before is not closed: `)`, `}` or `]`"))
        }
        ";" if wants("`}`") => (found.code, Some("the condition is not closed: write `}` before `;`")),
        _ if wants("`{`") => (found.code, Some("a condition stands in braces: `when { .. }`")),
        _ if found.message.contains("is not a valid method") => {
            (found.code, Some("beginnings and ends of text are compared with `like`: `x like \"/a/*\"`"))
        }
        _ if found.message.contains("duplicate annotation") => {
            (found.code, Some("an annotation stands once on a policy"))
        }
        _ => (found.code, None),
    };
    let label = if found.label.len() > SIGNS { String::new() } else { found.label.clone() };
    let help = help.map(str::to_owned).or_else(|| found.help.clone());
    Diagnostic { code, label, help, ..found }
}

/// A label longer than this lists every operator there is.
const SIGNS: usize = 80;
