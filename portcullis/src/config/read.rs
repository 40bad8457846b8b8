//! From text to a checked tree: every key known, every value of its kind, all faults at once with their places.
//! Only this file looks at TOML; `meant` turns the tree into typed settings.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use ca_identity::{Selector, SpiffeId, TrustDomain};
use toml::de::{DeTable, DeValue};

use super::keys::{self, Kind};
use super::value::{self, Address};
use crate::messages::{Message, Place, nearest};

/// Variables that are no keys: where to look, and what the tests of this repository say.
const OWN_VARIABLES: &[&str] = &[
    "PORTCULLIS_SERVER",
    "PORTCULLIS_CONFIG",
    "PORTCULLIS_BIN",
    "PORTCULLIS_TEST_SCALE",
    "PORTCULLIS_JOIN_TOKEN",
];

/// A value of the kind its key demands.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(String),
    Integer(i64),
    Flag(bool),
    Duration(Duration),
    /// Bytes.
    Size(u64),
    Path(PathBuf),
    TrustDomain(TrustDomain),
    SpiffeId(SpiffeId),
    Selector(Selector),
    Address(Address),
    List(Vec<Value>),
    Table(Table),
    Tables(Vec<Table>),
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Default,
    Environment(String),
    File { line: usize },
}

/// One table of the file, with defaults filled in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Table {
    pub(crate) path: String,
    pub(crate) span: Range<usize>,
    pub(crate) entries: BTreeMap<&'static str, (Value, Range<usize>, Origin)>,
}

/// Reads `text`; `environment` gives the `PORTCULLIS_*` variables.
pub(crate) fn read(file: &str, text: &str, environment: &BTreeMap<String, String>) -> (Table, Vec<Message>) {
    let mut reader = Reader { file, text, environment, used: BTreeSet::new(), faults: Vec::new() };
    let Some(tree) = reader.tree() else { return (Table::default(), reader.faults) };
    let table = reader.table("", &tree, 0..0);
    reader.unused_variables();
    (table, reader.faults)
}

/// Reads a text that holds `[[ca.entry]]` tables and nothing else.
pub(crate) fn read_entries(file: &str, text: &str) -> (Vec<Table>, Vec<Message>) {
    let environment = BTreeMap::new();
    let mut reader =
        Reader { file, text, environment: &environment, used: BTreeSet::new(), faults: Vec::new() };
    let Some(tree) = reader.tree() else { return (Vec::new(), reader.faults) };
    let mut tables = Vec::new();
    for (name, written) in &tree {
        match written.get_ref() {
            DeValue::Table(ca) if name.get_ref() == "ca" => {
                ca.keys()
                    .filter(|name| name.get_ref() != "entry")
                    .for_each(|name| reader.stranger(name.span()));
                tables.extend_from_slice(reader.table("ca", ca, written.span()).tables("entry"));
            }
            _ => reader.stranger(name.span()),
        }
    }
    (tables, reader.faults)
}

/// What can be told of a text that is not valid.
pub(crate) fn recover(file: &str, text: &str, environment: &BTreeMap<String, String>) -> Table {
    let mut reader = Reader { file, text, environment, used: BTreeSet::new(), faults: Vec::new() };
    let (tree, _) = DeTable::parse_recoverable(text);
    reader.table("", tree.get_ref(), 0..0)
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
    environment: &'a BTreeMap<String, String>,
    used: BTreeSet<String>,
    faults: Vec<Message>,
}

impl<'a> Reader<'a> {
    /// The text as TOML; none when it is not.
    fn tree(&mut self) -> Option<DeTable<'a>> {
        let (tree, errors) = DeTable::parse_recoverable(self.text);
        for error in &errors {
            let place = self.place(error.span().unwrap_or(0..0));
            self.faults
                .push(Message::error("PC0101", format!("not valid TOML: {}", error.message())).at(place));
        }
        errors.is_empty().then(|| tree.into_inner())
    }

    /// Something beside the entries of a file of entries.
    fn stranger(&mut self, span: Range<usize>) {
        let place = self.place(span);
        let message =
            Message::error("PC0103", "a file of entries holds [[ca.entry]] tables and nothing else");
        self.faults.push(message.at(place).next("portcullis config explain ca.entry"));
    }

    fn table(&mut self, path: &str, written: &DeTable<'_>, span: Range<usize>) -> Table {
        let mut table = Table { path: path.to_owned(), span: span.clone(), entries: BTreeMap::new() };
        let mut misspelt = Vec::new();
        for (name, written) in written {
            let below = join(path, name.get_ref());
            match keys::children(path).find(|(known, _)| *known == name.get_ref().as_ref()) {
                None => misspelt.extend(self.unknown(path, name.get_ref(), name.span())),
                Some((known, key)) => {
                    if let Some(value) = self.value(&below, key.kind, written.get_ref(), written.span()) {
                        let line = self.place(written.span()).line;
                        table.entries.insert(known, (value, written.span(), Origin::File { line }));
                    }
                }
            }
        }
        self.fill(path, written, span, &misspelt, &mut table);
        table
    }

    /// Environment over file, defaults below both, and what is required and absent.
    fn fill(
        &mut self,
        path: &str,
        written: &DeTable<'_>,
        span: Range<usize>,
        misspelt: &[&str],
        table: &mut Table,
    ) {
        for (name, key) in keys::children(path) {
            let overriding = key.variable().and_then(|name| Some((self.environment.get(&name)?, name)));
            if let Some((text, variable)) = overriding {
                self.used.insert(variable.clone());
                match from_text(&key.kind, text) {
                    Ok(value) => {
                        table.entries.insert(name, (value, 0..0, Origin::Environment(variable)));
                    }
                    Err(fault) => self.faults.push(
                        Message::error("PC0104", format!("environment variable {variable}: {fault}"))
                            .help(format!("{} is {}", key.path, key.kind.wanted()))
                            .next(format!("portcullis config explain {}", key.path)),
                    ),
                }
            }
            if table.entries.contains_key(name) || written.contains_key(name) || misspelt.contains(&name) {
                continue;
            }
            if key.kind == Kind::Table && key.default.is_some() {
                let section = self.table(key.path, &DeTable::new(), span.clone());
                table.entries.insert(name, (Value::Table(section), 0..0, Origin::Default));
            } else if let Some(Ok(value)) = key.default.map(|text| from_text(&key.kind, text)) {
                table.entries.insert(name, (value, 0..0, Origin::Default));
            } else if key.required {
                let place = self.place(span.clone());
                let section = section(path);
                self.faults.push(
                    Message::error("PC0102", format!("`{name}` is missing in {section}"))
                        .at(place)
                        .help(format!("{}; example: {name} = {}", key.text, key.example))
                        .next(format!("portcullis config explain {}", key.path)),
                );
            }
        }
    }

    fn value(&mut self, path: &str, kind: Kind, written: &DeValue<'_>, span: Range<usize>) -> Option<Value> {
        let value = match (kind, written) {
            (Kind::Table, DeValue::Table(table)) => return Some(Value::Table(self.table(path, table, span))),
            (Kind::Tables, DeValue::Array(items)) => {
                let mut tables = Vec::new();
                for item in items.iter() {
                    match item.get_ref() {
                        DeValue::Table(table) => tables.push(self.table(path, table, item.span())),
                        other => self.wrong(path, kind, other, item.span()),
                    }
                }
                return Some(Value::Tables(tables));
            }
            (Kind::List(of), DeValue::Array(items)) => {
                let values: Vec<_> = items
                    .iter()
                    .filter_map(|item| self.value(path, *of, item.get_ref(), item.span()))
                    .collect();
                return Some(Value::List(values));
            }
            (Kind::Integer { min, max }, DeValue::Integer(number)) => {
                let digits: String = number.as_str().chars().filter(|c| *c != '_').collect();
                i64::from_str_radix(&digits, number.radix())
                    .ok()
                    .filter(|number| (min..=max).contains(number))
                    .map(Value::Integer)
                    .ok_or_else(|| format!("{digits} is not {}", kind.wanted()))
            }
            (Kind::Flag, DeValue::Boolean(flag)) => Ok(Value::Flag(*flag)),
            (Kind::Integer { .. } | Kind::Flag | Kind::Table | Kind::Tables, other) => {
                self.wrong(path, kind, other, span);
                return None;
            }
            (_, DeValue::String(text)) => from_text(&kind, text),
            (Kind::Size, DeValue::Integer(number)) => {
                Err(format!("{0} has no unit; write \"{0}B\"", number.as_str()))
            }
            (Kind::Duration, DeValue::Integer(number)) => {
                Err(format!("{0} has no unit; write \"{0}s\"", number.as_str()))
            }
            (_, other) => {
                self.wrong(path, kind, other, span);
                return None;
            }
        };
        match value {
            Ok(value) => Some(value),
            Err(fault) => {
                let place = self.place(span);
                self.faults.push(
                    Message::error("PC0104", format!("`{path}`: {fault}"))
                        .at(place)
                        .next(format!("portcullis config explain {path}")),
                );
                None
            }
        }
    }

    fn wrong(&mut self, path: &str, kind: Kind, written: &DeValue<'_>, span: Range<usize>) {
        let place = self.place(span);
        self.faults.push(
            Message::error("PC0104", format!("`{path}` is {}, not {}", kind.wanted(), written.type_str()))
                .at(place)
                .next(format!("portcullis config explain {path}")),
        );
    }

    /// Reports an unknown key; gives the one that was probably meant.
    fn unknown(&mut self, path: &str, name: &str, span: Range<usize>) -> Option<&'static str> {
        let place = self.place(span);
        let names: Vec<_> = keys::children(path).map(|(name, _)| name).collect();
        let mut message = Message::error("PC0103", format!("unknown key `{name}` in {}", section(path)))
            .at(place)
            .help(format!("keys are {}", names.join(", ")));
        let near = nearest(name, names.into_iter());
        message.label = near.map(|near| format!("did you mean `{near}`?"));
        if !path.is_empty() {
            message = message.next(format!("portcullis config explain {path}"));
        }
        self.faults.push(message);
        near
    }

    /// Variables that changed nothing: a typing error, a section that the file does not have, or somebody else's.
    fn unused_variables(&mut self) {
        let variables: Vec<_> = keys::all().filter_map(keys::Key::variable).collect();
        let unused = self
            .environment
            .keys()
            .filter(|name| !self.used.contains(*name) && !OWN_VARIABLES.contains(&name.as_str()));
        for name in unused {
            let mut warning = Message::warning(
                "PC0110",
                format!("environment variable `{name}` names no key of this file and is ignored"),
            );
            warning.label = match variables.contains(name) {
                true => Some("the file has no section that this key belongs to".to_owned()),
                false => nearest(name, variables.iter().map(String::as_str))
                    .map(|near| format!("did you mean `{near}`?")),
            };
            self.faults.push(warning);
        }
    }

    fn place(&self, span: Range<usize>) -> Place {
        Place::of(self.file, self.text, span)
    }
}

/// Reads one value of `kind` from text: a string of the file, a default, or an environment variable.
fn from_text(kind: &Kind, text: &str) -> Result<Value, String> {
    Ok(match kind {
        Kind::Text => Value::Text(text.to_owned()),
        Kind::Path => Value::Path(PathBuf::from(text)),
        Kind::Duration => Value::Duration(value::duration(text)?),
        Kind::Size => Value::Size(value::size(text)?),
        Kind::Address(schemes) => Value::Address(Address::parse(text, schemes)?),
        Kind::Endpoint(schemes) => Value::Address(Address::parse_endpoint(text, schemes)?),
        Kind::TrustDomain => Value::TrustDomain(
            TrustDomain::parse(text).map_err(|error| format!("`{text}` is no trust domain: {error}"))?,
        ),
        Kind::SpiffeId => Value::SpiffeId(
            SpiffeId::parse(text).map_err(|error| format!("`{text}` is no SPIFFE ID: {error}"))?,
        ),
        Kind::Selector => Value::Selector(Selector::parse(text).map_err(|error| error.to_string())?),
        Kind::Choice(words) => match words.contains(&text) {
            true => Value::Text(text.to_owned()),
            false => {
                let near = nearest(text, words.iter().copied());
                let hint = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(format!("`{text}` is not {}{hint}", kind.wanted()));
            }
        },
        Kind::Flag => match text.parse() {
            Ok(flag) => Value::Flag(flag),
            Err(_) => return Err(format!("`{text}` is not {}", kind.wanted())),
        },
        Kind::Integer { min, max } => match text.parse::<i64>() {
            Ok(number) if (*min..=*max).contains(&number) => Value::Integer(number),
            _ => return Err(format!("`{text}` is not {}", kind.wanted())),
        },
        Kind::List(of) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::List(items.map(|item| from_text(of, item)).collect::<Result<_, _>>()?)
        }
        Kind::Table | Kind::Tables => return Err("a table cannot be written as one text".to_owned()),
    })
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn section(path: &str) -> String {
    match keys::find(path).map(|key| key.kind) {
        None => "the file".to_owned(),
        Some(Kind::Tables) => format!("[[{path}]]"),
        Some(_) => format!("[{path}]"),
    }
}

macro_rules! accessor {
    ($name:ident, $variant:ident, $type:ty) => {
        pub(crate) fn $name(&self, name: &str) -> Option<&$type> {
            match self.entries.get(name) {
                Some((Value::$variant(value), _, _)) => Some(value),
                _ => None,
            }
        }
    };
}

impl Table {
    accessor!(text, Text, String);
    accessor!(integer, Integer, i64);
    accessor!(flag, Flag, bool);
    accessor!(duration, Duration, Duration);
    accessor!(size, Size, u64);
    accessor!(path, Path, PathBuf);
    accessor!(trust_domain, TrustDomain, TrustDomain);
    accessor!(spiffe_id, SpiffeId, SpiffeId);
    accessor!(address, Address, Address);
    accessor!(table, Table, Table);

    /// The tables of an array of tables; none when absent.
    pub(crate) fn tables(&self, name: &str) -> &[Table] {
        match self.entries.get(name) {
            Some((Value::Tables(tables), _, _)) => tables,
            _ => &[],
        }
    }

    /// The items of a list; none when absent.
    pub(crate) fn list(&self, name: &str) -> &[Value] {
        match self.entries.get(name) {
            Some((Value::List(items), _, _)) => items,
            _ => &[],
        }
    }

    /// Somebody wrote it, in the file or in the environment.
    pub(crate) fn is_written(&self, name: &str) -> bool {
        self.entries.get(name).is_some_and(|(_, _, origin)| !matches!(origin, Origin::Default))
    }

    /// The texts of a list of texts.
    pub(crate) fn texts(&self, name: &str) -> Vec<String> {
        let text = |value: &Value| match value {
            Value::Text(text) => Some(text.clone()),
            _ => None,
        };
        self.list(name).iter().filter_map(text).collect()
    }

    /// The numbers of a list of numbers.
    pub(crate) fn integers(&self, name: &str) -> impl Iterator<Item = &i64> {
        self.list(name).iter().filter_map(|value| match value {
            Value::Integer(number) => Some(number),
            _ => None,
        })
    }

    /// Where `name` was written, else where the table begins.
    pub(crate) fn span_of(&self, name: &str) -> Range<usize> {
        match self.entries.get(name) {
            Some((_, span, Origin::File { .. })) => span.clone(),
            _ => self.span.clone(),
        }
    }
}
