//! Opening: the first start makes root, signing CA and key for tokens, every later one finds them or says what is missing.
//!
//! A root is made by itself only where no authority ever was: no records, no mark (S23). Records without keys, keys
//! without records, and another trust domain refuse with the way out (AU-03).

use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwapOption;
use base_ports::{Rate, UnixTime};
use base_store::{Compare, Transaction};
use ca_identity::{Bundle, BundleMap, CertificateDer, IdentitySnapshot, PrivateKey, SpiffeId, inspect};
use parking_lot::{Mutex as Brief, RwLock};
use rcgen::Issuer;
use serde_json::json;
use tokio::sync::{Mutex, watch};

use super::{Authority, federation, revocations};
use crate::config::Config;
use crate::entry::{self, Index};
use crate::error::AuthorityError;
use crate::issue::Current;
use crate::keys::{KeyInfo, KeyKind, KeyState, KeyTable, Vault};
use crate::ports::{IdentityEvent, Ports};
use crate::sync::Removals;
use crate::token::TokenKey;
use crate::{agent, lint, row, template};

const PAGE: usize = 1000;

impl Authority {
    /// Opens the authority of a data directory, making it when the directory is new.
    ///
    /// # Errors
    /// When the configuration is wrong, or records and keys do not belong together; the text says the way out.
    pub async fn open(config: Config, ports: Ports) -> Result<Arc<Self>, AuthorityError> {
        config.check()?;
        let stored = KeyTable::load(ports.store.as_ref(), &config.trust_domain)?;
        let vault = Vault::open(&config, Arc::clone(&ports.disk), Arc::clone(&ports.rng))?;
        let (table, created) = match stored {
            Some(table) => match Self::check_key_files(&vault, &table) {
                Err(_missing) if config.force_new => Self::create(&config, &ports, &vault, table).await?,
                Err(missing) => return Err(missing),
                Ok(()) => (table, None),
            },
            None if vault.is_marked() && !config.force_new => {
                return Err(AuthorityError::RecordsMissing { keys_dir: config.keys_dir });
            }
            None => {
                let empty = KeyTable { slots: Vec::new(), revision: None };
                Self::create(&config, &ports, &vault, empty).await?
            }
        };
        let bundle = load_bundle(&config, &ports, &table)?;
        let (entries, revoked) = (load_entries(&ports)?, revocations::load(&ports)?);
        let federated = federation::load(&ports)?;
        let local_agent = SpiffeId::new(&config.trust_domain, agent::LOCAL_PATH)
            .map_err(|fault| row::unreadable(agent::LOCAL_PATH.as_bytes(), fault))?;
        if created.is_some() || !vault.is_marked() {
            vault.mark(&format!("Portcullis authority of {}\n", config.trust_domain))?;
        }
        let revision = ports.store.revision().get();
        let authority = Arc::new(Self {
            local_agent,
            current: ArcSwapOption::empty(),
            tokens: ArcSwapOption::empty(),
            token_rate: Rate::default(),
            keys: watch::Sender::new(table.slots.clone().into()),
            bundle: watch::Sender::new(bundle),
            revoked: watch::Sender::new(revoked),
            revoking: Mutex::new(()),
            revoked_at: Brief::default(),
            crls: watch::Sender::new(Arc::default()),
            listing: Mutex::new(()),
            own: Brief::default(),
            federated: watch::Sender::new(Arc::new(federated)),
            federating: Mutex::new(()),
            fetches: Brief::default(),
            entries: RwLock::new(entries),
            entries_revision: watch::Sender::new(revision),
            removals: Brief::new(Removals::since(revision)),
            last_issue_nanos: AtomicI64::new(i64::MIN),
            pruned_to: Mutex::new(None),
            taken: watch::Sender::default(),
            followed: Brief::default(),
            agents_changed: watch::Sender::default(),
            table: Mutex::new(table),
            writing: Mutex::new(()),
            config,
            ports,
            vault,
        });
        if let Some(root) = created {
            authority.tell_root(&root);
        }
        authority.set_lost_keys_aside().await?;
        authority.publish().await?;
        authority.sweep_rotation().await?;
        Ok(authority)
    }

    /// Every key that still has to sign certificates must be there and open.
    fn check_key_files(vault: &Vault, table: &KeyTable) -> Result<(), AuthorityError> {
        for slot in table.slots.iter().filter(|slot| slot.kind != KeyKind::Jwt && slot.signs()) {
            vault.load(slot.kind, slot.key_id)?;
        }
        Ok(())
    }

    /// A key for tokens without its file costs no more than a rotation (AU-03): what it signed still verifies.
    async fn set_lost_keys_aside(&self) -> Result<(), AuthorityError> {
        let mut table = self.table.lock().await;
        let mut next = table.clone();
        let in_use = next.slots.iter_mut().filter(|slot| slot.signs());
        for slot in in_use.filter(|slot| slot.kind == KeyKind::Jwt) {
            if let Err(fault) = self.vault.load(slot.kind, slot.key_id) {
                slot.state = KeyState::Old;
                let detail = fault.to_string();
                self.ports.events.event(IdentityEvent::Alarm { code: "jwt_key_lost", detail });
            }
        }
        if next.slots == table.slots {
            return Ok(());
        }
        self.commit_table(&mut table, next, Transaction::new()).await
    }

    /// A new root and its first signing CA. What was there before becomes old; old roots stay in the bundle.
    async fn create(
        config: &Config,
        ports: &Ports,
        vault: &Vault,
        mut table: KeyTable,
    ) -> Result<(KeyTable, Option<KeyInfo>), AuthorityError> {
        let now = ports.clock.now().wall;
        let root = Self::make_root(config, ports, vault, now)?;
        for slot in table.slots.iter_mut().filter(|slot| slot.signs()) {
            slot.state = KeyState::Old;
        }
        table.slots.push(root.clone());
        let signing = Self::make_signing(config, ports, vault, &root, now)?;
        table.slots.push(KeyInfo { state: KeyState::Active, ..signing });
        let transaction =
            write_table(Transaction::new(), &table, config)?.put(row::BUNDLE.to_vec(), bundle_row(&table)?);
        table.revision = Some(ports.store.commit(transaction).await?);
        Ok((table, Some(root)))
    }

    pub(super) fn make_root(
        config: &Config,
        ports: &Ports,
        vault: &Vault,
        now: UnixTime,
    ) -> Result<KeyInfo, AuthorityError> {
        let key = PrivateKey::generate_p256()?;
        let key_id = key.key_id();
        let params = template::ca(&template::Ca {
            kind: KeyKind::Root,
            domain: &config.trust_domain,
            serial: template::serial(ports.rng.as_ref()),
            not_before: now - config.backdate,
            not_after: now + config.root_ttl,
            key_id,
        })?;
        let certificate: CertificateDer<'static> = params.self_signed(&key.to_pair()?)?.into();
        let (id, spki) = (&config.trust_domain.id(), key.public_spki());
        lint::ca(&certificate, &lint::CaProfile { id, spki, issuer_key: key_id, path_len: 1 })?;
        vault.save(KeyKind::Root, key_id, &key)?;
        KeyInfo::of(KeyKind::Root, KeyState::Active, certificate)
    }

    /// A signing CA under `root`, prepared: its file is durable, no record names it yet (AU-03).
    pub(super) fn make_signing(
        config: &Config,
        ports: &Ports,
        vault: &Vault,
        root: &KeyInfo,
        now: UnixTime,
    ) -> Result<KeyInfo, AuthorityError> {
        let root_key = vault.load(KeyKind::Root, root.key_id)?;
        let key = PrivateKey::generate_p256()?;
        let key_id = key.key_id();
        let not_after = (now + config.signing_ttl).min(root.not_after);
        if not_after <= now {
            return Err(AuthorityError::NoLifetime);
        }
        let params = template::ca(&template::Ca {
            kind: KeyKind::Signing,
            domain: &config.trust_domain,
            serial: template::serial(ports.rng.as_ref()),
            not_before: (now - config.backdate).max(root.not_before),
            not_after,
            key_id,
        })?;
        let issuer = template::issuer(KeyKind::Root, &config.trust_domain, root.key_id);
        let issuer = Issuer::new(issuer, root_key.to_pair()?);
        let certificate: CertificateDer<'static> = params.signed_by(&key.to_pair()?, &issuer)?.into();
        let (id, spki) = (&config.trust_domain.id(), key.public_spki());
        lint::ca(&certificate, &lint::CaProfile { id, spki, issuer_key: root.key_id, path_len: 0 })?;
        vault.save(KeyKind::Signing, key_id, &key)?;
        KeyInfo::of(KeyKind::Signing, KeyState::Prepared, certificate)
    }

    /// A key for tokens, prepared: its file is durable, no record names it yet (AU-03).
    pub(super) fn make_jwt(&self, now: UnixTime) -> Result<KeyInfo, AuthorityError> {
        let now = UnixTime::from_secs(now.as_secs());
        let key = PrivateKey::generate_p256()?;
        self.vault.save(KeyKind::Jwt, key.key_id(), &key)?;
        Ok(KeyInfo::of_jwt(&key, now, now + self.config.jwt_key_ttl))
    }

    /// Makes what the table says the state of this moment.
    pub(super) async fn publish(&self) -> Result<(), AuthorityError> {
        let table = self.table.lock().await;
        self.publish_table(&table)
    }

    pub(super) fn publish_table(&self, table: &KeyTable) -> Result<(), AuthorityError> {
        self.keys.send_replace(table.slots.clone().into());
        self.publish_tokens(table)?;
        let root = table.find(KeyKind::Root, KeyState::Active);
        let signing = table.find(KeyKind::Signing, KeyState::Active);
        let (Some(root), Some((signing, issuer_der))) =
            (root, signing.and_then(|signing| Some((signing, signing.certificate()?.clone()))))
        else {
            self.current.store(None);
            return Ok(());
        };
        let key = self.vault.load(KeyKind::Signing, signing.key_id)?;
        let issuer = template::issuer(KeyKind::Signing, &self.config.trust_domain, signing.key_id);
        let bundle = self.bundle();
        let bundles = BundleMap::of(Arc::clone(&bundle));
        self.current.store(Some(Arc::new(Current {
            issuer: Issuer::new(issuer, key.to_pair()?),
            issuer_key: signing.key_id,
            issuer_der,
            not_before: signing.not_before,
            not_after: signing.not_after.min(root.not_after),
            verify: IdentitySnapshot { bundles, ..IdentitySnapshot::default() },
            authority_keys: table.slots.iter().map(|slot| slot.key_id).collect(),
            bundle,
        })));
        Ok(())
    }

    fn publish_tokens(&self, table: &KeyTable) -> Result<(), AuthorityError> {
        let Some(active) = table.find(KeyKind::Jwt, KeyState::Active) else {
            self.tokens.store(None);
            return Ok(());
        };
        let key = self.vault.load(KeyKind::Jwt, active.key_id)?;
        let ready = TokenKey::ready(&key, active.not_after, self.bundle(), &self.config, self.now())?;
        self.tokens.store(Some(Arc::new(ready)));
        Ok(())
    }

    /// A new root is never silent (S23).
    fn tell_root(&self, root: &KeyInfo) {
        let facts = root.certificate().and_then(|certificate| inspect::certificate(certificate).ok());
        let fingerprint = facts.map(|facts| facts.fingerprint).unwrap_or_default();
        self.ports.events.event(IdentityEvent::RootCreated {
            trust_domain: self.config.trust_domain.clone(),
            key_id: root.key_id,
            fingerprint,
            not_after: root.not_after,
        });
    }
}

/// The row of the key table, written only over the revision that was read.
pub(super) fn write_table(
    with: Transaction,
    table: &KeyTable,
    config: &Config,
) -> Result<Transaction, AuthorityError> {
    let base = table.revision.map_or(Compare::Absent, Compare::ModifiedAt);
    let value = table.to_row(&config.trust_domain)?;
    Ok(with.require(row::KEYS.to_vec(), base).put(row::KEYS.to_vec(), value))
}

/// The content of the bundle; its row changes exactly when the content does, so its revision is the sequence.
pub(super) fn bundle_row(table: &KeyTable) -> Result<Vec<u8>, AuthorityError> {
    let of = |kind| table.published(kind).map(|slot| slot.key_id.to_string()).collect::<Vec<_>>();
    row::write(row::BUNDLE, &json!({ "roots": of(KeyKind::Root), "jwt": of(KeyKind::Jwt) }))
}

/// The bundle with the sequence of its row (TB-03, AU-08).
pub(super) fn load_bundle(
    config: &Config,
    ports: &Ports,
    table: &KeyTable,
) -> Result<Arc<Bundle>, AuthorityError> {
    let row = ports.store.get(row::BUNDLE)?;
    let row = row.ok_or_else(|| row::unreadable(row::BUNDLE, "the row is missing"))?;
    let bundle =
        Bundle::new(config.trust_domain.clone(), table.roots().cloned().collect(), row.modified.get())?;
    Ok(Arc::new(bundle.with_jwt_keys(table.jwt_keys()?)?))
}

fn load_entries(ports: &Ports) -> Result<Index, AuthorityError> {
    let mut index = Index::default();
    for page in base_store::pages(ports.store.as_ref(), row::ENTRY.as_bytes(), PAGE) {
        for stored in page? {
            let entry = entry::from_row(&stored.key, &stored.value, stored.modified.get())?;
            index.insert(Arc::new(entry));
        }
    }
    Ok(index)
}
