//! The edit for PC2107: asks for an optional attribute or tag before it is read.
//!
//! Only where the reading stands in a conjunct of a `when`, so that the edit cannot change what a request that has the
//! attribute gets. For one that lacks it the edited permit does not match, and the edited conjunct of a forbid holds:
//! what an error did before (SE1).

use crate::{
    Diagnostic, Effect, Fix, PolicySource,
    compile::{
        phrase::question,
        text::{Chunk, chunks, tokens},
    },
};
use std::ops::Range;

/// `found`, with the edit where there is one.
#[must_use]
pub fn with_guards(found: Vec<Diagnostic>, sources: &[PolicySource]) -> Vec<Diagnostic> {
    let guarded = |finding: Diagnostic| {
        let is_guard =
            matches!(finding.code, "PC2107" | "PC2116") && finding.fix.is_none() && finding.line > 0;
        let source = sources.iter().find(|source| is_guard && source.file == finding.file);
        let fix = source.and_then(|source| guard(&finding, source));
        Diagnostic { fix: fix.or(finding.fix), ..finding }
    };
    found.into_iter().map(guarded).collect()
}

fn guard(finding: &Diagnostic, source: &PolicySource) -> Option<Fix> {
    let read = bytes_of(finding, &source.text)?;
    let chunks = chunks(&source.text);
    let chunk = chunks.iter().find(|chunk| chunk.range.contains(&read.start))?;
    let conjunct = conjunct(&source.text, chunk, &read)?;
    let question = question(source.text.get(read)?)?;
    let text = source.text.get(conjunct.clone())?;
    let effect = source.text.get(chunk.effect_at..)?;
    let effect = if effect.starts_with("forbid") { Effect::Deny } else { Effect::Allow };
    let text = match effect {
        Effect::Allow => format!("{question} && {text}"),
        Effect::Deny => format!("(if {question} then {text} else true)"),
    };
    Some(Fix { range: conjunct, text })
}

/// The conjunct of a `when` that holds `read`; none when the condition is more than conjuncts.
fn conjunct(text: &str, chunk: &Chunk, read: &Range<usize>) -> Option<Range<usize>> {
    let body = text.get(chunk.effect_at..chunk.range.end)?;
    let offset = |range: Range<usize>| range.start + chunk.effect_at..range.end + chunk.effect_at;
    let tokens: Vec<(&str, Range<usize>)> =
        tokens(body).filter_map(|range| Some((body.get(range.clone())?, offset(range)))).collect();
    let (open, close) = clause(&tokens, read)?;
    let inside = tokens.get(open + 1..close)?;
    let mut depth = 0_usize;
    let mut start = inside.first()?.1.start;
    let mut end = inside.last()?.1.end;
    let mut previous: Option<&(&str, Range<usize>)> = None;
    for token in inside {
        match token.0 {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            "|" | "if" | "then" | "else" if depth == 0 => return None,
            "&" if depth == 0 && previous.is_some_and(|(before, _)| *before == "&") => {
                if token.1.end <= read.start {
                    start = token.1.end;
                } else if end == inside.last()?.1.end {
                    end = token.1.start.checked_sub(1)?;
                }
            }
            _ => {}
        }
        previous = Some(token);
    }
    let whole = text.get(start..end)?;
    let start = start + (whole.len() - whole.trim_start().len());
    Some(start..start + whole.trim().len())
}

/// The brackets, by token, of the `when` that holds `read`.
fn clause(tokens: &[(&str, Range<usize>)], read: &Range<usize>) -> Option<(usize, usize)> {
    let mut depth = 0_usize;
    let mut open = None;
    for (at, (token, range)) in tokens.iter().enumerate() {
        match *token {
            "{" | "(" | "[" => {
                if depth == 0 {
                    let is_when = at
                        .checked_sub(1)
                        .and_then(|before| tokens.get(before))
                        .is_some_and(|(word, _)| *word == "when");
                    open = (is_when && range.end <= read.start).then_some(at);
                }
                depth += 1;
            }
            "}" | ")" | "]" => {
                depth = depth.checked_sub(1)?;
                if let (0, Some(open)) = (depth, open)
                    && range.start >= read.end
                {
                    return Some((open, at));
                }
            }
            _ => {}
        }
    }
    None
}

/// The marked bytes of a finding.
fn bytes_of(finding: &Diagnostic, text: &str) -> Option<Range<usize>> {
    let line_start: usize = text.split_inclusive('\n').take(finding.line.checked_sub(1)?).map(str::len).sum();
    let line = text.get(line_start..)?;
    let byte = |chars: usize| line.char_indices().nth(chars).map_or(line.len(), |(at, _)| at);
    let first = finding.column.checked_sub(1)?;
    Some(line_start + byte(first)..line_start + byte(first + finding.length))
}
