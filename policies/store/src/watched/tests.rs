//! When a directory that keeps changing is read.

use super::{QUIET, RESTLESS, settle};
use tokio::time::{Instant, sleep};

#[tokio::test(start_paused = true)]
async fn a_look_waits_for_quiet_but_not_for_ever() {
    let touched = tokio::sync::Notify::new();
    let touch = |times: u32| {
        let touched = &touched;
        async move {
            for _ in 0..times {
                touched.notify_one();
                sleep(QUIET / 2).await;
            }
        }
    };
    let begun = Instant::now();
    let (_, ended) = tokio::join!(touch(5), async {
        settle(&touched).await;
        begun.elapsed()
    });
    assert_eq!(ended, QUIET / 2 * 4 + QUIET, "quiet begins after the last touch");
    let begun = Instant::now();
    let (_, ended) = tokio::join!(touch(100), async {
        settle(&touched).await;
        begun.elapsed()
    });
    assert_eq!(ended, RESTLESS);
}
