//! Lines of the stream as values, and what each does to a copy. The authority writes them (`ca/authority/src/sync.rs`).

use std::sync::Arc;

use base_ports::UnixTime;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ca_identity::{Bundle, MARK, RevocationSet, Selector, SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::{Replica, SyncError, hash, own_bundle};
use crate::upstream::AgentEntry;

/// A word for the content of each part: equal words, equal parts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    pub(super) entries: String,
    pub(super) bundle: String,
    pub(super) federated: String,
    pub(super) denied: String,
    pub(super) tainted: String,
    pub(super) crls: String,
}

impl Versions {
    /// The first part that is not the same.
    pub(super) fn differing(&self, other: &Self) -> Option<&'static str> {
        [
            ("entries", &self.entries, &other.entries),
            ("bundle", &self.bundle, &other.bundle),
            ("federated bundles", &self.federated, &other.federated),
            ("deny set", &self.denied, &other.denied),
            ("tainted keys", &self.tainted, &other.tainted),
            ("revocation lists", &self.crls, &other.crls),
        ]
        .into_iter()
        .find_map(|(part, one, other)| (one != other).then_some(part))
    }
}

/// What is asked when a stream begins: what there is already.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Resume {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<u64>,
    pub(super) versions: Versions,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "frame", rename_all = "snake_case")]
pub(super) enum Frame {
    Entries {
        whole: bool,
        put: Vec<EntryFrame>,
        gone: Vec<String>,
    },
    Bundle {
        document: String,
    },
    Federated {
        whole: bool,
        put: Vec<FederatedFrame>,
        gone: Vec<String>,
    },
    Denied {
        whole: bool,
        put: String,
        gone: String,
    },
    Tainted {
        whole: bool,
        put: String,
        gone: String,
    },
    Crls {
        lists: Vec<String>,
    },
    State {
        revision: u64,
        versions: Versions,
    },
    /// Of a newer authority.
    #[serde(other)]
    Unknown,
}

#[derive(Debug, Deserialize)]
pub(super) struct EntryFrame {
    id: String,
    revision: u64,
    spiffe_id: String,
    selectors: Vec<String>,
    dns_names: Vec<String>,
    federates_with: Vec<String>,
    hint: String,
    created_at_nanos: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct FederatedFrame {
    trust_domain: String,
    document: String,
    stale_after_nanos: Option<i64>,
}

impl Frame {
    /// Changes the copy. `State` and what is not known change nothing.
    pub(super) fn apply(self, copy: &mut Replica, domain: &TrustDomain) -> Result<(), SyncError> {
        match self {
            Self::Entries { whole, put, gone } => {
                let entries = Arc::make_mut(&mut copy.entries);
                if whole {
                    entries.clear();
                }
                for id in gone {
                    entries.remove(&id);
                }
                for entry in put {
                    let read = entry.read(domain);
                    if read.is_none() {
                        tracing::warn!(
                            entry = entry.id,
                            "an entry that this release cannot use; nothing is served for it"
                        );
                    }
                    entries.insert(entry.id, (entry.revision, read));
                }
            }
            Self::Bundle { document } => {
                copy.bundle = own_bundle(domain, &document)?;
                copy.document = document.into();
            }
            Self::Federated { whole, put, gone } => {
                let federated = Arc::make_mut(&mut copy.federated);
                if whole {
                    federated.clear();
                }
                let named =
                    |text: &str| TrustDomain::parse(text).map_err(|_fault| SyncError::Part("trust domain"));
                for name in gone {
                    federated.remove(&named(&name)?);
                }
                for FederatedFrame { trust_domain, document, stale_after_nanos } in put {
                    let foreign = named(&trust_domain)?;
                    let bundle = Bundle::from_jwks(foreign.clone(), document.as_bytes())
                        .map_err(|_fault| SyncError::Part("bundle of another trust domain"))?;
                    let bundle = match stale_after_nanos {
                        Some(end) => bundle.with_stale_after(UnixTime::from_nanos(end)),
                        None => bundle,
                    };
                    federated.insert(foreign, (hash(document.as_bytes()), Arc::new(bundle)));
                }
            }
            Self::Denied { whole, put, gone } => marks(&mut copy.denied, whole, &put, &gone)?,
            Self::Tainted { whole, put, gone } => marks(&mut copy.tainted, whole, &put, &gone)?,
            Self::Crls { lists } => {
                let list = |text: &String| STANDARD.decode(text).map(Arc::from);
                let lists: Result<Vec<_>, _> = lists.iter().map(list).collect();
                copy.crls = Arc::new(lists.map_err(|_fault| SyncError::Part("revocation list"))?);
            }
            Self::State { .. } | Self::Unknown => {}
        }
        Ok(())
    }
}

impl EntryFrame {
    fn read(&self, domain: &TrustDomain) -> Option<AgentEntry> {
        let spiffe_id = SpiffeId::parse(&self.spiffe_id).ok().filter(|id| id.is_member_of(domain))?;
        let selectors = self.selectors.iter().map(|text| Selector::parse(text).ok());
        let federates_with = self.federates_with.iter().map(|text| TrustDomain::parse(text).ok());
        Some(AgentEntry {
            id: self.id.clone(),
            spiffe_id,
            selectors: selectors.collect::<Option<_>>()?,
            dns_names: self.dns_names.clone(),
            federates_with: federates_with.collect::<Option<_>>()?,
            hint: self.hint.clone(),
            created_at: UnixTime::from_nanos(self.created_at_nanos),
        })
    }
}

fn marks(set: &mut RevocationSet, whole: bool, put: &str, gone: &str) -> Result<(), SyncError> {
    if whole {
        *set = RevocationSet::default();
    }
    set.put_marks(decode(put)?);
    set.remove_marks(decode(gone)?);
    Ok(())
}

fn decode(text: &str) -> Result<Vec<[u8; MARK]>, SyncError> {
    let wrong = || SyncError::Part("deny set");
    let bytes = STANDARD.decode(text).map_err(|_fault| wrong())?;
    let (marks, []) = bytes.as_chunks::<MARK>() else { return Err(wrong()) };
    Ok(marks.to_vec())
}
