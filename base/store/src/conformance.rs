//! What every store must do, as one suite: run by each implementation, in this crate and in others.

use std::sync::Arc;

use bytes::Bytes;

use crate::{Change, Compare, Event, Revision, Store, StoreError, Transaction};

/// Runs the whole suite; each part on a fresh store from `make`.
///
/// # Errors
/// The first rule that does not hold, in words.
pub async fn check<F>(mut make: F) -> Result<(), String>
where
    F: FnMut() -> Arc<dyn Store>,
{
    revisions(&*make()).await.map_err(said("revisions"))?;
    ranges(&*make()).await.map_err(said("ranges"))?;
    compares(&*make()).await.map_err(said("compares"))?;
    races(make()).await.map_err(said("races"))?;
    watches(&*make()).await.map_err(said("watches"))?;
    limits(&*make()).await.map_err(said("limits"))
}

fn said(part: &'static str) -> impl Fn(Broken) -> String {
    move |broken| match broken {
        Broken::Rule(rule) => format!("{part}: {rule}"),
        Broken::Store(error) => format!("{part}: {error}"),
    }
}

enum Broken {
    Rule(String),
    Store(StoreError),
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn expect(holds: bool, rule: &str) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken::Rule(rule.to_owned())) }
}

async fn revisions(store: &dyn Store) -> Result<(), Broken> {
    expect(store.revision() == Revision::ZERO, "a new store is at revision 0")?;
    let first = store.commit(Transaction::new().put("a", "1").put("b", "1")).await?;
    let second = store.commit(Transaction::new().put("a", "2").delete("b")).await?;
    expect((first.get(), second.get()) == (1, 2), "revisions grow by one")?;
    expect(store.revision() == second, "the store is at its newest commit")?;
    let entry = store.get(b"a")?;
    let entry = entry.as_ref().map(|entry| (entry.created.get(), entry.modified.get(), entry.value.clone()));
    expect(entry == Some((1, 2, Bytes::from("2"))), "a change keeps `created` and moves `modified`")?;
    expect(store.get(b"b")?.is_none(), "a deleted key is gone")?;
    let nothing = store.commit(Transaction::new().delete("never")).await?;
    expect(nothing.get() == 3, "deleting what is absent is a commit")?;
    store.commit(Transaction::new().put("b", "2")).await?;
    let created = store.get(b"b")?.map(|entry| entry.created.get());
    expect(created == Some(4), "a key made again has a new `created`")?;
    let twice = store.commit(Transaction::new().put("c", "1").put("c", "2")).await;
    expect(
        twice.is_ok() && store.get(b"c")?.is_some_and(|entry| entry.value == "2"),
        "the later change of a key wins",
    )
}

async fn ranges(store: &dyn Store) -> Result<(), Broken> {
    let keys = ["a", "b/1", "b/2", "b/3", "b0", "c"];
    store.commit(keys.iter().fold(Transaction::new(), |all, key| all.put(*key, *key))).await?;
    let of = |prefix: &str, after: Option<&str>, limit: usize| -> Result<Vec<String>, StoreError> {
        let found = store.range(prefix.as_bytes(), after.map(str::as_bytes), limit)?;
        Ok(found.iter().map(|entry| String::from_utf8_lossy(&entry.key).into_owned()).collect())
    };
    expect(of("b/", None, 10)? == ["b/1", "b/2", "b/3"], "a range holds its prefix, in order")?;
    expect(of("b/", Some("b/1"), 10)? == ["b/2", "b/3"], "`after` is exclusive")?;
    expect(of("b/", Some("a"), 1)? == ["b/1"], "an `after` below the prefix changes nothing; `limit` holds")?;
    expect(of("b/", Some("b/9"), 10)?.is_empty(), "nothing after the end")?;
    expect(of("", None, 100)?.len() == keys.len(), "the empty prefix is everything")
}

async fn compares(store: &dyn Store) -> Result<(), Broken> {
    let made = store.commit(Transaction::new().require("k", Compare::Absent).put("k", "1")).await?;
    let wrong = [Compare::Absent, Compare::ModifiedAt(made.next()), Compare::ValueIs(Bytes::from("2"))];
    for compare in wrong {
        let refused =
            store.commit(Transaction::new().require("k", compare).put("k", "x").put("other", "x")).await;
        expect(
            matches!(&refused, Err(StoreError::Conflict { key }) if key == b"k"),
            "a failed compare names its key",
        )?;
    }
    expect(
        store.get(b"other")?.is_none() && store.revision() == made,
        "a refused transaction changes nothing",
    )?;
    let right = [Compare::Present, Compare::ModifiedAt(made), Compare::ValueIs(Bytes::from("1"))];
    let all = right.into_iter().fold(Transaction::new(), |all, compare| all.require("k", compare));
    store.commit(all.put("k", "2")).await?;
    let gone = store.commit(Transaction::new().require("no", Compare::Present).put("x", "x")).await;
    expect(matches!(gone, Err(StoreError::Conflict { .. })), "`Present` fails for an absent key")
}

async fn races(store: Arc<dyn Store>) -> Result<(), Broken> {
    let attempts: Vec<_> = (0..100)
        .map(|n: u32| {
            store.commit(Transaction::new().require("token", Compare::Absent).put("token", n.to_string()))
        })
        .collect();
    let mut won = 0;
    for attempt in attempts {
        won += u32::from(attempt.await.is_ok());
    }
    expect(won == 1, "of 100 commits that require absence exactly one wins")
}

async fn watches(store: &dyn Store) -> Result<(), Broken> {
    let first = store.commit(Transaction::new().put("w/a", "1").put("x", "1")).await?;
    let mut late = store.watch(b"w/", Revision::ZERO)?;
    let mut live = store.watch(b"w/", first)?;
    let second = store.commit(Transaction::new().put("w/b", "2").delete("w/a")).await?;
    let made = |revision, key: &str, value: Option<&'static str>| {
        Some(Event::Change(Change { revision, key: key.into(), value: value.map(Bytes::from) }))
    };
    expect(late.next().await == made(first, "w/a", Some("1")), "a watch begins after its revision")?;
    for watch in [&mut late, &mut live] {
        expect(watch.next().await == made(second, "w/b", Some("2")), "changes come in order")?;
        expect(watch.next().await == made(second, "w/a", None), "a deletion is a change")?;
    }
    Ok(())
}

async fn limits(store: &dyn Store) -> Result<(), Broken> {
    let long = store.commit(Transaction::new().put(vec![b'k'; 5_000], "v")).await;
    expect(matches!(long, Err(StoreError::TooLarge { what: "key", .. })), "a key has a limit")?;
    let big = store.commit(Transaction::new().put("k", vec![0; 5 << 20])).await;
    expect(matches!(big, Err(StoreError::TooLarge { what: "value", .. })), "a value has a limit")
}
