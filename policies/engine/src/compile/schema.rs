//! Builds the Cedar schema from its two parts and reads what the site declares.
//! Refuses a site part that redefines part 1 (PC2005), declares credentials (PC2006) or uses shapes that facts lack.

use crate::{Diagnostic, schema::Declared, schema::SchemaText};
use cedar_policy::{CedarSchemaError, Schema, SchemaFragment};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

type Checked<T> = Result<T, Box<Diagnostic>>;

const CAP_BYTES: usize = 256 << 10;
const CREDENTIALS: [&str; 5] = ["authorization", "cookie", "proxy-authorization", "set-cookie", "x-api-key"];

pub(crate) fn build(text: &SchemaText) -> Checked<(Schema, Declared)> {
    let core_file: Arc<str> = "portcullis.cedarschema".into();
    let core = fragment(&core_file, &text.core)?;
    let site = fragment(&text.site_file, &text.site)?;
    let site_json =
        site.clone().to_json_value().map_err(|e| at(&text.site_file, &text.site, "PC2009", &e))?;
    let core_json = core.clone().to_json_value().map_err(|e| at(&core_file, &text.core, "PC2009", &e))?;
    let file = SiteFile { file: &text.site_file, text: &text.site };
    if let Some(name) = redefined(&core_json, &site_json) {
        let found =
            file.at_name("PC2005", &name, format!("`{name}` belongs to part 1 of the schema and is closed"));
        return Err(found.help("choose another name, or a namespace of your own").into());
    }
    let declared = Declared {
        headers: file.names(&site_json, "SiteHeaders", Shape::TextSet)?,
        query: file.names(&site_json, "SiteQuery", Shape::TextSet)?,
        params: file.names(&site_json, "SiteParams", Shape::Text)?,
    };
    for name in &declared.headers {
        if CREDENTIALS.contains(&&**name) {
            let found =
                file.at_name("PC2006", name, format!("`{name}` carries credentials and cannot be declared"));
            let help = "policies and records never see credentials; judge the verified identity instead";
            return Err(found.help(help).into());
        }
        if name.chars().any(char::is_uppercase) {
            let message = format!("header `{name}` must be written in lower case");
            return Err(file.at_name("PC2009", name, message).into());
        }
    }
    let schema = Schema::from_schema_fragments([core, site])
        .map_err(|e| at(&text.site_file, &text.site, "PC2009", &e))?;
    if !schema.is_complete() {
        return Err(Diagnostic::about("PC2009", &text.site_file, "the schema leaves names `external`").into());
    }
    Ok((schema, declared))
}

fn fragment(file: &Arc<str>, text: &str) -> Checked<SchemaFragment> {
    if text.len() > CAP_BYTES {
        let message = format!("{} bytes of schema; at most {CAP_BYTES}", text.len());
        return Err(Diagnostic::about("PC2010", file, message).into());
    }
    match SchemaFragment::from_cedarschema_str(text) {
        Ok((fragment, _warnings)) => Ok(fragment),
        Err(CedarSchemaError::Parse(e)) => Err(at(file, text, "PC2009", &e).into()),
        Err(e) => Err(at(file, text, "PC2009", &e).into()),
    }
}

/// With the span, label and help that Cedar gives.
fn at(
    file: &Arc<str>,
    text: &str,
    code: &'static str,
    error: &(impl miette::Diagnostic + ?Sized),
) -> Diagnostic {
    let label = error.labels().and_then(|mut labels| labels.next());
    let mut found = match &label {
        Some(label) => Diagnostic::at(code, file, text, label.offset(), label.len(), error.to_string()),
        None => Diagnostic::about(code, file, error.to_string()),
    };
    found.label = label.and_then(|label| label.label().map(str::to_owned)).unwrap_or_default();
    found.help = error.help().map(|help| help.to_string());
    found
}

/// A type or action of the site that part 1 has as well, in the same namespace.
fn redefined(core: &Value, site: &Value) -> Option<String> {
    for (namespace, declarations) in site.as_object()? {
        for kind in ["entityTypes", "actions", "commonTypes"] {
            let theirs = declarations.get(kind).and_then(Value::as_object);
            let ours = core.get(namespace).and_then(|ours| ours.get(kind)).and_then(Value::as_object);
            let twice = theirs
                .into_iter()
                .flatten()
                .find(|(name, _)| ours.is_some_and(|ours| ours.contains_key(*name)));
            if let Some((name, _)) = twice {
                return Some(name.clone());
            }
        }
    }
    None
}

#[derive(Clone, Copy, PartialEq)]
enum Shape {
    Text,
    TextSet,
}

struct SiteFile<'a> {
    file: &'a Arc<str>,
    text: &'a str,
}

impl SiteFile<'_> {
    /// Attribute names of a record type; each must be optional and of that shape.
    fn names(&self, site: &Value, kind: &str, shape: Shape) -> Checked<BTreeSet<Arc<str>>> {
        let declared =
            site.pointer("/").and_then(|root| root.pointer("/commonTypes")).and_then(|types| types.get(kind));
        let Some(attributes) =
            declared.and_then(|record| record.get("attributes")).and_then(Value::as_object)
        else {
            let help =
                "the site part defines SiteHeaders, SiteQuery, SiteParams and SiteClaims, each a record";
            let found = self.at_name("PC2009", kind, format!("type `{kind}` is missing or no record"));
            return Err(found.help(help).into());
        };
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

/// `String`, in either way Cedar writes it.
fn is_string(kind: &Value) -> bool {
    let name = |member: &str| kind.get(member).and_then(Value::as_str);
    name("type") == Some("String") || matches!(name("name"), Some("String" | "__cedar::String"))
}
