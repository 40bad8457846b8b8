//! All entries below a prefix, read a page at a time, so that no walk holds the index for long.

use crate::{Entry, Store, StoreError};

/// The entries below `prefix` in pages of up to `size`, each read when it is asked for. A failure is the last that comes.
pub fn pages<'s>(
    store: &'s dyn Store,
    prefix: &'s [u8],
    size: usize,
) -> impl Iterator<Item = Result<Vec<Entry>, StoreError>> + 's {
    let mut after: Option<Vec<u8>> = None;
    let mut is_over = false;
    std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let page = store.range(prefix, after.as_deref(), size);
        is_over = page.as_ref().map_or(true, |page| page.len() < size);
        if let Ok(page) = &page {
            after = Some(page.last()?.key.to_vec());
        }
        Some(page)
    })
}

/// All of them at once, read in pages of `size`.
///
/// # Errors
/// As [`Store::range`].
pub fn all(store: &dyn Store, prefix: &[u8], size: usize) -> Result<Vec<Entry>, StoreError> {
    let mut all = Vec::new();
    for page in pages(store, prefix, size) {
        all.extend(page?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Memory, Transaction};

    #[tokio::test]
    async fn pages_follow_each_other_and_end() {
        let store = Memory::new();
        let keys = ["a", "b/1", "b/2", "b/3", "b/4", "c"];
        store.commit(keys.iter().fold(Transaction::new(), |all, key| all.put(*key, *key))).await.unwrap();
        let sizes = |size| pages(&*store, b"b/", size).map(|page| page.unwrap().len()).collect::<Vec<_>>();
        assert_eq!(sizes(3), [3, 1]);
        assert_eq!(sizes(4), [4], "a full last page is followed by nothing");
        assert_eq!(sizes(9), [4]);
        assert_eq!(pages(&*store, b"x", 3).count(), 0);
        let found = all(&*store, b"b/", 2).unwrap();
        assert!(found.iter().map(|entry| &*entry.key).eq(keys[1..5].iter().map(|key| key.as_bytes())));
    }
}
