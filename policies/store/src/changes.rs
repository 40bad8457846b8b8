//! Changes in the store: made, edited, checked, approved, committed, abandoned (ST6).
//!
//! Each step reads the change, asks its state machine, and stores the answer, comparing the revision that was read.
//! Rights are not asked here: `portcullis` asks Cedar over [`Change::context`] and hands the revision it asked about.

use crate::{
    Approval, Change, ChangeId, Checks, Edit, Impact, NewChange, Origin, PolicyStore, PolicyStoreError,
    VersionInfo,
    archive::Turn,
    content::Content,
    drafts::{self, Draft},
    files::{FileKind, Files},
    inspect::Depth,
    manifest::Meta,
    outside::Outside,
    release::Candidate,
    rules::{CASES_BYTES, ENTITIES_BYTES, FILE_BYTES, Rules, SCHEMA_BYTES, Shipped},
    state::{Event, Life, Stage},
    writer::{Writer, content},
};
use base_store::{Store, StoreError, Transaction};
use policies_engine::policy_texts;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Changes that are open at the same time.
const OPEN: usize = 256;
/// Changes that have ended and are still listed.
const ENDED: usize = 256;
/// Texts of one change, in bytes, all together: below the longest transaction of a store.
const CHANGE_BYTES: usize = 12 << 20;
const LINE_BYTES: usize = 4 << 10;

impl PolicyStore {
    /// Makes a change.
    ///
    /// # Errors
    /// Its base is no version, a file cannot be taken, there are too many open changes, or it cannot be stored.
    pub async fn draft(&self, new: NewChange) -> Result<Change, PolicyStoreError> {
        let writer = self.writer.lock().await;
        let newest = writer.lineage().newest;
        let base = new.base.unwrap_or(newest);
        if base > newest {
            return Err(PolicyStoreError::UnknownVersion(base));
        }
        for (what, text) in [("bytes of a message", &new.message), ("bytes of an author", &new.author)] {
            within(what, text.len(), LINE_BYTES)?;
        }
        within("bytes of a ticket", new.ticket.as_ref().map_or(0, String::len), LINE_BYTES)?;
        let files = self.base_files(base)?;
        let edits = edited(BTreeMap::new(), new.edits, &files)?;
        let all = drafts::all(&*self.store)?;
        within("open changes", all.iter().filter(|draft| draft.life.stage.is_open()).count() + 1, OPEN)?;
        let now = self.clock.now().wall;
        let mut draft = Draft {
            id: drafts::next(&*self.store)?,
            base,
            author: new.author,
            message: new.message,
            ticket: new.ticket,
            created: now,
            updated: now,
            life: Life::new(files.hash()),
            edits,
            checked: None,
            impact: None,
            approvals: Vec::new(),
            revision: None,
        };
        draft.life = Life::new(draft.files(&files).hash());
        let mut transaction = Transaction::new();
        let ended: Vec<&Draft> = all.iter().rev().filter(|draft| !draft.life.stage.is_open()).collect();
        for old in ended.into_iter().skip(ENDED - 1) {
            transaction = drafts::forget(&*self.store, old.id, transaction)?;
        }
        drop(writer);
        self.keep(draft, transaction).await
    }

    /// Adds edits to a change, if its revision is still `if_revision`; drops its checks and approvals when that makes
    /// another content. An edit whose text is the base's takes the file out of the change.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it is not open, a file cannot be taken, or it cannot be stored.
    pub async fn edit_change(
        &self,
        id: ChangeId,
        if_revision: u64,
        edits: Vec<Edit>,
    ) -> Result<Change, PolicyStoreError> {
        let mut draft = self.seen(id, if_revision)?;
        let files = self.base_files(draft.base)?;
        draft.edits = edited(std::mem::take(&mut draft.edits), edits, &files)?;
        let content = draft.files(&files).hash();
        self.after(draft, &Event::Edit { content }).await
    }

    /// Lets a change start from the newest version, if no policy was changed on both sides.
    ///
    /// # Errors
    /// [`PolicyStoreError::Conflict`] names the policies that both changed; else as [`PolicyStore::edit_change`].
    pub async fn rebase_change(&self, id: ChangeId, if_revision: u64) -> Result<Change, PolicyStoreError> {
        let head = self.writer.lock().await.lineage().newest;
        let mut draft = self.seen(id, if_revision)?;
        let (base, newest) = (self.base_files(draft.base)?, self.base_files(head)?);
        let both: BTreeSet<&str> =
            newest.differing(&base).filter(|name| draft.edits.contains_key(*name)).collect();
        if !both.is_empty() {
            return Err(self.conflict(&draft, head)?);
        }
        draft.base = head;
        draft.edits = edited(BTreeMap::new(), edits_of(&draft), &newest)?;
        let content = draft.files(&newest).hash();
        self.after(draft, &Event::Edit { content }).await
    }

    /// A change. Blocks.
    ///
    /// # Errors
    /// It is not stored, or cannot be read.
    pub fn change(&self, id: ChangeId) -> Result<Change, PolicyStoreError> {
        Ok(drafts::read(&*self.store, id)?.into_change())
    }

    /// Every change that is kept, newest first: all open ones, and the last that ended, without their files. Blocks.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn changes(&self) -> Result<Vec<Change>, PolicyStoreError> {
        Ok(drafts::all(&*self.store)?.into_iter().rev().map(Draft::into_change).collect())
    }

    /// Compiles the change with the entities in force, runs its cases, compares it with the version in force, and
    /// notes what came of it. The summary of the result is in [`Change::checked`] from then on.
    ///
    /// # Errors
    /// It is not open, was edited while the check ran, or cannot be stored. Findings are no error.
    pub async fn check_change(&self, id: ChangeId) -> Result<Checks, PolicyStoreError> {
        let draft = drafts::read(&*self.store, id)?;
        // Refuses at once what has ended.
        draft.life.after(&Event::Check { content: draft.life.content, passed: false })?;
        let (numbers, before, content) = {
            let writer = self.writer.lock().await;
            let numbers = writer.next(writer.lineage().committed().newest);
            (numbers, self.before(&writer)?, self.content_of_draft(&writer, &draft))
        };
        let checks = match content {
            Ok(content) => self.inspected(&content, numbers, before, Depth::Check).await?.checks,
            Err(PolicyStoreError::Invalid(found)) => Checks::refused(found),
            Err(cause) => return Err(cause),
        };
        let event = Event::Check { content: draft.life.content, passed: checks.summary.passed };
        let mut now = drafts::read(&*self.store, id)?;
        now.checked = Some(checks.summary.clone());
        self.after(now, &event).await?;
        Ok(checks)
    }

    /// Notes what a replay of recorded decisions found for the content of that revision.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it is not open, or it cannot be stored.
    pub async fn note_impact(
        &self,
        id: ChangeId,
        if_revision: u64,
        impact: Impact,
    ) -> Result<Change, PolicyStoreError> {
        let mut draft = self.seen(id, if_revision)?;
        let event = Event::Edit { content: draft.life.content };
        draft.impact = Some(impact);
        self.after(draft, &event).await
    }

    /// Notes that `by` approves the content of that revision. Whether he may is the caller's to ask Cedar.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`], it was not checked as it is, or it cannot be stored.
    pub async fn approve(
        &self,
        id: ChangeId,
        if_revision: u64,
        by: &str,
    ) -> Result<Change, PolicyStoreError> {
        within("bytes of an approver", by.len(), drafts::LONGEST_NAME)?;
        let draft = self.seen(id, if_revision)?;
        let event = Event::Approve { content: draft.life.content, by: by.to_owned() };
        self.after(draft, &event).await
    }

    /// Makes a signed, numbered version of the change; not in force until [`PolicyStore::activate`]. Whether `by` may
    /// is the caller's to ask Cedar over [`Change::context`] of this revision: a change that was written since is
    /// refused.
    ///
    /// # Errors
    /// [`PolicyStoreError::Stale`]; [`PolicyStoreError::Conflict`] when its base is not the newest version; not
    /// checked; no longer valid with the entities there are now; or not stored, then nothing was committed.
    pub async fn commit(
        &self,
        id: ChangeId,
        if_revision: u64,
        by: &str,
    ) -> Result<VersionInfo, PolicyStoreError> {
        let mut writer = self.writer.lock().await;
        let mut draft = self.seen(id, if_revision)?;
        let lineage = writer.lineage();
        let (newest, policies) = (lineage.newest, lineage.committed().newest);
        let life = draft.life.after(&Event::Commit { policies })?;
        if draft.base != newest {
            return Err(self.conflict(&draft, newest)?);
        }
        if draft.edits.is_empty() {
            return Err(PolicyStoreError::Input(format!("change {id} changes nothing")));
        }
        let content = self.content_of_draft(&writer, &draft)?;
        let objects = content.objects().map_err(|cause| PolicyStoreError::damaged("entities", cause))?;
        let numbers = writer.next(policies);
        let snapshot = self.compiled(&content, numbers).await?;
        let meta = Meta {
            origin: Origin::Change,
            author: draft.author.clone(),
            committer: by.to_owned(),
            approvers: life.approvals.iter().cloned().collect(),
            message: draft.message.clone(),
            ticket: draft.ticket.clone(),
            change: Some(id),
            checks: draft.checked.clone().unwrap_or_default(),
            ..Meta::default()
        };
        draft.life = life;
        draft.updated = self.clock.now().wall;
        let also = drafts::put(&*self.store, &draft, Transaction::new())?;
        let candidate = Candidate { content, objects, numbers, meta };
        self.write(&mut writer, candidate, Turn::Stored, None, also).await?;
        self.hold(snapshot);
        self.version_info(policies)
    }

    /// Gives a change up.
    ///
    /// # Errors
    /// It is not open, or it cannot be stored.
    pub async fn abandon(&self, id: ChangeId) -> Result<Change, PolicyStoreError> {
        let draft = drafts::read(&*self.store, id)?;
        self.after(draft, &Event::Abandon).await
    }

    /// The change, if it is still of that revision.
    fn seen(&self, id: ChangeId, if_revision: u64) -> Result<Draft, PolicyStoreError> {
        let draft = drafts::read(&*self.store, id)?;
        match draft.revision.map_or(0, |revision| revision.get()) {
            revision if revision == if_revision => Ok(draft),
            revision => Err(PolicyStoreError::Stale { id, revision }),
        }
    }

    /// Stores what the change is after `event`.
    async fn after(&self, mut draft: Draft, event: &Event) -> Result<Change, PolicyStoreError> {
        let before = draft.life.content;
        draft.life = draft.life.after(event)?;
        draft.updated = self.clock.now().wall;
        if draft.life.content != before {
            (draft.checked, draft.impact) = (None, None);
        }
        draft.approvals.retain(|approval| draft.life.approvals.contains(&approval.by));
        for by in &draft.life.approvals {
            if !draft.approvals.iter().any(|approval| approval.by == *by) {
                draft.approvals.push(Approval { by: by.clone(), at: draft.updated });
            }
        }
        self.keep(draft, Transaction::new()).await
    }

    async fn keep(&self, draft: Draft, transaction: Transaction) -> Result<Change, PolicyStoreError> {
        let id = draft.id;
        match self.store.commit(drafts::put(&*self.store, &draft, transaction)?).await {
            Ok(_) => self.change(id),
            Err(StoreError::Conflict { .. }) => {
                let now = drafts::read(&*self.store, id)?;
                Err(PolicyStoreError::Stale {
                    id,
                    revision: now.revision.map_or(0, |revision| revision.get()),
                })
            }
            Err(cause) => Err(cause.into()),
        }
    }

    fn base_files(&self, base: u64) -> Result<Arc<Files>, PolicyStoreError> {
        if base == 0 { Ok(Arc::default()) } else { Ok(self.rules_of(base)?.files) }
    }

    /// What would be in force, if the change were.
    fn content_of_draft(&self, writer: &Writer, draft: &Draft) -> Result<Content, PolicyStoreError> {
        let files = draft.files(&*self.base_files(draft.base)?);
        if files.hash() != draft.life.content {
            return Err(PolicyStoreError::damaged(format!("change {}", draft.id), "its files are others"));
        }
        let good = self.good(writer)?;
        let prefix = good.as_ref().map(|rules| &*rules.prefix);
        let rules = Rules::new(files, Shipped::here(), prefix, Outside::default());
        let wanted = self.wanted.lock().clone();
        Ok(content(rules.map_err(PolicyStoreError::Invalid)?, &wanted))
    }

    /// The change and version `head` both came after its base: which policies did both change? Files, when they changed
    /// different policies of one file.
    fn conflict(&self, draft: &Draft, head: u64) -> Result<PolicyStoreError, PolicyStoreError> {
        let (old, new) = (self.base_files(draft.base)?, self.base_files(head)?);
        let files = new.differing(&old);
        let (base, newest, ours) = (by_id(&old), by_id(&new), by_id(&draft.files(&old)));
        let differs = |side: &BTreeMap<String, String>, id: &String| side.get(id) != base.get(id);
        let ids: BTreeSet<&String> = base.keys().chain(newest.keys()).chain(ours.keys()).collect();
        let both = ids.into_iter().filter(|id| differs(&newest, id) && differs(&ours, id));
        let mut conflicting: Vec<String> = both.cloned().collect();
        if conflicting.is_empty() {
            conflicting = files.filter(|name| draft.edits.contains_key(*name)).map(str::to_owned).collect();
        }
        Ok(PolicyStoreError::Conflict { head, conflicting })
    }
}

/// Policies by id, other files by name.
fn by_id(files: &Files) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for (name, text) in files.iter() {
        match FileKind::of(name) {
            Some(FileKind::Policy | FileKind::Baseline) => {
                let texts = policy_texts(text).into_iter();
                all.extend(texts.filter_map(|policy| Some((policy.id?, policy.text))));
            }
            _ => drop(all.insert(name.to_owned(), text.to_string())),
        }
    }
    all
}

fn edits_of(draft: &Draft) -> Vec<Edit> {
    let edit = |(file, text): (&String, &Option<Arc<str>>)| Edit {
        file: file.clone(),
        text: text.as_ref().map(ToString::to_string),
    };
    draft.edits.iter().map(edit).collect()
}

/// `edits` after `more`, without those that leave the base as it is.
fn edited(
    mut edits: BTreeMap<String, Option<Arc<str>>>,
    more: Vec<Edit>,
    base: &Files,
) -> Result<BTreeMap<String, Option<Arc<str>>>, PolicyStoreError> {
    for Edit { file, text } in more {
        let cap = match FileKind::of(&file) {
            Some(FileKind::Policy | FileKind::Baseline | FileKind::Links) => FILE_BYTES,
            Some(FileKind::Schema) => SCHEMA_BYTES,
            Some(FileKind::Entities) => ENTITIES_BYTES,
            Some(FileKind::Cases | FileKind::Facts) => CASES_BYTES,
            None => {
                let names = "*.cedar, *.cedarschema, *.json or baseline/*.cedar";
                return Err(PolicyStoreError::Input(format!("`{file}` is no policy file; {names} are")));
            }
        };
        within("bytes of a file", text.as_ref().map_or(0, String::len), cap)?;
        if text.is_none() && base.get(&file).is_none() && !edits.contains_key(&file) {
            return Err(PolicyStoreError::Input(format!("there is no `{file}` to delete")));
        }
        edits.insert(file, text.map(Arc::from));
    }
    edits.retain(|file, text| base.get(file) != text.as_ref());
    let all = edits.iter().map(|(file, text)| file.len() + text.as_ref().map_or(0, |text| text.len()));
    within("bytes of a change", all.sum(), CHANGE_BYTES)?;
    Ok(edits)
}

fn within(what: &'static str, value: usize, cap: usize) -> Result<(), PolicyStoreError> {
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    if value <= cap {
        return Ok(());
    }
    Err(PolicyStoreError::TooMuch { what, value: number(value), cap: number(cap) })
}

/// What notes that the version of that change came into force; nothing when there is none, or it is gone.
pub(crate) fn activated_row(
    store: &Arc<dyn Store>,
    change: Option<ChangeId>,
) -> Result<Transaction, PolicyStoreError> {
    let draft = match change.map(|id| drafts::read(&**store, id)) {
        Some(Ok(draft)) if draft.life.stage == Stage::Committed => draft,
        None | Some(Ok(_) | Err(PolicyStoreError::UnknownChange(_))) => return Ok(Transaction::new()),
        Some(Err(cause)) => return Err(cause),
    };
    let life = draft.life.after(&Event::Activate)?;
    drafts::put(&**store, &Draft { life, ..draft }, Transaction::new())
}

#[cfg(test)]
pub(crate) mod tests;
