//! Policies as numbered, signed, checked versions: from a watched directory, from changes that people approve.
//!
//! `portcullis run` opens a [`PolicyStore`], tells it the entities, and subscribes to its snapshots; `policy validate`
//! and `policy test` call [`check_dir`] and [`run_cases`], which start nothing and store nothing.
//! A bad edit never takes effect: the last good snapshot stays, also across a restart, and the findings are told.
//! This crate judges no call and knows no network. Five types to know: [`PolicyStore`], [`StoreConfig`], [`Change`],
//! [`VersionInfo`], [`Status`].

mod archive;
mod candidate;
mod cases;
mod change;
mod changes;
mod check;
mod content;
#[cfg(test)]
mod crash;
mod drafts;
mod error;
mod feed;
mod files;
mod fingerprint;
mod follow;
mod format;
mod generated;
mod history;
mod inspect;
mod lint;
mod load;
mod manifest;
mod note;
mod open;
mod outside;
mod part;
mod ports;
mod position;
mod registry;
mod release;
mod replace;
mod retain;
mod rules;
mod schema;
mod shadow;
mod signing;
mod state;
mod status;
mod store;
#[cfg(test)]
mod testing;
mod tidy;
mod version;
mod versions;
mod watch;
mod watched;
mod writer;

pub use cases::{CaseReport, CaseResult, run_cases};
pub use change::{Approval, Change, ChangeId, Checked, Checks, Edit, Impact, NewChange};
pub use check::{Report, check_dir, compile_dir};
pub use error::PolicyStoreError;
pub use feed::{Announcement, EnforcerStatus, Feed};
pub use follow::{AdminSocket, Connection, FollowConfig, FollowStatus, Follower, Way};
pub use format::{Formatted, format_files, format_path, write_formatted};
pub use lint::{LintAsk, LintReport, fix_path, lint_path};
pub use note::{NoteError, Verifier, verify};
pub use ports::{Activation, Activations, NonePinned, Old, Outcome, Pinned, Saves, Unguarded, Unrecorded};
pub use position::Position;
pub use schema::{check_schema, schema_of};
pub use signing::Signer;
pub use state::{Refusal, Stage};
pub use status::{Reloads, ShadowEnded, Shadowed, Status};
pub use store::{PolicyStore, StoreConfig};
pub use version::{Activated, BlameLine, HistoryEntry, Origin, Standing, Step, VersionInfo};
pub use watched::WatchedDir;
