//! Builds the Cedar schema from its two parts and the fragments of teams, and reads what the site declares.
//! Refuses a site part that redefines part 1 (PC2005), declares credentials (PC2006) or uses shapes that facts lack.

use super::phrase;
use crate::{Diagnostic, schema::Declared, schema::SchemaText};
use cedar_policy::{CedarSchemaError, Schema, SchemaFragment};
use miette::LabeledSpan;
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

type Checked<T> = Result<T, Box<Diagnostic>>;

const CAP_BYTES: usize = 256 << 10;
/// Our own namespace.
const OURS: &str = "Portcullis";
/// Signs in names of headers besides letters and digits (RFC 9110, 5.6.2).
const TOKEN: &str = "!#$%&'*+-.^_`|~";
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

pub(crate) fn build(text: &SchemaText) -> Checked<(Schema, Declared)> {
    let bytes: usize = text.texts().map(str::len).sum();
    if bytes > CAP_BYTES {
        let message = format!("{bytes} bytes of schema in all files; at most {CAP_BYTES}");
        return Err(Diagnostic::about("PC2010", &text.site_file, message).into());
    }
    let core_file = Arc::from("portcullis.cedarschema");
    let core = Part::new(&core_file, &text.core)?;
    let site = Part::new(&text.site_file, &text.site)?;
    site.is_beside(&core)?;
    site.is_not_in_ours()?;
    let declared = declared(&site)?;
    let mut teams: Vec<Part<'_>> = Vec::new();
    for team in &text.teams {
        let part = Part::new(&team.file, &team.text)?;
        part.is_beside(&core)?;
        part.has_namespaces_of_its_own(&teams)?;
        teams.push(part);
    }
    let schema = join(&core, &site, &teams)?;
    if !schema.is_complete() {
        return Err(Diagnostic::about("PC2009", &text.site_file, "the schema leaves names `external`").into());
    }
    Ok((schema, declared))
}

fn declared(site: &Part<'_>) -> Checked<Declared> {
    let declared = Declared {
        headers: site.names("SiteHeaders", Shape::TextSet)?,
        query: site.names("SiteQuery", Shape::TextSet)?,
        params: site.names("SiteParams", Shape::Text)?,
        claims: site.names("SiteClaims", Shape::TextSet)?,
    };
    for name in &declared.headers {
        if CREDENTIALS.contains(&&**name) {
            let found =
                site.at_name("PC2006", name, format!("`{name}` carries credentials and cannot be declared"));
            let help = "policies and records never see credentials; judge the verified identity instead";
            return Err(found.help(help).into());
        }
        if !name.chars().all(|c| c.is_ascii_alphanumeric() || TOKEN.contains(c)) {
            let found = site.at_name("PC2009", name, format!("`{name}` is not the name of a header"));
            let help = "names of headers have letters, digits, `-` and a few other signs, and no space";
            return Err(found.help(help).into());
        }
        if name.chars().any(char::is_uppercase) {
            let message = format!("header `{name}` must be written in lower case");
            let help = format!("write `{}`; headers reach policies in lower case", name.to_lowercase());
            return Err(site.at_name("PC2009", name, message).help(help).into());
        }
    }
    Ok(declared)
}

/// All parts as one schema. An error is shown in the file without which there would be none.
fn join(core: &Part<'_>, site: &Part<'_>, teams: &[Part<'_>]) -> Checked<Schema> {
    let joined = |without: Option<usize>| {
        let teams = teams.iter().enumerate().filter(|(at, _)| Some(*at) != without).map(|(_, team)| team);
        let parts = [core, site].into_iter().chain(teams);
        Schema::from_schema_fragments(parts.map(|part| part.fragment.clone()))
    };
    joined(None).map_err(|error| {
        let culprit = (0..teams.len()).find(|at| joined(Some(*at)).is_ok());
        let part = culprit.and_then(|at| teams.get(at)).unwrap_or(site);
        let known: Vec<&str> = [core, site].into_iter().chain(teams).flat_map(Part::types).collect();
        at(part.file, part.text, "PC2009", &error, &known).into()
    })
}

fn fragment(file: &Arc<str>, text: &str) -> Checked<SchemaFragment> {
    if text.len() > CAP_BYTES {
        let message = format!("{} bytes of schema; at most {CAP_BYTES}", text.len());
        return Err(Diagnostic::about("PC2010", file, message).into());
    }
    match SchemaFragment::from_cedarschema_str(text) {
        Ok((fragment, _warnings)) => Ok(fragment),
        Err(CedarSchemaError::Parse(e)) => Err(at(file, text, "PC2009", &e, &[]).into()),
        Err(e) => Err(at(file, text, "PC2009", &e, &[]).into()),
    }
}

/// With the span, label and help that Cedar gives. The span is of one of the texts that were joined, and only shown
/// when it is of this one.
fn at(
    file: &Arc<str>,
    text: &str,
    code: &'static str,
    error: &(impl miette::Diagnostic + ?Sized),
    known: &[&str],
) -> Diagnostic {
    let label = error.labels().and_then(|mut labels| labels.next()).filter(|label| is_of(text, label, error));
    let mut found = match &label {
        Some(label) => Diagnostic::at(code, file, text, label.offset(), label.len(), error.to_string()),
        None => Diagnostic::about(code, file, error.to_string()),
    };
    found.label = label.and_then(|label| label.label().map(str::to_owned)).unwrap_or_default();
    found.help = error.help().map(|help| help.to_string());
    phrase::schema(found, known.iter().copied())
}

fn is_of(text: &str, label: &LabeledSpan, error: &(impl miette::Diagnostic + ?Sized)) -> bool {
    let Some(source) = error.source_code() else { return true };
    let marked = text.as_bytes().get(label.offset()..label.offset().saturating_add(label.len()));
    source.read_span(label.inner(), 0, 0).is_ok_and(|read| Some(read.data()) == marked)
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Text,
    TextSet,
}

/// One schema file.
struct Part<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    fragment: SchemaFragment,
    json: Value,
}

/// Types share their names with each other, actions with actions.
const SPACES: [&[&str]; 2] = [&["entityTypes", "commonTypes"], &["actions"]];

impl<'a> Part<'a> {
    fn new(file: &'a Arc<str>, text: &'a str) -> Checked<Part<'a>> {
        let fragment = fragment(file, text)?;
        let json = fragment.clone().to_json_value().map_err(|e| at(file, text, "PC2009", &e, &[]))?;
        Ok(Part { file, text, fragment, json })
    }

    /// Names of its types, as they are written in their own namespace.
    fn types(&self) -> impl Iterator<Item = &str> {
        let [types, _] = &SPACES;
        self.namespaces().flat_map(|(_, declarations)| declared_in(declarations, types)).map(String::as_str)
    }

    fn namespaces(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.json.as_object().into_iter().flatten().map(|(name, declarations)| (name.as_str(), declarations))
    }

    /// Declares nothing that part 1 has in the same namespace, or that part 1 has in none and policies would then read
    /// otherwise.
    fn is_beside(&self, core: &Part<'_>) -> Checked<()> {
        for (namespace, theirs) in self.namespaces() {
            for space in SPACES {
                let is_taken = |name: &&String| {
                    let is_in = |namespace: &str| {
                        let ours = core.json.get(namespace).into_iter();
                        ours.flat_map(|ours| declared_in(ours, space)).any(|ours| ours == *name)
                    };
                    is_in(namespace) || is_in("")
                };
                if let Some(name) = declared_in(theirs, space).find(is_taken) {
                    let message = format!("`{name}` belongs to part 1 of the schema and is closed");
                    let found = self.at_name("PC2005", name, message);
                    return Err(found.help("choose another name").into());
                }
            }
        }
        Ok(())
    }

    /// For part 2: nothing in our namespace.
    fn is_not_in_ours(&self) -> Checked<()> {
        let mut ours = self.namespaces().filter(|(namespace, _)| is_ours(namespace));
        let found = ours.find_map(|(namespace, declarations)| {
            let name = SPACES.iter().find_map(|space| declared_in(declarations, space).next())?;
            let message = format!("`{name}` stands in namespace `{namespace}`, which belongs to part 1");
            Some(
                self.at_name("PC2005", name, message).help("write it in no namespace, or in one of your own"),
            )
        });
        found.map_or(Ok(()), |found| Err(found.into()))
    }

    /// For the fragment of a team: nothing outside a namespace, nothing in ours, nothing in that of another team.
    fn has_namespaces_of_its_own(&self, others: &[Part<'_>]) -> Checked<()> {
        for (namespace, declarations) in self.namespaces() {
            let first = SPACES.iter().find_map(|space| declared_in(declarations, space).next());
            let Some(name) = first else { continue };
            let owner = others.iter().find(|other| other.json.get(namespace).is_some());
            let message = if namespace.is_empty() {
                format!("`{name}` stands in no namespace; the fragment of a team declares in its own")
            } else if is_ours(namespace) {
                format!("`{name}` stands in namespace `{namespace}`, which belongs to part 1")
            } else if let Some(owner) = owner {
                format!("namespace `{namespace}` belongs to `{}`", owner.file)
            } else {
                continue;
            };
            let found = self.at_name("PC2005", name, message);
            return Err(found
                .help("write `namespace YourTeam { .. }` around it; part 2 is site.cedarschema")
                .into());
        }
        Ok(())
    }

    /// The attributes of a record type of part 2.
    fn record(&self, kind: &str) -> Checked<&serde_json::Map<String, Value>> {
        let root = self.json.get("");
        let declared = root.and_then(|root| root.get("commonTypes")).and_then(|types| types.get(kind));
        declared.and_then(|record| record.get("attributes")).and_then(Value::as_object).ok_or_else(|| {
            let help =
                "the site part defines SiteHeaders, SiteQuery, SiteParams and SiteClaims, each a record";
            let what = if declared.is_some() { "is no record" } else { "is missing" };
            self.at_name("PC2009", kind, format!("type `{kind}` {what}"))
                .help(format!("{help}: `type {kind} = {{}};`"))
                .into()
        })
    }

    /// Attribute names of a record type; each must be optional and of that shape.
    fn names(&self, kind: &str, shape: Shape) -> Checked<BTreeSet<Arc<str>>> {
        let attributes = self.record(kind)?;
        for (name, attribute) in attributes {
            let element = if shape == Shape::TextSet { attribute.get("element") } else { Some(attribute) };
            let is_set = attribute.get("type").and_then(Value::as_str) == Some("Set");
            let is_text = element.is_some_and(is_string) && is_set == (shape == Shape::TextSet);
            if !is_text || attribute.get("required").and_then(Value::as_bool) != Some(false) {
                let wanted = if shape == Shape::TextSet { "Set<String>" } else { "String" };
                let found =
                    self.at_name("PC2009", name, format!("`{name}` of `{kind}` is not an optional {wanted}"));
                return Err(found
                    .help(format!("write `\"{name}\"?: {wanted}`; not every request has it"))
                    .into());
            }
        }
        Ok(attributes.keys().map(|name| name.as_str().into()).collect())
    }

    fn at_name(&self, code: &'static str, name: &str, message: String) -> Diagnostic {
        match self.text.find(name) {
            Some(start) => Diagnostic::at(code, self.file, self.text, start, name.len(), message),
            None => Diagnostic::about(code, self.file, message),
        }
    }
}

fn is_ours(namespace: &str) -> bool {
    namespace == OURS || namespace.strip_prefix(OURS).is_some_and(|rest| rest.starts_with("::"))
}

/// Names that a namespace declares, of the same space.
fn declared_in<'a>(declarations: &'a Value, space: &'a [&str]) -> impl Iterator<Item = &'a String> {
    let kinds = space.iter().filter_map(|kind| declarations.get(kind)?.as_object());
    kinds.flat_map(|names| names.keys())
}

/// `String`, in either way Cedar writes it.
fn is_string(kind: &Value) -> bool {
    let name = |member: &str| kind.get(member).and_then(Value::as_str);
    name("type") == Some("String") || matches!(name("name"), Some("String" | "__cedar::String"))
}
