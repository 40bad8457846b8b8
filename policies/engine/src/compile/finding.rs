//! Findings about one policy text: Cedar's own, moved to where the policy stands in its file (ER3), and ours.

use super::{phrase::without_policy, text::Chunk};
use crate::{Diagnostic, PolicySource};

/// One policy text where it stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text<'a> {
    pub(crate) source: &'a PolicySource,
    pub(crate) chunk: &'a Chunk,
}

impl<'a> Text<'a> {
    pub(crate) fn text(&self) -> &'a str {
        self.source.text.get(self.chunk.range.clone()).unwrap_or_default()
    }

    /// What stands after the scope; none where that is not certain: Cedar ends a comment at a carriage return, and we do
    /// not.
    pub(crate) fn conditions(&self) -> Option<&'a str> {
        let conditions = self.source.text.get(self.chunk.scope_end..self.chunk.range.end)?;
        (!self.text().contains('\r')).then_some(conditions)
    }

    /// At the effect keyword.
    pub(crate) fn effect(&self, code: &'static str, message: impl Into<String>) -> Diagnostic {
        self.at(code, self.chunk.effect_at, "permit".len(), message)
    }

    /// At a byte of the file.
    pub(crate) fn at(
        &self,
        code: &'static str,
        start: usize,
        length: usize,
        message: impl Into<String>,
    ) -> Diagnostic {
        Diagnostic::at(code, &self.source.file, &self.source.text, start, length, message)
    }

    /// Cedar's finding.
    pub(crate) fn moved(&self, code: &'static str, error: &(impl miette::Diagnostic + ?Sized)) -> Diagnostic {
        let (start, length, label) = self.mark(error);
        let found = self.at(code, start, length, without_policy(&error.to_string())).label(label);
        Diagnostic { help: error.help().map(|help| help.to_string()), ..found }
    }

    /// Start in the file, length and text of Cedar's mark. A mark on the whole policy is shown at its effect.
    fn mark(&self, error: &(impl miette::Diagnostic + ?Sized)) -> (usize, usize, String) {
        let Chunk { range, effect_at, .. } = self.chunk;
        let label = error.labels().and_then(|mut labels| labels.next());
        let text = label.as_ref().and_then(|label| label.label()).unwrap_or_default().to_owned();
        match label {
            Some(label) if label.offset() > 0 || label.len() < range.len().saturating_sub(1) => {
                (range.start + label.offset(), label.len(), text)
            }
            _ => (*effect_at, "permit".len(), text),
        }
    }
}
