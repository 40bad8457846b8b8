//! All policy files of a set: what stands in them unchanged is taken over from the snapshot before, the rest is read
//! and validated on all cores. Then the whole set is looked at: sizes, ids, links.

use super::{
    batch,
    cores::spread,
    draft::{Blank, Draft, draft, placed},
    finding::Text,
    links::{self, Link, Linked},
    overlap::{Overlap, Shift},
    text::{Chunk, Chunks},
    validate::{Checked, Judge},
};
use crate::{
    Diagnostic, PolicySource, Severity,
    rule::{Place, Rule},
    snapshot::SourceKind,
};
use aws_lc_rs::digest::{Context, SHA256};
use cedar_policy::Policy;
use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    ops::Range,
    sync::Arc,
};

const FILE_BYTES: usize = 256 << 10;
const SET_BYTES: usize = 64 << 20;
const SET_POLICIES: usize = 100_000;

/// A file with everything that became of it. The next snapshot starts from it.
#[derive(Debug)]
pub(crate) struct CheckedFile {
    pub(crate) source: PolicySource,
    /// SHA-256 of its name and text.
    pub(crate) digest: [u8; 32],
    items: Vec<Item>,
    links: Vec<Linked>,
}

/// One policy text of a file.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) range: Range<usize>,
    line: usize,
    /// Its `@id`.
    id_at: usize,
    draft: Draft,
    /// None for most, which saves counting one more thing with each.
    warnings: Option<Arc<[Diagnostic]>>,
}

impl CheckedFile {
    /// Its rules, in the order of the file.
    pub(crate) fn rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        let written = self.items.iter().filter_map(|item| match &item.draft {
            Draft::Rule(rule) => Some(rule),
            Draft::Blank(_) => None,
        });
        written.chain(self.links.iter().map(|linked| &linked.rule))
    }

    fn templates(&self) -> impl Iterator<Item = (&Arc<Blank>, Place)> {
        let file = &self.source.file;
        self.items.iter().filter_map(move |item| match &item.draft {
            Draft::Blank(blank) => Some((blank, Place { file: Arc::clone(file), line: item.line })),
            Draft::Rule(_) => None,
        })
    }

    /// Ids with the bytes that say them.
    fn ids(&self) -> impl Iterator<Item = (&Arc<str>, Range<usize>)> {
        let written = self.items.iter().map(|item| (item.draft.id(), item.id_at..item.id_at + "@id".len()));
        written.chain(self.links.iter().map(|linked| (&linked.link.id, linked.link.range.clone())))
    }

    fn warnings(&self) -> impl Iterator<Item = Diagnostic> {
        self.items.iter().filter_map(|item| item.warnings.as_ref()).flat_map(|of| of.iter().cloned())
    }

    /// Whether another reading of `source` would yield the same.
    fn is_of(&self, source: &PolicySource) -> bool {
        self.source.is_baseline == source.is_baseline
            && (Arc::ptr_eq(&self.source.text, &source.text) || self.source.text == source.text)
    }
}

/// Checks `sources`. `before` are the files of the snapshot before, where the schema is the same.
pub(crate) fn check(
    sources: &[PolicySource],
    before: &[Arc<CheckedFile>],
    judge: &Judge,
    found: &mut Vec<Diagnostic>,
) -> Vec<Arc<CheckedFile>> {
    if let Some(excess) = excess_of_set(sources) {
        found.push(excess);
        return Vec::new();
    }
    let named: HashMap<&str, &Arc<CheckedFile>> =
        before.iter().map(|file| (&*file.source.file, file)).collect();
    let kept: Vec<Option<&Arc<CheckedFile>>> = sources
        .iter()
        .map(|source| named.get(&*source.file).copied().filter(|file| file.is_of(source)))
        .collect();
    let mut files = written(sources, &kept, &named, judge, found);
    link(sources, &kept, before, &mut files, judge, found);
    let files: Vec<Arc<CheckedFile>> = files.into_iter().flatten().collect();
    let count: usize = files.iter().map(|file| file.items.len() + file.links.len()).sum();
    if count > SET_POLICIES {
        let message = format!("{count} policies; at most {SET_POLICIES}");
        found.push(Diagnostic::about("PC2010", &Arc::from("policies"), message));
        return Vec::new();
    }
    // A snapshot has each id once, so only another list of ids needs a look.
    if !has_ids_of(&files, before) {
        duplicates(&files, found);
    }
    found.extend(files.iter().flat_map(|file| file.warnings()));
    files
}

fn excess_of_set(sources: &[PolicySource]) -> Option<Diagnostic> {
    let bytes: usize = sources.iter().map(|source| source.text.len()).sum();
    let message = format!("{bytes} bytes of policies; at most {SET_BYTES}");
    (bytes > SET_BYTES).then(|| Diagnostic::about("PC2010", &Arc::from("policies"), message))
}

/// A policy of a file that is not as it was: still there, known from elsewhere, or one of those to be checked.
enum Piece<'a> {
    Still(&'a Item, Shift),
    Known(&'a Item, Chunk),
    New(usize),
}

/// The files of policies, each at the place of its source; links come later.
fn written(
    sources: &[PolicySource],
    kept: &[Option<&Arc<CheckedFile>>],
    before: &HashMap<&str, &Arc<CheckedFile>>,
    judge: &Judge,
    found: &mut Vec<Diagnostic>,
) -> Vec<Option<Arc<CheckedFile>>> {
    let is_kept: HashSet<&str> = kept.iter().flatten().map(|file| &*file.source.file).collect();
    let changed = sources.iter().zip(kept).filter(|(_, kept)| kept.is_none());
    let overlaps: HashMap<&str, Overlap<'_>> = changed
        .filter_map(|(source, _)| {
            let file =
                before.get(&*source.file).filter(|file| file.source.is_baseline == source.is_baseline)?;
            Some((&*source.file, Overlap::of(&file.items, &file.source.text, &source.text)))
        })
        .collect();
    let mut known: HashMap<&str, &Item> = HashMap::new();
    for file in before.values().filter(|file| !is_kept.contains(&*file.source.file)) {
        let text = |item: &Item| file.source.text.get(item.range.clone()).unwrap_or_default();
        let overlap = overlaps.get(&*file.source.file);
        let gone = overlap.map_or(&*file.items, Overlap::touched).iter().filter(|item| item.is_quiet());
        known.extend(gone.map(|item| (text(item), item)));
    }
    let mut new: Vec<(&PolicySource, Chunk)> = Vec::new();
    let mut pieces: Vec<Vec<Piece<'_>>> = Vec::new();
    for (source, kept) in sources.iter().zip(kept) {
        let mut of_file = Vec::new();
        if kept.is_none() && fits(source, found) && source.kind() == SourceKind::Policies {
            let overlap = overlaps.get(&*source.file);
            let mut chunks = Chunks::new(&source.text);
            loop {
                if let Some((item, shift)) = overlap.and_then(|overlap| overlap.next(chunks.at())) {
                    chunks.skip_to(item.range.end.saturating_add_signed(shift.bytes));
                    of_file.push(Piece::Still(item, shift));
                    continue;
                }
                let Some(chunk) = chunks.next() else { break };
                let text = source.text.get(chunk.range.clone()).unwrap_or_default();
                of_file.push(match known.get(text) {
                    Some(item) => Piece::Known(item, chunk),
                    None => {
                        new.push((source, chunk));
                        Piece::New(new.len() - 1)
                    }
                });
            }
        }
        pieces.push(of_file);
    }
    let mut checked: Vec<Option<Checked>> =
        spread(&new, |part| check_part(part, judge)).into_iter().map(Some).collect();
    let mut files = Vec::new();
    for ((source, kept), pieces) in sources.iter().zip(kept).zip(pieces) {
        if let Some(kept) = kept {
            files.push(Some(Arc::clone(kept)));
            continue;
        }
        let items = pieces.into_iter().filter_map(|piece| match piece {
            Piece::Still(item, shift) => Some(item.shifted(source, shift)),
            Piece::Known(item, chunk) => Some(item.moved(source, &chunk)),
            Piece::New(at) => {
                let Checked { draft, errors, warnings } = checked.get_mut(at)?.take()?;
                found.extend(errors);
                let (_, chunk) = new.get(at)?;
                let warnings = (!warnings.is_empty()).then(|| warnings.into());
                Some(Item::new(chunk, draft?, warnings))
            }
        });
        let items = items.collect();
        files.push(Some(Arc::new(CheckedFile {
            source: source.clone(),
            digest: digest(source),
            items,
            links: Vec::new(),
        })));
    }
    files
}

fn fits(source: &PolicySource, found: &mut Vec<Diagnostic>) -> bool {
    let bytes = source.text.len();
    if bytes > FILE_BYTES {
        let message = format!("file has {bytes} bytes; at most {FILE_BYTES}");
        found.push(Diagnostic::about("PC2010", &source.file, message));
    }
    bytes <= FILE_BYTES
}

/// Reads and validates some texts.
fn check_part(part: &[(&PolicySource, Chunk)], judge: &Judge) -> Vec<Checked> {
    let texts: Vec<Text<'_>> = part.iter().map(|(source, chunk)| Text { source, chunk }).collect();
    let read = |(text, parsed): (&Text<'_>, Option<Policy>)| {
        let mut checked = Checked::default();
        checked.draft = draft(text, parsed, &judge.shared, &mut checked.errors);
        checked
    };
    let mut checked: Vec<Checked> = texts.iter().zip(batch::parsed(&texts)).map(read).collect();
    judge.validate(&texts, &mut checked);
    checked
}

impl Item {
    fn new(chunk: &Chunk, draft: Draft, warnings: Option<Arc<[Diagnostic]>>) -> Item {
        let id = chunk.annotations.iter().find(|(name, _)| name == "id");
        Item {
            range: chunk.range.clone(),
            line: chunk.line,
            id_at: id.map_or(chunk.effect_at, |(_, at)| *at),
            draft,
            warnings,
        }
    }

    /// What was warned about is looked at again, so that the warning tells its new place.
    pub(super) fn is_quiet(&self) -> bool {
        self.warnings.is_none()
    }

    /// The same text at another place.
    fn moved(&self, source: &PolicySource, chunk: &Chunk) -> Item {
        Item::new(chunk, self.placed(source, chunk.line), self.warnings.clone())
    }

    /// The same text in a file of which other parts changed.
    fn shifted(&self, source: &PolicySource, by: Shift) -> Item {
        let moved = |at: usize| at.saturating_add_signed(by.bytes);
        let line = self.line.saturating_add_signed(by.lines);
        // A policy is not even looked at where its line is the same.
        let draft = if by.lines == 0 { self.draft.clone() } else { self.placed(source, line) };
        Item {
            range: moved(self.range.start)..moved(self.range.end),
            line,
            id_at: moved(self.id_at),
            draft,
            warnings: self.warnings.clone(),
        }
    }

    fn placed(&self, source: &PolicySource, line: usize) -> Draft {
        match &self.draft {
            Draft::Rule(rule) => {
                let place = Place { file: Arc::clone(&source.file), line };
                Draft::Rule(placed(rule, place, source.is_baseline))
            }
            Draft::Blank(blank) => Draft::Blank(Arc::clone(blank)),
        }
    }
}

/// Fills the files of links in; those whose links are what they were stay.
fn link(
    sources: &[PolicySource],
    kept: &[Option<&Arc<CheckedFile>>],
    before: &[Arc<CheckedFile>],
    files: &mut [Option<Arc<CheckedFile>>],
    judge: &Judge,
    found: &mut Vec<Diagnostic>,
) {
    if !sources.iter().any(|source| source.kind() == SourceKind::Links) {
        return;
    }
    let all: Vec<Arc<CheckedFile>> = files.iter().flatten().cloned().collect();
    // The first of two templates of one id; that there are two is found elsewhere.
    let mut templates: HashMap<&str, links::Template<'_>> = HashMap::new();
    for (blank, place) in all.iter().flat_map(|file| file.templates()) {
        templates.entry(&*blank.id).or_insert((blank, place));
    }
    let known: HashMap<&str, &Linked> =
        before.iter().flat_map(|file| &file.links).map(|linked| (&*linked.link.id, linked)).collect();
    for ((source, kept), file) in sources.iter().zip(kept).zip(files) {
        if source.kind() != SourceKind::Links || file.is_none() {
            continue;
        }
        let wanted: Vec<Link> = match kept {
            Some(kept) => kept.links.iter().map(|linked| linked.link.clone()).collect(),
            None if source.text.len() <= FILE_BYTES => links::read(source, found),
            None => Vec::new(),
        };
        let resolved = spread(&wanted, |part| {
            let one = |link: &Link| {
                let template = templates.get(link.template());
                links::resolve(source, link, template, known.get(&*link.id).copied(), judge)
            };
            part.iter().map(one).collect()
        });
        let mut linked = Vec::new();
        for result in resolved {
            match result {
                Ok(one) => linked.push(one),
                Err(finding) => found.push(finding),
            }
        }
        let is_same = kept.is_some_and(|kept| {
            kept.links.len() == linked.len()
                && kept.links.iter().zip(&linked).all(|(old, new)| Arc::ptr_eq(&old.rule, &new.rule))
        });
        if !is_same {
            let digest = digest(source);
            *file = Some(Arc::new(CheckedFile {
                source: source.clone(),
                digest,
                items: Vec::new(),
                links: linked,
            }));
        }
    }
}

/// Whether both have the same ids in the same order.
fn has_ids_of(files: &[Arc<CheckedFile>], before: &[Arc<CheckedFile>]) -> bool {
    let ids = |file: &Arc<CheckedFile>, other: &Arc<CheckedFile>| {
        let (ids, others) = (file.ids().map(|(id, _)| id), other.ids().map(|(id, _)| id));
        Arc::ptr_eq(file, other) || ids.eq(others)
    };
    files.len() == before.len() && files.iter().zip(before).all(|(file, other)| ids(file, other))
}

/// Policies, templates and links share the ids.
fn duplicates(files: &[Arc<CheckedFile>], found: &mut Vec<Diagnostic>) {
    let count = files.iter().map(|file| file.items.len() + file.links.len()).sum();
    let mut first: HashMap<&str, (&PolicySource, Range<usize>)> = HashMap::with_capacity(count);
    for (source, id, range) in
        files.iter().flat_map(|file| file.ids().map(|(id, range)| (&file.source, id, range)))
    {
        match first.entry(id) {
            Entry::Vacant(place) => {
                place.insert((source, range));
            }
            Entry::Occupied(earlier) => {
                let (other, at) = earlier.get();
                let earlier = links::at(other, at, "PC2102", "");
                let finding = links::at(
                    source,
                    &range,
                    "PC2102",
                    format!("`{id}` is already the id of another policy"),
                );
                found.push(
                    finding
                        .label(format!("first used at {}:{}:{}", earlier.file, earlier.line, earlier.column))
                        .help("records name policies by id, so each id is used once; choose another"),
                );
            }
        }
    }
}

/// Whether something blocks.
pub(crate) fn is_blocked(found: &[Diagnostic]) -> bool {
    found.iter().any(|finding| finding.severity == Severity::Error)
}

/// Name and text with their lengths, so that no two files digest alike.
fn digest(source: &PolicySource) -> [u8; 32] {
    super::digest([&*source.file, &*source.text])
}

/// What [`manifest`] gives for files of these names and texts, which need not be checked.
pub(crate) fn manifest_of<'a>(files: impl IntoIterator<Item = (&'a str, &'a str)>) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    files.into_iter().for_each(|(name, text)| context.update(&super::digest([name, text])));
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Over the digests of the files alone, whatever was known before.
pub(crate) fn manifest(files: &[Arc<CheckedFile>]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    files.iter().for_each(|file| context.update(&file.digest));
    context.finish().as_ref().try_into().unwrap_or_default()
}
