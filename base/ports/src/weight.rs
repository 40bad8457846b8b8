//! How much the calling thread weighs against others when there is more to do than time.

use std::io;

/// How much less than others a thread weighs that has given way (nice).
const WAY: i32 = 10;

/// Lets other threads of the machine go before the calling one. Cannot be undone without privilege.
///
/// # Errors
/// When the system refuses. Where a thread has no weight of its own, nothing is done.
pub fn give_way() -> io::Result<()> {
    // Linux keeps the weight per thread; elsewhere the call would slow the whole process down.
    if cfg!(target_os = "linux") {
        rustix::process::setpriority_process(None, WAY)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_thread_gives_way_alone() {
        let weight = || rustix::process::getpriority_process(None).unwrap();
        let before = weight();
        std::thread::spawn(move || {
            give_way().unwrap();
            assert!(weight() >= WAY);
        })
        .join()
        .unwrap();
        assert_eq!(weight(), before);
    }
}
