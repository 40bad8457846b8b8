//! The configuration: one TOML file, read once, checked whole, turned into settings without options left open.
//! `keys` says what exists, `read` checks text against it, this file gives the result its meaning and checks what
//! only shows across sections. Nothing outside this room looks at TOML or at environment variables.

mod changes;
pub(crate) mod keys;
mod meaning;
mod meant;
mod read;
mod schema;
mod value;
mod view;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ca_authority::NewEntry;
pub(crate) use changes::{Changes, changes};
pub(crate) use meant::{
    Admin, Agent, BundleEndpoints, Ca, Collector, Config, Enforcer, Federation, Issuer, Join, Keys, KnownBy,
    Listener, LocalUser, Oidc, Pushed, Spans, TrailTo,
};
pub(crate) use schema::{explain, json_schema, paths as key_paths};
pub(crate) use value::{Address, duration, print_duration};
pub(crate) use view::view;

use crate::messages::{Message, Severity};

/// Largest configuration file that is read, bytes.
const MAX_BYTES: u64 = 4 << 20;

/// A configuration that may run, and what should be said about it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) table: read::Table,
    pub(crate) warnings: Vec<Message>,
}

/// The file to use: the flag, else `PORTCULLIS_CONFIG`, else `./portcullis.toml`, else `/etc/portcullis/portcullis.toml`.
pub(crate) fn locate(flag: Option<&Path>) -> PathBuf {
    if let Some(path) = flag {
        return path.to_owned();
    }
    if let Some(path) = std::env::var_os("PORTCULLIS_CONFIG") {
        return PathBuf::from(path);
    }
    let here = PathBuf::from("portcullis.toml");
    let system = PathBuf::from("/etc/portcullis/portcullis.toml");
    if !here.exists() && system.exists() { system } else { here }
}

/// Reads and checks the file at `path`.
///
/// # Errors
/// All faults of the file, in file order.
pub(crate) fn load(path: &Path) -> Result<Loaded, Vec<Message>> {
    let text = read_file(path).map_err(|fault| vec![fault])?;
    parse(path, &text, &environment())
}

/// Where commands of this machine ask the process of the file at `path`, even when that file is not valid: who looks for
/// what is wrong must be answered (CF9).
pub(crate) fn admin_socket(path: &Path) -> Option<PathBuf> {
    let text = read_file(path).ok()?;
    let table = read::recover(&path.display().to_string(), &text, &environment());
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let socket = match table.table("admin").and_then(|admin| admin.address("socket")) {
        Some(Address::Unix(socket)) => base.join(socket),
        _ => base.join(table.path("data_dir")?).join(meaning::ADMIN_SOCKET),
    };
    socket.exists().then_some(socket)
}

/// The registration entries of the file at `path`, which holds `[[ca.entry]]` tables and nothing else.
///
/// # Errors
/// All faults of the file, in file order.
pub(crate) fn entries(path: &Path) -> Result<Vec<NewEntry>, Vec<Message>> {
    let text = read_file(path).map_err(|fault| vec![fault])?;
    let file = path.display().to_string();
    let (tables, mut messages) = read::read_entries(&file, &text);
    let entries = match has_error(&messages) {
        true => Vec::new(),
        false => meaning::entries(&file, &text, &tables, &mut messages),
    };
    sort(&mut messages);
    if has_error(&messages) { Err(messages) } else { Ok(entries) }
}

fn environment() -> BTreeMap<String, String> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.to_string_lossy().into_owned())))
        .filter(|(name, _)| name.starts_with("PORTCULLIS_"))
        .collect()
}

/// Checks `text` as the file at `path`, whose directory relative paths start from.
pub(crate) fn parse(
    path: &Path,
    text: &str,
    environment: &BTreeMap<String, String>,
) -> Result<Loaded, Vec<Message>> {
    let file = path.display().to_string();
    let (table, mut messages) = read::read(&file, text, environment);
    let config =
        if has_error(&messages) { None } else { meaning::mean(path, &file, text, &table, &mut messages) };
    sort(&mut messages);
    match config {
        Some(config) if !has_error(&messages) => Ok(Loaded { config, table, warnings: messages }),
        _ => Err(messages),
    }
}

fn has_error(messages: &[Message]) -> bool {
    messages.iter().any(|message| message.severity == Severity::Error)
}

/// File order; what has no place comes last.
fn sort(messages: &mut [Message]) {
    messages.sort_by_key(|message| {
        message.place.as_ref().map_or((usize::MAX, 0), |place| (place.line, place.column))
    });
}

fn read_file(path: &Path) -> Result<String, Message> {
    let shown = path.display();
    let fault = |text: String| Message::error("PC0107", format!("configuration `{shown}` {text}"));
    let unreadable = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => fault("does not exist".to_owned()).next("portcullis init"),
        _ => fault(format!("cannot be read: {error}")),
    };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o002 != 0 {
        return Err(Message::error("PC0108", format!("configuration `{shown}` can be written by everybody"))
            .help("whoever can change this file can change who may call whom")
            .next(format!("chmod o-w {shown}")));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(MAX_BYTES).read_to_end(&mut bytes).map_err(unreadable)?;
    if file.read(&mut [0]).map_err(unreadable)? != 0 {
        return Err(fault(format!("is larger than {} MiB", MAX_BYTES >> 20)));
    }
    String::from_utf8(bytes).map_err(|error| fault(format!("is not UTF-8: {error}")))
}

#[cfg(test)]
mod tests;
