//! One policy as the rules of lint see it: compiled, as a syntax tree, and as text with places.

use super::{
    LintInput,
    survey::Survey,
    words::{Finder, Words},
};
use crate::{
    Action, Diagnostic, PolicySource, Snapshot, SourceKind,
    compile::text::{Chunk, chunks},
    rule::Rule,
    scope::Lineage,
};
use cedar_policy::{EntityUid, pst::Template};
use std::{
    collections::{HashMap, HashSet},
    ops::Range,
    sync::Arc,
};

/// What a rule judges.
pub(crate) struct Subject<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) input: &'a LintInput<'a>,
    pub(crate) survey: &'a Survey<'a>,
    pub(crate) rule: &'a Rule,
    pub(crate) template: &'a Template,
    text: &'a str,
    chunk: Option<&'a Chunk>,
    words: Words,
}

/// Where the policies of all files stand, by file and line of the effect.
pub(crate) struct Places<'a>(HashMap<Arc<str>, Lines<'a>>);

/// The policies of one file by line.
type Lines<'a> = HashMap<usize, Vec<(&'a PolicySource, Chunk)>>;

impl<'a> Places<'a> {
    /// Of the files that `rules` stand in.
    pub(crate) fn of(sources: &'a [PolicySource], rules: &[&Arc<Rule>]) -> Places<'a> {
        let files: HashSet<&str> = rules.iter().map(|rule| &*rule.place.file).collect();
        let sources = sources.iter().filter(|source| files.contains(&*source.file));
        let mut places: HashMap<Arc<str>, Lines<'a>> = HashMap::new();
        for source in sources.filter(|source| source.kind() == SourceKind::Policies) {
            for chunk in chunks(&source.text) {
                let line = chunk.line;
                places
                    .entry(Arc::clone(&source.file))
                    .or_default()
                    .entry(line)
                    .or_default()
                    .push((source, chunk));
            }
        }
        Places(places)
    }

    /// Of two policies on one line, the one whose text holds the id.
    fn find<'s>(&'s self, rule: &Rule) -> Option<(&'a PolicySource, &'s Chunk)> {
        let here = self.0.get(&rule.place.file)?.get(&rule.place.line)?;
        let is_named = |(source, chunk): &(&PolicySource, Chunk)| {
            source.text.get(chunk.range.clone()).is_some_and(|text| text.contains(&*rule.id))
        };
        let at = here.iter().position(is_named).unwrap_or_default();
        here.get(at).map(|(source, chunk)| (*source, chunk))
    }
}

impl<'a> Subject<'a> {
    pub(crate) fn new(
        snapshot: &'a Snapshot,
        input: &'a LintInput<'a>,
        rule: &'a Rule,
        template: &'a Template,
        places: &'a Places<'a>,
        survey: &'a Survey<'a>,
    ) -> Subject<'a> {
        let place = places.find(rule);
        let text = place.map_or("", |(source, _)| &*source.text);
        let chunk = place.map(|(_, chunk)| chunk);
        let words = chunk
            .and_then(|chunk| Some(Words::of(text.get(chunk.effect_at..chunk.range.end)?, chunk.effect_at)));
        Subject { snapshot, input, survey, rule, template, text, chunk, words: words.unwrap_or_default() }
    }

    pub(crate) fn finder(&self) -> Finder<'_> {
        Finder::new(&self.words)
    }

    pub(crate) fn text(&self, range: Range<usize>) -> &'a str {
        self.text.get(range).unwrap_or_default()
    }

    /// A finding at the effect of the policy.
    pub(crate) fn at_effect(&self, message: impl Into<String>) -> Diagnostic {
        self.at(self.chunk.map(|chunk| chunk.effect_at..chunk.effect_at + "permit".len()), message)
    }

    /// A finding at an annotation.
    pub(crate) fn at_note(&self, key: &str, message: impl Into<String>) -> Diagnostic {
        let place = self.chunk.and_then(|chunk| chunk.annotations.iter().find(|(name, _)| name == key));
        match place {
            Some((name, at)) => self.at(Some(*at..at + 1 + name.len()), message),
            None => self.at_effect(message),
        }
    }

    /// A finding at that place, or at the effect when there is none.
    pub(crate) fn at(&self, range: Option<Range<usize>>, message: impl Into<String>) -> Diagnostic {
        let file = &self.rule.place.file;
        match (range, self.chunk) {
            (Some(range), _) => Diagnostic::at("", file, self.text, range.start, range.len(), message),
            (None, Some(_)) => self.at_effect(message),
            (None, None) => {
                Diagnostic { line: self.rule.place.line, column: 1, ..Diagnostic::about("", file, message) }
            }
        }
    }

    /// A finding at an entity that the policy names.
    pub(crate) fn at_uid(&self, uid: &EntityUid, message: impl Into<String>) -> Diagnostic {
        let written = uid.to_string();
        let within = self.chunk.map(|chunk| chunk.effect_at..chunk.range.end).unwrap_or_default();
        let start = within.start;
        let place = self.text.get(within).and_then(|text| text.find(&written)).map(|at| start + at);
        self.at(place.map(|at| at..at + written.len()), message)
    }

    /// Calls of the data plane that the scope covers.
    pub(crate) fn calls(&self) -> impl Iterator<Item = (Action, &Lineage)> + '_ {
        self.survey.calls_of(self.rule)
    }

    pub(crate) fn ancestors(&self, uid: &EntityUid) -> Vec<EntityUid> {
        self.snapshot.parts().entities.ancestors(uid).into_iter().flatten().cloned().collect()
    }

    pub(crate) fn id(&self) -> &Arc<str> {
        &self.rule.id
    }
}

/// What an action of the data plane is about.
pub(crate) fn target_kind(action: Action) -> &'static str {
    match action.as_str() {
        "grpc" => "Method",
        "tcp:connect" => "Service",
        _ => "Route",
    }
}
