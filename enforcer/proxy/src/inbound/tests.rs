//! What a connection and a call weigh while they wait (MM-01).

use super::*;

fn size<A, F: Future>(_: impl FnOnce(A) -> F) -> usize {
    size_of::<F>()
}

/// The marks of MM-01 are 1.5 KiB for an idle connection, which holds, and 2 KiB for a stream, which is yet to come.
#[test]
fn mm_01_hot_futures_stay_small() {
    type Parts = (Arc<Worker>, Arc<Listening>, Accepted);
    let idle = size(|(worker, listening, accepted): Parts| connection(worker, listening, accepted));
    assert!((512..=1536).contains(&idle), "an idle connection: {idle}");
    let (h1, h2) = (h1::tests::size_of_call(), h2::tests::size_of_call());
    assert!((1024..=3456).contains(&h1), "a call over http/1: {h1} (http/2: {h2})");
    assert!((1024..=3072).contains(&h2), "a call over http/2: {h2}");
}
