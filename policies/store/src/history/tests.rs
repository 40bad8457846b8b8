//! One policy through its versions.

use super::*;
use crate::{
    Edit,
    changes::tests::{committed, edit},
    testing::{READ, STOP, Site},
};
use proptest::prelude::*;

#[tokio::test]
async fn history_and_blame_follow_a_policy_through_edits_moves_removal_and_return() {
    let site = Site::new(&[]);
    let store = site.start_without_dir().await;
    let commented = format!("// Who reads orders.\n{READ}");
    let refunds = commented.replace("shop.Orders/Get", "shop.Orders/Refund");
    let both = format!("{STOP}\n{refunds}");
    let gone = |file: &str| Edit { file: file.to_owned(), text: None };
    committed(&store, vec![edit("orders.cedar", READ)]).await; // 2
    committed(&store, vec![edit("other.cedar", "// nothing")]).await; // 3
    committed(&store, vec![edit("orders.cedar", &commented)]).await; // 4
    committed(&store, vec![edit("orders.cedar", &refunds)]).await; // 5
    committed(&store, vec![gone("orders.cedar"), edit("all.cedar", &both)]).await; // 6
    store.activate(6, "bob").await.unwrap();

    let lines = store.blame("orders-read").unwrap();
    let told: Vec<(usize, u64)> = lines.iter().map(|line| (line.line, line.policies)).collect();
    assert_eq!(told, [(5, 4), (6, 2), (7, 2), (8, 2), (9, 2), (10, 5), (11, 2)]);
    assert_eq!(lines[0].text, "// Who reads orders.");
    assert!(lines[5].text.contains("Refund") && lines[5].author == "User::\"corp/ann\"", "{lines:?}");

    committed(&store, vec![gone("all.cedar")]).await; // 7
    committed(&store, vec![edit("orders.cedar", READ)]).await; // 8
    let history = store.history("orders-read").unwrap();
    let told: Vec<(u64, Step, &str)> =
        history.iter().map(|entry| (entry.version.policies, entry.step, entry.file.as_str())).collect();
    assert_eq!(
        told,
        [
            (8, Step::Added, "policies/orders.cedar"),
            (7, Step::Removed, "policies/all.cedar"),
            (6, Step::Moved, "policies/all.cedar"),
            (5, Step::Changed, "policies/orders.cedar"),
            (4, Step::Changed, "policies/orders.cedar"),
            (2, Step::Added, "policies/orders.cedar"),
        ]
    );
    assert_eq!((history[1].text.as_deref(), history[2].line), (None, 5));
    assert!(history[3].text.as_ref().unwrap().starts_with("// Who reads orders.\n@id"));
    assert_eq!(store.blame("orders-read").unwrap(), lines, "what is not in force yet is not blamed");
    store.activate(8, "bob").await.unwrap();
    assert!(store.blame("orders-read").unwrap().iter().all(|line| line.policies == 8));
    assert!(matches!(store.blame("stop"), Err(PolicyStoreError::UnknownPolicy(_))));
    assert!(matches!(store.history("nobody"), Err(PolicyStoreError::UnknownPolicy(_))));
    assert_eq!(store.history("system-probe").unwrap()[0].file, "baseline/system.cedar");
}

/// The length of the longest common subsequence, by trying everything.
fn longest(one: &[&str], two: &[&str]) -> usize {
    match (one.split_first(), two.split_first()) {
        (Some((a, one)), Some((b, two))) if a == b => 1 + longest(one, two),
        (Some((_, rest_one)), Some((_, rest_two))) => longest(rest_one, two).max(longest(one, rest_two)),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn lines_in_common_are_as_many_as_can_be_and_in_order(one in prop::collection::vec("[ab]", 0..8), two in prop::collection::vec("[ab]", 0..8)) {
        let one: Vec<&str> = one.iter().map(String::as_str).collect();
        let two: Vec<&str> = two.iter().map(String::as_str).collect();
        let kept = common(&one, &two);
        let pairs: Vec<(usize, usize)> = kept.iter().enumerate().filter_map(|(j, i)| Some(((*i)?, j))).collect();
        prop_assert!(pairs.iter().all(|(i, j)| one[*i] == two[*j]));
        prop_assert!(pairs.windows(2).all(|pair| pair[0].0 < pair[1].0));
        prop_assert_eq!(pairs.len(), longest(&one, &two));
    }
}
