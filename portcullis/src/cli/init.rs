//! `portcullis init`: the files of a first gateway. Asks nothing, overwrites nothing.

use std::fs;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::json;

use super::Global;
use crate::messages::Message;
use crate::output::{self, Answer, Exit};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Directory to write into; made when absent
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Trust domain of the new installation
    #[arg(long, default_value = "example.org")]
    trust_domain: String,
    /// What to write: a gateway before a service, or one beside an application
    #[arg(long, value_enum, default_value_t)]
    template: Template,
    /// For the system service: state in /var/lib/portcullis, the Workload API in /run/portcullis
    #[arg(long)]
    system: bool,
}

/// What is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Template {
    /// A gateway before one service, with its own certificate authority
    #[default]
    Gateway,
    /// A gateway beside one application that knows no TLS: it calls and is called under its own identity
    Sidecar,
}

impl Template {
    /// Files with their text.
    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Gateway => &[
                ("portcullis.toml", CONFIG),
                ("policies/orders.cedar", POLICY),
                ("policies/orders_test.json", CASES),
            ],
            Self::Sidecar => &[
                ("portcullis.toml", include_str!("init/sidecar.toml")),
                ("policies/sidecar.cedar", include_str!("init/sidecar.cedar")),
                ("policies/sidecar_test.json", include_str!("init/sidecar_test.json")),
            ],
        }
    }

    /// What is to be set before the first start.
    fn next(self) -> &'static str {
        match self {
            Self::Gateway => "the address of your service (enforcer.route.to)",
            Self::Sidecar => {
                "its identity (enforcer.id), whom it calls (enforcer.cluster) and where it listens (the last route)"
            }
        }
    }
}

/// Where the system service has its state.
const STATE: &str = "/var/lib/portcullis";

const CONFIG: &str = include_str!("init/portcullis.toml");
const POLICY: &str = include_str!("init/orders.cedar");
const CASES: &str = include_str!("init/orders_test.json");

pub(crate) fn run(options: &Options, global: &Global) -> Exit {
    if let Err(error) = ca_identity::TrustDomain::parse(&options.trust_domain) {
        let fault = Message::error("PC0104", format!("--trust-domain: {error}"));
        output::report(&[fault], global.format());
        return Exit::Usage;
    }
    match write(&options.dir, &options.trust_domain, options.template, options.system) {
        Ok(files) => {
            let file = options.dir.join("portcullis.toml").display().to_string();
            let run = match options.system {
                true => "systemctl enable --now portcullis".to_owned(),
                false => format!("portcullis run -c {file}"),
            };
            let text = format!(
                "wrote {}\nnext: set {} in {file}, then\n  {run}\nundo: delete these files",
                files.join(", "),
                options.template.next(),
            );
            Answer::object("Init", json!({ "files": files }), text).print(global.format());
            Exit::Done
        }
        Err(fault) => {
            output::report(&[fault], global.format());
            Exit::Failed
        }
    }
}

/// Writes the files and names them.
///
/// # Errors
/// A file that exists already, before anything is written; or what the disk said.
pub(crate) fn write(
    dir: &Path,
    trust_domain: &str,
    template: Template,
    is_system: bool,
) -> Result<Vec<String>, Message> {
    let schema = serde_json::to_string_pretty(&crate::config::json_schema()).unwrap_or_default();
    let mut files = vec![("portcullis.schema.json", schema)];
    files.extend(template.files().iter().map(|(name, text)| (*name, (*text).to_owned())));
    for (name, _) in &files {
        let path = dir.join(name);
        if path.exists() {
            return Err(Message::error(
                "PC0150",
                format!("`{}` exists already; nothing was written", path.display()),
            )
            .next("portcullis init ANOTHER_DIRECTORY"));
        }
    }
    let failed = |path: &Path, error: &std::io::Error| {
        Message::error("PC0107", format!("`{}` cannot be written: {error}", path.display()))
    };
    let user = format!("unix:uid:{}", rustix::process::getuid().as_raw());
    let mut written = Vec::new();
    for (name, text) in &files {
        let path = dir.join(name);
        // Whatever the umask: files that a group can write are refused by `run`.
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            let made = fs::create_dir_all(parent).and_then(|()| fs::set_permissions(parent, mode(0o755)));
            made.map_err(|error| failed(parent, &error))?;
        }
        let mut text = text.replace("example.org", trust_domain).replace("unix:uid:1000", &user);
        if is_system {
            text = text.replace("unix://./data/", "unix:///run/portcullis/").replace("./data", STATE);
        }
        let made = fs::write(&path, text).and_then(|()| fs::set_permissions(&path, mode(0o644)));
        made.map_err(|error| failed(&path, &error))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

fn mode(mode: u32) -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(mode)
}
